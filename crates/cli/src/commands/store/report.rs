//! What a backup or a store holds, for people and for programs.

use std::path::Path;

use kes_keystore_embedded::Report;
use serde::Serialize;

use crate::commands::units::size;
use crate::failure::Outcome;
use crate::output::Output;

/// A file that has just been written, with its size in bytes if that is worth saying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) path: &'a Path,
    pub(super) size: Option<u64>,
}

/// Prints one line of a description.
pub(super) fn line(label: &str, value: &str, output: &mut Output) -> Outcome {
    output.line(format!("{label:<11} {value}").trim_end())
}

/// Prints what is in a file.
pub(super) fn print(
    report: &Report,
    written: Option<Written<'_>>,
    json: bool,
    output: &mut Output,
) -> Outcome {
    let Report {
        store_id,
        format,
        keys,
        deleted,
        digest,
    } = report;
    let path = written.map(|written| written.path.display().to_string());
    let bytes = written.and_then(|written| written.size);
    if json {
        #[derive(Serialize)]
        struct Json<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<String>,
            id: &'a str,
            format: u32,
            keys: u64,
            deleted_keys: u64,
            digest: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            size: Option<u64>,
        }
        let json = Json {
            path,
            id: store_id,
            format: *format,
            keys: *keys,
            deleted_keys: *deleted,
            digest,
            size: bytes,
        };
        return output.json(&json, false);
    }
    if let Some(path) = path {
        line("Path", &path, output)?;
    }
    line("Id", store_id, output)?;
    line("Format", &format.to_string(), output)?;
    line("Keys", &keys.to_string(), output)?;
    line("Deleted", &deleted.to_string(), output)?;
    line("Digest", digest, output)?;
    match bytes {
        Some(bytes) => line("Size", &size(bytes), output),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    #[test]
    fn what_a_file_holds_is_said_in_lines_or_in_json() {
        let report = Report {
            store_id: "ab".to_owned(),
            format: 1,
            keys: 3,
            deleted: 2,
            digest: "cd".to_owned(),
        };
        let printed = |written, json| {
            let (mut output, captured) = output(true);
            print(&report, written, json, &mut output).unwrap();
            captured.text()
        };
        let written = Written {
            path: Path::new("out"),
            size: Some(1234),
        };
        assert_eq!(
            printed(None, false),
            "Id          ab\nFormat      1\nKeys        3\nDeleted     2\nDigest      cd\n"
        );
        assert_eq!(
            printed(Some(written), false),
            "Path        out\nId          ab\nFormat      1\nKeys        3\nDeleted     2\nDigest      cd\nSize        1.2kB\n"
        );
        assert_eq!(
            printed(None, true),
            "{\"id\":\"ab\",\"format\":1,\"keys\":3,\"deleted_keys\":2,\"digest\":\"cd\"}\n"
        );
        assert_eq!(
            printed(Some(written), true),
            "{\"path\":\"out\",\"id\":\"ab\",\"format\":1,\"keys\":3,\"deleted_keys\":2,\"digest\":\"cd\",\"size\":1234}\n"
        );
    }
}
