//! `kes key`.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_client::{KeyAlgorithm, KeyInfo};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::list::{self, What};
use super::timestamp;
use crate::args::{KeyCommand, KeyOptions};
use crate::connection::{block_on, block_on_explained, client, explain, explain_to_admin};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{Output, harmless};

/// Bytes of a key.
const KEY_SIZE: usize = 32;

pub(crate) fn run(command: KeyCommand, context: &mut Context<'_>) -> Outcome {
    let (KeyCommand::Create { options, .. }
    | KeyCommand::Import { options, .. }
    | KeyCommand::Info { options, .. }
    | KeyCommand::Ls { options, .. }
    | KeyCommand::Rm { options, .. }
    | KeyCommand::Undelete { options, .. }
    | KeyCommand::Encrypt { options, .. }
    | KeyCommand::Decrypt { options, .. }
    | KeyCommand::Dek { options, .. }
    | KeyCommand::List { options, .. }
    | KeyCommand::Delete { options, .. }
    | KeyCommand::Derive { options, .. }) = &command;
    context.warn_about_enclave(options.enclave.as_deref());

    match command {
        KeyCommand::Create { names, options } => create(&names, &options, context),
        KeyCommand::Import { name, key, options } => {
            let key = decode("the key", &key)?;
            if key.len() != KEY_SIZE {
                return Err(anyhow::anyhow!("the key has {} bytes, not {KEY_SIZE}", key.len()).into());
            }
            import(&name, &key, &options, context)
        }
        KeyCommand::Info { name, options, color } => {
            context.set_color(color.when);
            let client = client(&options.connection, context)?;
            let key = block_on(client.describe_key(&name))?;
            print_info(&key, options.json, context.output)
        }
        KeyCommand::Ls {
            pattern,
            options,
            color,
        } => {
            context.set_color(color.when);
            list::list(
                What::Keys,
                pattern.as_deref(),
                options.json,
                &options.connection,
                context,
            )
        }
        KeyCommand::Rm { names, options } => remove(&names, &options, context),
        KeyCommand::Undelete { names, options } => undelete(&names, &options, context),
        KeyCommand::Encrypt {
            name,
            message,
            options,
        } => {
            let client = client(&options.connection, context)?;
            let answer = block_on(client.encrypt(&name, message.as_bytes(), &[]))?;
            print_one("ciphertext", &answer, &options, context.output)
        }
        KeyCommand::Decrypt {
            name,
            ciphertext,
            context: associated,
            options,
        } => {
            let ciphertext = decode("the ciphertext", &ciphertext)?;
            let associated = decode("the context", associated.as_deref().unwrap_or_default())?;
            let client = client(&options.connection, context)?;
            let answer = block_on(client.decrypt(&name, &ciphertext, &associated))?;
            print_one("plaintext", answer.expose_secret(), &options, context.output)
        }
        KeyCommand::Dek {
            name,
            context: associated,
            options,
        } => data_key(&name, associated.as_deref(), &options, context),
        KeyCommand::List { pattern, options } => {
            context.deprecated("kes key list", "use kes key ls");
            let pattern = pattern.as_deref();
            list::list_as_lines(What::Keys, pattern, options.json, &options.connection, context)
        }
        KeyCommand::Delete { name, options } => {
            context.deprecated("kes key delete", "use kes key rm");
            remove(&[name], &options, context)
        }
        KeyCommand::Derive {
            name,
            context: associated,
            options,
        } => {
            context.deprecated("kes key derive", "use kes key dek");
            data_key(&name, associated.as_deref(), &options, context)
        }
    }
}

fn remove(names: &[String], options: &KeyOptions, context: &Context<'_>) -> Outcome {
    let client = client(&options.connection, context)?;
    block_on_explained(async {
        for name in names {
            let deleted = client.delete_key(name).await.map_err(explain);
            say_which(deleted, names, name, "deleted")?;
        }
        Ok(())
    })
}

fn undelete(names: &[String], options: &KeyOptions, context: &Context<'_>) -> Outcome {
    let client = client(&options.connection, context)?;
    block_on_explained(async {
        for name in names {
            let undeleted = client.undelete_key(name).await.map_err(explain_to_admin);
            undeleted.with_context(|| format!("key '{name}' was not brought back"))?;
        }
        Ok(())
    })
}

fn data_key(
    name: &str,
    associated: Option<&str>,
    options: &KeyOptions,
    context: &mut Context<'_>,
) -> Outcome {
    let associated = decode("the context", associated.unwrap_or_default())?;
    let client = client(&options.connection, context)?;
    let data_key = block_on(client.generate(name, &associated))?;
    let plaintext = data_key.plaintext.expose_secret();
    print_data_key(plaintext, &data_key.ciphertext, options, context.output)
}

fn create(names: &[String], options: &KeyOptions, context: &mut Context<'_>) -> Outcome {
    if let [name, key] = names
        && let Some(key) = key_in_place_of_a_name(key)
    {
        context.deprecated("kes key create NAME KEY", "use kes key import");
        return import(name, &key, options, context);
    }
    let client = client(&options.connection, context)?;
    block_on_explained(async {
        for name in names {
            let created = client.create_key(name).await.map_err(explain);
            say_which(created, names, name, "created")?;
        }
        Ok(())
    })
}

/// Adds to the error of one of several keys which one it was: what comes before it in `names` is done, and the rest is not.
fn say_which(outcome: anyhow::Result<()>, names: &[String], name: &str, done: &str) -> anyhow::Result<()> {
    if let [_] = names {
        return outcome;
    }
    outcome.with_context(|| format!("key '{}' was not {done}", harmless(name)))
}

