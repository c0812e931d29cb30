//! Levels of the console logs.

use std::fmt;

/// The least level that a log prints. Events have levels of their own: the higher, the more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogLevel(i32);

/// A text that is no log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be `on`, `off`, `debug`, `info`, `warn`, `error`, one of these four with `+N` or `-N`, or an integer"
)]
pub struct BadLevel;

impl LogLevel {
    /// What helps a developer.
    pub const DEBUG: Self = Self(-4);
    /// What an operator may want to know. Every audit event has this level.
    pub const INFO: Self = Self(0);
    /// What an operator should look at.
    pub const WARN: Self = Self(4);
    /// What failed.
    pub const ERROR: Self = Self(8);
    /// Above everything, so that nothing is printed.
    pub const OFF: Self = Self(9);

    /// Reads a level: a name, a name with an offset, an integer, or a switch. Blanks around it and case do not matter.
    ///
    /// # Errors
    /// When it is none of these, or past the range of 32 bits.
    pub fn parse(text: &str) -> Result<Self, BadLevel> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "on" | "true" => return Ok(Self::INFO),
            "off" | "false" => return Ok(Self::OFF),
            _ => {}
        }
        if let Ok(number) = text.parse() {
            return Ok(Self(number));
        }
        let (name, offset) = match text.find(['+', '-']) {
            Some(at) => text.split_at(at),
            None => (text.as_str(), "+0"),
        };
        let base = match name {
            "debug" => Self::DEBUG,
            "info" => Self::INFO,
            "warn" => Self::WARN,
            "error" => Self::ERROR,
            _ => return Err(BadLevel),
        };
        let offset: i32 = offset.parse().map_err(|_| BadLevel)?;
        base.0.checked_add(offset).map(Self).ok_or(BadLevel)
    }

    /// The level as a number, in steps of four between the named ones.
    #[must_use]
    pub const fn as_i32(self) -> i32 {
        self.0
    }

    /// Whether an event of level `event` is printed.
    #[must_use]
    pub const fn prints(self, event: Self) -> bool {
        event.0 >= self.0
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, base) = match self.0 {
            ..0 => ("DEBUG", Self::DEBUG),
            0..4 => ("INFO", Self::INFO),
            4..8 => ("WARN", Self::WARN),
            8.. => ("ERROR", Self::ERROR),
        };
        match i64::from(self.0) - i64::from(base.0) {
            0 => f.write_str(name),
            offset => write!(f, "{name}{offset:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_are_names_offsets_numbers_and_switches() {
        for (text, value, shown) in [
            ("on", 0, "INFO"),
            (" True ", 0, "INFO"),
            ("OFF", 9, "ERROR+1"),
            ("false", 9, "ERROR+1"),
            ("debug", -4, "DEBUG"),
            ("Info", 0, "INFO"),
            ("WARN", 4, "WARN"),
            ("error", 8, "ERROR"),
            ("info+2", 2, "INFO+2"),
            ("WARN-1", 3, "INFO+3"),
            ("-1", -1, "DEBUG+3"),
            ("-6", -6, "DEBUG-2"),
            ("12", 12, "ERROR+4"),
        ] {
            let level = LogLevel::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(
                (level.as_i32(), level.to_string().as_str()),
                (value, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_no_level() {
        for bad in [
            "",
            "warning",
            "info + 2",
            "info+",
            "info+-1",
            "info++1",
            "1.5",
            "2147483648",
            "error+2147483647",
            "yes",
        ] {
            assert_eq!(LogLevel::parse(bad), Err(BadLevel), "{bad}");
        }
    }

    #[test]
    fn an_event_is_printed_from_its_threshold_on() {
        assert!(LogLevel::INFO.prints(LogLevel::WARN) && LogLevel::INFO.prints(LogLevel::INFO));
        assert!(!LogLevel::INFO.prints(LogLevel::DEBUG) && !LogLevel::OFF.prints(LogLevel::ERROR));
    }

    proptest! {
        #[test]
        fn a_level_reads_back_as_printed(number in any::<i32>()) {
            let level = LogLevel(number);
            let printed = level.to_string();
            prop_assert_eq!(LogLevel::parse(&number.to_string()), Ok(level));
            prop_assert_eq!(LogLevel::parse(&printed), Ok(level));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = LogLevel::parse(&text);
        }
    }
}
