//! `kes store`: looks after a key store that the server keeps itself, over its server or offline.

mod backup;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use kes_client::StoreInfo as ServerStore;
use kes_config::KeyStoreSettings;
use kes_config::keystore::Embedded;
use kes_keystore::{KeyStore as _, Maintenance as _, StoreInfo};
use kes_keystore_embedded::EmbeddedStore;
use kes_seal::{KeySeal, Resealed, Seal, Seals};
use kes_types::wire::StoreSeal;
use serde::Serialize;

use self::report::Written;
use super::offline::{explain, load_keystore};
use super::timestamp;
use crate::args::{Connection, StoreCommand};
use crate::connect;
use crate::connection::{block_on_explained, client, explain_to_admin};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::work;

pub(crate) fn run(command: StoreCommand, context: &mut Context<'_>) -> Outcome {
    match command {
        StoreCommand::Info {
            json,
            color,
            connection,
        } => {
            context.set_color(color.when);
            info(json, &connection, context)
        }
        StoreCommand::Backup(args) => backup::run(args, context),
        StoreCommand::Verify {
            file,
            config,
            seal,
            json,
        } => {
            let seals = seals(config.as_deref(), &seal, context)?;
            verify(&file, seals, json, context.output)
        }
        StoreCommand::Restore { file, config, json } => {
            let settings = embedded(&config, context)?;
            restore(&file, &settings, json, context)
        }
        StoreCommand::Reseal { config, json } => {
            let settings = embedded(&config, context)?;
            reseal(&settings, json, context)
        }
    }
}

fn info(json: bool, connection: &Connection, context: &mut Context<'_>) -> Outcome {
    let client = client(connection, context)?;
    let info = block_on_explained(async { client.store_info().await.map_err(explain_to_admin) })?;
    if json {
        return context.output.json(&info, false);
    }
    print_info(&info, context.output)
}

fn print_info(info: &ServerStore, output: &mut Output) -> Outcome {
    let ServerStore {
        kind,
        location,
        format,
        id,
        seals,
        keys,
        deleted_keys,
        undelete_seconds,
        size,
        last_backup,
        ..
    } = info;
    let deleted = match undelete_seconds {
        0 => deleted_keys.to_string(),
        seconds => format!("{deleted_keys} (kept for {})", period(*seconds)),
    };
    let backup = last_backup.map_or_else(|| "never".to_owned(), timestamp::local);
    report::line("Type", kind, output)?;
    report::line("Path", location, output)?;
    report::line("Format", &format.to_string(), output)?;
    report::line("Id", id, output)?;
    let seals: Vec<_> = seals.iter().map(as_listed).collect();
    print_seals(&seals, output)?;
    report::line("Keys", &keys.to_string(), output)?;
    report::line("Deleted", &deleted, output)?;
    report::line("Size", &super::units::size(*size), output)?;
    report::line("Backup", &backup, output)
}

fn as_listed(seal: &kes_client::StoreSeal) -> StoreSeal {
    StoreSeal {
        kind: seal.kind.clone(),
        check: seal.check.clone(),
        source: seal.source.clone(),
    }
}

fn print_seals(seals: &[StoreSeal], output: &mut Output) -> Outcome {
    seals.iter().enumerate().try_for_each(|(place, seal)| {
        let StoreSeal { kind, check, source } = seal;
        let source = source.as_deref().unwrap_or("not in the configuration");
        let label = if place == 0 { "Seal" } else { "" };
        report::line(label, &format!("{kind} {check} ({source})"), output)
    })
}

