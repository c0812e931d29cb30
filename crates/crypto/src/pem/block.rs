//! The blocks of a PEM file.

use zeroize::Zeroizing;

use crate::encoding::base64;
use crate::pem::PemError;

/// One block, decoded.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// The blocks of a file, one after the other.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    skipped_text: bool,
}

impl<'a> Blocks<'a> {
    pub(super) const fn new(pem: &'a [u8]) -> Self {
        Self {
            rest: pem,
            skipped_text: false,
        }
    }

    /// Whether there was text, and not only white space, before the block returned last or the end.
    pub(super) const fn skipped_text(&self) -> bool {
        self.skipped_text
    }

    pub(super) fn next_block(&mut self) -> Result<Option<Block<'a>>, PemError> {
        self.skipped_text = false;
        while let Some(line) = self.next_line() {
            if let Some(label) = label(line, b"-----BEGIN ") {
                return self.block(label).map(Some);
            }
            self.skipped_text |= !line.is_empty();
        }
        Ok(None)
    }

    fn block(&mut self, begin: &'a str) -> Result<Block<'a>, PemError> {
        let mut headers = Vec::new();
        // As long as anything that follows, so that it does not move and leave a copy.
        let mut body = Zeroizing::new(Vec::with_capacity(self.rest.len()));
        loop {
            let line = self
                .next_line()
                .ok_or(PemError::Malformed("a PEM block has no end"))?;
            if let Some(end) = label(line, b"-----END ") {
                if end != begin {
                    return Err(PemError::Malformed(
                        "a PEM block ends with another type than it begins",
                    ));
                }
                break;
            }
            match header(line) {
                Some(header) if body.is_empty() => headers.push(header),
                _ => body.extend_from_slice(line),
            }
        }
        let der = base64(&body).filter(|der| !der.is_empty());
        let der = der.ok_or(PemError::Malformed("a PEM block is not valid base64"))?;
        Ok(Block {
            label: begin,
            headers,
            der,
        })
    }

    /// The next line without the white space around it.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let mut lines = self.rest.splitn(2, |&byte| byte == b'\n');
        let line = lines.next().unwrap_or_default();
        self.rest = lines.next().unwrap_or_default();
        Some(line.trim_ascii())
    }
}

fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a str> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    str::from_utf8(label).ok()
}

fn header(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = str::from_utf8(line).ok()?.split_once(':')?;
    Some((name.trim(), value.trim()))
}
