//! What a table of a document consists of.

/// A document that others have published, and every command and configuration in it, in the order in which they are tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document {
    /// What `--only` asks for.
    pub(super) name: &'static str,
    /// Its title, where it is from and of when.
    pub(super) title: &'static str,
    pub(super) rows: &'static [Row],
    /// For a translation: the lines of the original that it has, and where. Rows of other lines are not in it.
    pub(super) lines: Option<&'static [(u32, u32)]>,
}

impl Document {
    /// The rows that the document has, with the number of the line in it.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &'static Row)> {
        let lines = self.lines;
        self.rows.iter().filter_map(move |row| {
            let line = match lines {
                None => row.line,
                Some(lines) => lines.iter().find(|(original, _)| *original == row.line)?.1,
            };
            Some((line, row))
        })
    }
}

/// One command or configuration, and what must come out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Where in the document.
    line: u32,
    /// What the document has there, as it prints it; a file by its name.
    pub(super) text: &'static str,
    pub(super) way: Way,
    /// What is printed on the terminal, as a [`super::pattern`]. Nothing, for `kes`, if nothing is said; not looked at, for others.
    pub(super) prints: Option<&'static str>,
    /// The same for what is said on the other output.
    pub(super) says: Option<&'static str>,
    /// Whether the command has to fail, with status 1.
    pub(super) fails: bool,
    /// Scripts that are run afterwards, and what they print.
    pub(super) then: &'static [(&'static str, &'static str)],
}

/// How a row is tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Typed on a terminal, as it is printed.
    Typed,
    /// Typed on another terminal, as it is printed, for a server that is ready when this port is open.
    Serves(u16),
    /// Something else is typed, for this reason.
    Instead { script: &'static str, why: &'static str },
    /// The same for a server.
    InsteadServes {
        script: &'static str,
        port: u16,
        why: &'static str,
    },
    /// Written to a file. What the document tells its reader to put in is in the pairs.
    File {
        path: &'static str,
        content: &'static str,
        fill: &'static [(&'static str, &'static str)],
    },
    /// A service that the document takes for granted.
    Service(Service),
    /// Cannot be tried here, for this reason.
    NotHere(&'static str),
}

/// What others run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// AWS at the addresses that it has, which asks for credentials and follows IAM policies.
    Aws,
    /// Vault on port 8200, with the certificate that the document makes for it.
    Vault,
}

/// A command that is typed.
pub(super) const fn row(line: u32, text: &'static str) -> Row {
    Row {
        line,
        text,
        way: Way::Typed,
        prints: None,
        says: None,
        fails: false,
        then: &[],
    }
}

/// A configuration or another file.
pub(super) const fn file(line: u32, path: &'static str, content: &'static str) -> Row {
    let mut row = row(line, path);
    row.way = Way::File {
        path,
        content,
        fill: &[],
    };
    row
}

/// A service.
pub(super) const fn service(line: u32, text: &'static str, service: Service) -> Row {
    let mut row = row(line, text);
    row.way = Way::Service(service);
    row
}

impl Row {
    /// It is a server, which opens this port.
    pub(super) const fn serves(mut self, port: u16) -> Self {
        self.way = match self.way {
            Way::Instead { script, why } => Way::InsteadServes { script, port, why },
            _ => Way::Serves(port),
        };
        self
    }

    /// Something else has to be typed here.
    pub(super) const fn instead(mut self, script: &'static str, why: &'static str) -> Self {
        self.way = Way::Instead { script, why };
        self
    }

    /// It cannot be tried here.
    pub(super) const fn not_here(mut self, because: &'static str) -> Self {
        self.way = Way::NotHere(because);
        self
    }

    /// What the reader of a file is told to put in: texts of the file, and shell words in their place.
    pub(super) const fn fill(mut self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        if let Way::File { path, content, .. } = self.way {
            self.way = Way::File {
                path,
                content,
                fill: pairs,
            };
        }
        self
    }

    pub(super) const fn prints(mut self, pattern: &'static str) -> Self {
        self.prints = Some(pattern);
        self
    }

    pub(super) const fn says(mut self, pattern: &'static str) -> Self {
        self.says = Some(pattern);
        self
    }

    pub(super) const fn fails(mut self) -> Self {
        self.fails = true;
        self
    }

    pub(super) const fn then(mut self, checks: &'static [(&'static str, &'static str)]) -> Self {
        self.then = checks;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{documents::ALL, pattern};
    use super::*;

    #[test]
    fn a_row_says_how_it_is_tried_or_why_it_is_not() {
        for document in ALL {
            for row in document.rows {
                let said = match row.way {
                    Way::Typed | Way::Serves(_) => row.text,
                    Way::Instead { script, why } | Way::InsteadServes { script, why, .. } => {
                        assert!(!script.trim().is_empty(), "{row:?}");
                        assert_ne!(script, row.text, "{row:?}");
                        why
                    }
                    Way::File { content, .. } => content,
                    Way::Service(_) => row.text,
                    Way::NotHere(because) => {
                        assert!(
                            row.prints.is_none() && row.says.is_none() && row.then.is_empty(),
                            "{row:?}"
                        );
                        because
                    }
                };
                assert!(
                    said.trim().len() > 4 && !row.text.is_empty() && row.line > 0,
                    "{row:?}"
                );
            }
        }
    }

    #[test]
    fn a_file_has_what_is_to_be_filled_in() {
        for row in ALL.iter().flat_map(|document| document.rows) {
            if let Way::File { content, fill, .. } = row.way {
                for (text, _) in fill {
                    assert!(content.contains(text), "{}: {text}", row.text);
                }
            }
        }
    }

    #[test]
    fn a_translation_has_lines_of_its_original() {
        for document in ALL {
            for (original, line) in document.lines.into_iter().flatten() {
                assert!(
                    document.rows.iter().any(|row| row.line == *original),
                    "{original}"
                );
                assert!(document.rows().any(|(number, _)| number == *line), "{line}");
            }
        }
    }

    #[test]
    fn expectations_can_be_read() {
        for row in ALL.iter().flat_map(|document| document.rows) {
            for expected in row
                .then
                .iter()
                .map(|(_, prints)| *prints)
                .chain(row.prints)
                .chain(row.says)
            {
                pattern::check(expected).unwrap_or_else(|error| panic!("{}: {error}", row.text));
            }
        }
    }

    #[test]
    fn documents_have_names_of_their_own() {
        for (index, document) in ALL.iter().enumerate() {
            assert!(
                ALL.iter()
                    .skip(index + 1)
                    .all(|other| other.name != document.name)
            );
            assert!(!document.title.is_empty() && document.rows().count() > 0);
        }
    }
}