/// What used to be a key to import. No key has such a name, since it ends in `=`.
fn key_in_place_of_a_name(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    (text.len() == 44 && bytes.len() == KEY_SIZE).then_some(bytes)
}

fn import(name: &str, key: &[u8], options: &KeyOptions, context: &Context<'_>) -> Outcome {
    let client = client(&options.connection, context)?;
    block_on(client.import_key(name, key, KeyAlgorithm::Aes256))
}

/// Bytes given as base64. Never quotes them.
fn decode(what: &str, text: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match STANDARD.decode(text) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(_) => bail!("{what} is not valid base64"),
    }
}

fn print_info(key: &KeyInfo, json: bool, output: &mut Output) -> Outcome {
    let KeyInfo {
        name,
        algorithm,
        created_at,
        created_by,
        ..
    } = key;
    if json {
        #[derive(Serialize)]
        struct Info<'a> {
            name: &'a str,
            algorithm: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            created_at: Option<String>,
            created_by: &'a str,
        }
        let algorithm = if algorithm.is_empty() { "AES256" } else { algorithm };
        let created_at = created_at.map(|at| at.format(&Rfc3339)).transpose();
        let created_at = created_at.context("the creation time")?;
        return output.json(
            &Info {
                name,
                algorithm,
                created_at,
                created_by,
            },
            false,
        );
    }
    let created_at = created_at.map(timestamp::local).unwrap_or_default();
    for (label, value) in [
        ("Name", name),
        ("Algorithm", algorithm),
        ("Date", &created_at),
        ("Owner", created_by),
    ] {
        output.line(format!("{label:<11} {value}").trim_end())?;
    }
    Ok(())
}

fn print_one(label: &str, bytes: &[u8], options: &KeyOptions, output: &mut Output) -> Outcome {
    let text = Zeroizing::new(STANDARD.encode(bytes));
    if wants_json(options, output) {
        return print_json(&format!("{{\"{label}\":\"{}\"}}", *text), output);
    }
    output.text(&format!("\n{label}: {}\n", *text))
}

fn print_data_key(plaintext: &[u8], ciphertext: &[u8], options: &KeyOptions, output: &mut Output) -> Outcome {
    let plaintext = Zeroizing::new(STANDARD.encode(plaintext));
    let ciphertext = STANDARD.encode(ciphertext);
    if wants_json(options, output) {
        return print_json(
            &format!(
                "{{\"plaintext\":\"{}\",\"ciphertext\":\"{ciphertext}\"}}",
                *plaintext
            ),
            output,
        );
    }
    output.text(&format!(
        "{{\n  plaintext : {}\n  ciphertext: {ciphertext}\n}}\n",
        *plaintext
    ))
}

fn wants_json(options: &KeyOptions, output: &Output) -> bool {
    options.json || !output.is_terminal()
}

/// Scripts compare these lines byte for byte: into a pipe they have no end.
fn print_json(json: &str, output: &mut Output) -> Outcome {
    if output.is_terminal() {
        output.line(json)
    } else {
        output.text(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Connection;
    use crate::output::testing::output;

    fn options(json: bool) -> KeyOptions {
        KeyOptions {
            json,
            enclave: None,
            connection: Connection::default(),
        }
    }

    fn data_key(is_terminal: bool, json: bool) -> String {
        let (mut output, captured) = output(is_terminal);
        print_data_key(b"a", b"b", &options(json), &mut output).unwrap();
        captured.text()
    }

    #[test]
    fn a_data_key_is_laid_out_for_people_and_compact_for_programs() {
        assert_eq!(
            data_key(true, false),
            "{\n  plaintext : YQ==\n  ciphertext: Yg==\n}\n"
        );
        assert_eq!(
            data_key(false, false),
            r#"{"plaintext":"YQ==","ciphertext":"Yg=="}"#
        );
        assert_eq!(
            data_key(true, true),
            "{\"plaintext\":\"YQ==\",\"ciphertext\":\"Yg==\"}\n"
        );
    }

    #[test]
    fn a_single_value_is_laid_out_likewise() {
        let printed = |is_terminal| {
            let (mut output, captured) = output(is_terminal);
            print_one("ciphertext", b"a", &options(false), &mut output).unwrap();
            captured.text()
        };
        assert_eq!(printed(true), "\nciphertext: YQ==\n");
        assert_eq!(printed(false), r#"{"ciphertext":"YQ=="}"#);
    }

    #[test]
    fn a_key_is_described_in_four_lines_or_one_of_json() {
        let json =
            r#"{"name":"my-key","algorithm":"AES256","created_at":"2024-05-01T00:00:00Z","created_by":"ab"}"#;
        let key: KeyInfo = serde_json::from_str(json).unwrap();
        let printed = |json| {
            let (mut output, captured) = output(true);
            print_info(&key, json, &mut output).unwrap();
            captured.text()
        };
        let text = printed(false);
        assert!(
            text.starts_with("Name        my-key\nAlgorithm   AES256\nDate        2024-"),
            "{text}"
        );
        assert!(text.ends_with("\nOwner       ab\n"), "{text}");
        assert_eq!(
            printed(true),
            "{\"name\":\"my-key\",\"algorithm\":\"AES256\",\"created_at\":\"2024-05-01T00:00:00Z\",\"created_by\":\"ab\"}\n"
        );
    }

    #[test]
    fn only_what_could_not_be_a_name_is_taken_for_a_key() {
        assert!(key_in_place_of_a_name(&STANDARD.encode([7; 32])).is_some());
        for name in [
            "my-key-2",
            &STANDARD.encode([7; 31]),
            &STANDARD.encode([7; 33]),
            &"a".repeat(44),
            "",
        ] {
            assert!(key_in_place_of_a_name(name).is_none(), "{name}");
        }
    }
}