/// A time in the largest unit that gives a whole number.
fn period(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (count, unit) = UNITS
        .iter()
        .find(|(length, _)| seconds.is_multiple_of(*length))
        .map_or((seconds, "second"), |(length, unit)| (seconds / length, *unit));
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The settings of the embedded key store of a configuration, of which nothing else need be right.
fn embedded(config: &Path, context: &Context<'_>) -> Outcome<Embedded> {
    match load_keystore(config, context)? {
        KeyStoreSettings::Embedded(embedded) => Ok(embedded),
        other => Err(anyhow!(
            "{}: keystore.{} is configured, but this command is for keystore.embedded",
            config.display(),
            other.kind()
        )
        .into()),
    }
}

/// The seals that a configuration lists, or that lie in `files`.
fn seals(config: Option<&Path>, files: &[PathBuf], context: &Context<'_>) -> Outcome<Seals> {
    if let Some(config) = config {
        return Ok(connect::seals(&embedded(config, context)?.seals)?);
    }
    if files.is_empty() {
        return Err(Failure::Usage(
            "no seal: name the configuration of the server by --config FILE, or the file of the seal by --seal FILE"
                .to_owned(),
        ));
    }
    let seal = |file: &PathBuf| Ok(Arc::new(KeySeal::from_file(file).context("--seal")?) as Arc<dyn Seal>);
    files.iter().map(seal).collect()
}

fn verify(file: &Path, seals: Seals, json: bool, output: &mut Output) -> Outcome {
    let progress = Progress::counting("keys");
    let counter = Arc::new(progress.counter());
    let verified = work::run(async |interrupt| {
        interrupt
            .or(kes_keystore_embedded::verify(file, &seals, counter))
            .await
    });
    progress.finish();
    let verified = verified?.map_err(|error| {
        explain(
            error.into(),
            "stop it first, or verify a backup of it, which `kes store backup` makes",
        )
    })?;
    report::print(&verified, None, json, output)
}

fn restore(file: &Path, settings: &Embedded, json: bool, context: &mut Context<'_>) -> Outcome {
    let config = connect::embedded_config(settings)?;
    let progress = Progress::counting("keys");
    let counter = Arc::new(progress.counter());
    let clock = Arc::clone(&context.clock);
    let restored = work::run(async |interrupt| {
        interrupt
            .or(kes_keystore_embedded::restore(file, config, clock, counter))
            .await
    });
    progress.finish();
    let written = Written {
        path: &settings.path,
        size: None,
    };
    report::print(&restored??, Some(written), json, context.output)
}

/// Brings the seals of a store that no server has open into line with the configuration: adds first, then drops.
fn reseal(settings: &Embedded, json: bool, context: &mut Context<'_>) -> Outcome {
    let config = connect::embedded_config(settings)?;
    let clock = Arc::clone(&context.clock);
    let info = work::run(async |interrupt| {
        let seals = config.seals.clone();
        let opened = interrupt.or(EmbeddedStore::open(config, clock)).await?;
        let store = opened.map_err(|error| {
            explain(
                error.into(),
                "send that one a SIGHUP, and it reseals the key store itself, or stop it first",
            )
        })?;
        // Each step is one commit, and opening was one. Two are all that it can take.
        let resealed = async {
            while store.reconfigure(seals.clone(), settings.undelete).await? != Resealed::Unchanged {}
            anyhow::Ok(store.info().await?)
        };
        let resealed = interrupt.or(resealed).await;
        store.close().await;
        Ok(resealed??)
    })?;
    print_resealed(&info, json, context.output)
}

fn print_resealed(info: &StoreInfo, json: bool, output: &mut Output) -> Outcome {
    let seals: Vec<_> = info
        .seals
        .iter()
        .map(|seal| StoreSeal {
            kind: seal.kind.clone(),
            check: seal.check.clone(),
            source: seal.source.clone(),
        })
        .collect();
    if json {
        #[derive(Serialize)]
        struct Sealed<'a> {
            location: &'a str,
            id: &'a str,
            seals: &'a [StoreSeal],
        }
        let sealed = Sealed {
            location: &info.location,
            id: &info.id,
            seals: &seals,
        };
        return output.json(&sealed, false);
    }
    report::line("Path", &info.location, output)?;
    report::line("Id", &info.id, output)?;
    print_seals(&seals, output)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::output::testing::output;

    fn info_of_a_store() -> ServerStore {
        let json = r#"{"type":"embedded","location":"/var/lib/kes/keys.redb","format":1,
            "id":"00112233445566778899aabbccddeeff","seals":[
                {"kind":"key","check":"0011223344556677","source":"file /etc/kes/seal.key"},
                {"kind":"key","check":"8899aabbccddeeff"}],
            "keys":3,"deleted_keys":1,"undelete_seconds":604800,"size":1589248}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_store_is_described_line_by_line() {
        let printed = |info: &ServerStore| {
            let (mut output, captured) = output(true);
            print_info(info, &mut output).unwrap();
            captured.text()
        };
        let mut info = info_of_a_store();
        assert_eq!(
            printed(&info),
            "Type        embedded\n\
             Path        /var/lib/kes/keys.redb\n\
             Format      1\n\
             Id          00112233445566778899aabbccddeeff\n\
             Seal        key 0011223344556677 (file /etc/kes/seal.key)\n\
             \x20           key 8899aabbccddeeff (not in the configuration)\n\
             Keys        3\n\
             Deleted     1 (kept for 7 days)\n\
             Size        1.5MB\n\
             Backup      never\n"
        );
        info.undelete_seconds = 0;
        info.last_backup = Some(datetime!(2024-05-01 12:00:00 UTC));
        let text = printed(&info);
        assert!(
            text.contains("Deleted     1\n") && text.contains("Backup      2024-0"),
            "{text}"
        );
    }

    #[test]
    fn a_period_is_a_whole_number_of_something() {
        for (seconds, want) in [
            (604_800, "7 days"),
            (86_400, "1 day"),
            (90_000, "25 hours"),
            (60, "1 minute"),
            (61, "61 seconds"),
        ] {
            assert_eq!(period(seconds), want);
        }
    }

    #[test]
    fn a_store_that_was_resealed_shows_its_seals() {
        let info = StoreInfo {
            kind: "embedded",
            location: "keys.redb".to_owned(),
            format: 1,
            id: "ab".to_owned(),
            seals: vec![kes_keystore::SealInfo {
                kind: "key".to_owned(),
                check: "cd".to_owned(),
                source: Some("file new.key".to_owned()),
            }],
            keys: 1,
            deleted: 0,
            undelete: std::time::Duration::ZERO,
            size: 1,
            last_backup: None,
        };
        let printed = |json| {
            let (mut output, captured) = output(true);
            print_resealed(&info, json, &mut output).unwrap();
            captured.text()
        };
        assert_eq!(
            printed(false),
            "Path        keys.redb\nId          ab\nSeal        key cd (file new.key)\n"
        );
        assert_eq!(
            printed(true),
            "{\"location\":\"keys.redb\",\"id\":\"ab\",\"seals\":[{\"kind\":\"key\",\"check\":\"cd\",\"source\":\"file new.key\"}]}\n"
        );
    }
}
