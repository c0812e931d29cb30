//! The error log: one line an event, on standard error and to whoever follows it over HTTP.
//!
//! [`ErrorLog`] is a `tracing` subscriber, so every crate logs with `tracing`'s macros. It never waits: a console that
//! cannot keep up misses lines, which are counted.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use bytes::Bytes;
use kes_types::Clock;
use kes_types::wire::ErrorEvent;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::events::{Console, Events, Overflow};

/// How grave an event is; an event is printed where it is at least as grave as a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub i32);

impl Level {
    /// What helps to find a fault.
    pub const DEBUG: Self = Self(-4);
    /// What happens in the normal course of things.
    pub const INFO: Self = Self(0);
    /// What somebody should look at.
    pub const WARN: Self = Self(4);
    /// What did not work.
    pub const ERROR: Self = Self(8);
    /// As a threshold: nothing.
    pub const OFF: Self = Self(9);

    const fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::ERROR,
            tracing::Level::WARN => Self::WARN,
            tracing::Level::INFO => Self::INFO,
            tracing::Level::DEBUG | tracing::Level::TRACE => Self::DEBUG,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, base) = match self.0 {
            i32::MIN..0 => ("DEBUG", -4),
            0..4 => ("INFO", 0),
            4..8 => ("WARN", 4),
            8.. => ("ERROR", 8),
        };
        match self.0 - base {
            0 => f.write_str(name),
            above => write!(f, "{name}{above:+}"),
        }
    }
}

/// The error log of a process.
#[derive(Debug)]
pub struct ErrorLog {
    events: Events,
    threshold: AtomicI32,
    count: AtomicU64,
    dropped: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl ErrorLog {
    /// An error log that prints to `console` from level INFO on.
    #[must_use]
    pub fn new(console: Arc<Console>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            events: Events::new(console, Overflow::Tell),
            threshold: AtomicI32::new(Level::INFO.0),
            count: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            clock,
        })
    }

    /// Makes this the log of all threads of the process.
    ///
    /// # Errors
    /// When there is one already.
    pub fn install(self: &Arc<Self>) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(Subscriber(Arc::clone(self)))
    }

    /// Prints from `level` on. Followers get everything from INFO on, whatever is printed.
    pub fn set_level(&self, level: Level) {
        self.threshold.store(level.0, Ordering::Relaxed);
    }

    /// The console that the log prints to.
    #[must_use]
    pub fn console(&self) -> &Arc<Console> {
        self.events.console()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Lines that the console could not take.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn is_wanted(&self, level: Level) -> bool {
        level.0 >= self.threshold.load(Ordering::Relaxed)
            || (level >= Level::INFO && self.events.is_followed())
    }

    fn write(&self, level: Level, fields: &str) {
        const TIME: &[BorrowedFormatItem<'_>] =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        let time = self.clock.now().format(TIME).unwrap_or_default();
        let line = format!("time={time} level={level} {fields}");
        if level >= Level::INFO {
            self.count.fetch_add(1, Ordering::Relaxed);
            if self.events.is_followed() {
                let event = ErrorEvent {
                    message: line.clone(),
                };
                if let Ok(mut json) = serde_json::to_vec(&event) {
                    json.push(b'\n');
                    self.events.fan_out(&Bytes::from(json));
                }
            }
        }
        if level.0 >= self.threshold.load(Ordering::Relaxed)
            && !self.events.offer_to_console(format!("{line}\n").as_bytes())
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Subscriber(Arc<ErrorLog>);

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        // What the libraries below have to say is for whoever debugs them.
        metadata.is_event()
            && metadata.target().starts_with("kes")
            && self.0.is_wanted(Level::of(*metadata.level()))
    }

    fn register_callsite(
        &self,
        metadata: &'static tracing::Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        if metadata.is_event() && metadata.target().starts_with("kes") {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0
            .write(Level::of(*event.metadata().level()), &fields.finish());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The fields of an event as `msg="…" key=value`.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn finish(self) -> String {
        format!("msg={}{}", Quoted(&self.message, true), self.others)
    }

    fn push(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            text.clone_into(&mut self.message);
        } else {
            _ = write!(self.others, " {}={}", field.name(), Quoted(text, false));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, &chain(value));
    }
}

/// An error with all its causes on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A text in quotes if it must be, so that a line stays one line whatever a client sends.
struct Quoted<'a>(&'a str, bool);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.1
            && !self.0.is_empty()
            && self
                .0
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'));
        if plain {
            f.write_str(self.0)
        } else {
            f.write_char('"')?;
            for c in self.0.chars() {
                if c == '\'' {
                    f.write_char(c)?
                } else {
                    write!(f, "{}", c.escape_debug())?
                }
            }
            f.write_char('"')
        }
    }
}

#[cfg(test)]
mod tests {
    use kes_types::ManualClock;

    use super::*;

    fn log() -> Arc<ErrorLog> {
        ErrorLog::new(Console::new(), Arc::new(ManualClock::default()))
    }

    #[tokio::test]
    async fn an_event_is_one_line_of_keys_and_values() {
        let log = log();
        let mut follower = log.events().follow();
        tracing::subscriber::with_default(Subscriber(Arc::clone(&log)), || {
            tracing::warn!(target: "kes::test", code = 502, req.path = "/v1/key\n/create", "two\nlines \"quoted\"");
        });
        let event: ErrorEvent = serde_json::from_slice(&follower.recv().await.unwrap()).unwrap();
        assert_eq!(
            event.message,
            r#"time=2024-05-01T00:00:00.000Z level=WARN msg="two\nlines \"quoted\"" code=502 req.path="/v1/key\n/create""#
        );
        assert_eq!(log.count(), 1);
    }

    #[tokio::test]
    async fn followers_hear_what_the_console_does_not_print() {
        let log = log();
        log.set_level(Level::OFF);
        let mut follower = log.events().follow();
        tracing::subscriber::with_default(Subscriber(Arc::clone(&log)), || {
            tracing::debug!(target: "kes::test", "too small");
            tracing::error!(target: "hyper::test", "not ours");
            tracing::info!(target: "kes::test", "heard");
        });
        assert!(String::from_utf8_lossy(&follower.recv().await.unwrap()).contains("heard"));
        assert!(follower.try_recv().is_err());
    }

    #[test]
    fn levels_print_as_the_nearest_lower_name() {
        for (level, text) in [
            (-5, "DEBUG-1"),
            (-4, "DEBUG"),
            (-1, "DEBUG+3"),
            (0, "INFO"),
            (4, "WARN"),
            (9, "ERROR+1"),
        ] {
            assert_eq!(Level(level).to_string(), text);
        }
    }
}
