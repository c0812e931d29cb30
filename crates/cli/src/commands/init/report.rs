//! What is said about a folder that has been set up.

use std::borrow::Cow;
use std::path::Path;

use anstyle::Style;
use kes_crypto::ApiKey;
use kes_types::Timestamp;

use super::Hosts;
use super::folder::Names;
use crate::failure::Outcome;
use crate::output::Output;

/// The name of the key that MinIO Server makes for itself.
const MINIO_KEY: &str = "minio-default-key";

/// What is said about a folder that has been set up.
pub(super) struct Report<'a> {
    pub(super) names: &'a Names,
    pub(super) endpoint: String,
    pub(super) hosts: &'a Hosts,
    /// When the certificate ends.
    pub(super) until: Timestamp,
    pub(super) api_key: &'a ApiKey,
}

impl Report<'_> {
    /// Prints it, the API key once.
    pub(super) fn print(&self, output: &mut Output) -> Outcome {
        let Self {
            names,
            endpoint,
            hosts,
            until,
            api_key,
        } = self;
        let bold = Style::new().bold();
        let hosts: Vec<_> = hosts
            .dns
            .iter()
            .cloned()
            .chain(hosts.ip.iter().map(ToString::to_string))
            .collect();
        for (label, value) in [
            ("Folder", shown(&names.folder)),
            ("Config", shown(&names.config)),
            ("Keys", shown(&names.store)),
            ("Seal", shown(&names.seal)),
            ("Certificate", shown(&names.certificate)),
            (
                "",
                format!("until {} for {}", until.date(), hosts.join(", ")).into(),
            ),
            ("Admin", api_key.identity().as_str().into()),
        ] {
            let label = format!("{label:<12}");
            let label = if label.trim().is_empty() {
                label
            } else {
                output.paint(bold, &label)
            };
            output.line(&format!("{label}{value}"))?;
        }

        output.line(&format!(
            "\nBack up {} (by `kes store backup FILE` while the server runs) and {}, but apart from\n\
             each other: whoever has both has all keys, and without the seal nobody has any.\n\n\
             For the administrator's commands, paste this into a shell. The API key in it is shown this once and is stored\n\
             nowhere, so keep it:\n",
            file_name(&names.store),
            file_name(&names.seal)
        ))?;
        let endpoint = shell_word(endpoint);
        let certificate = shell_word(&names.certificate.to_string_lossy()).into_owned();
        let secret = api_key.to_secret_text();
        // In pieces, so that no copy of the key stays behind.
        output.text(&format!("export KES_SERVER={endpoint} KES_API_KEY="))?;
        output.text(&secret)?;
        output.line(&format!(" MINIO_KMS_KES_CAPATH={certificate}"))?;
        output.line(
            "\nFor a MinIO Server that encrypts all it stores, paste these, too, into the shell that starts it:\n",
        )?;
        for line in [
            format!("MINIO_KMS_KES_ENDPOINT={endpoint}"),
            "MINIO_KMS_KES_API_KEY=\"$KES_API_KEY\"".to_owned(),
            format!("MINIO_KMS_KES_CAPATH={certificate}"),
            format!("MINIO_KMS_KES_KEY_NAME={MINIO_KEY}"),
            "MINIO_KMS_AUTO_ENCRYPTION=on".to_owned(),
        ] {
            output.line(&format!("export {line}"))?;
        }
        Ok(())
    }
}

fn shown(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// A text as one word of a shell.
pub(super) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        assert_eq!(shell_word("https://127.0.0.1:7373"), "https://127.0.0.1:7373");
        for word in [
            "",
            "a b",
            "it's",
            "$HOME `x` \\ \"q\" *",
            "a\nb",
            "~",
            "#",
            "https://[::1]:7373",
            "ä",
            "''",
        ] {
            let script = format!("printf %s {}", shell_word(word));
            let printed = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), word);
        }
    }
}
