//! How the live view looks. A pure function: what is known, the time, and the room that there is.

use std::time::Duration;

use kes_client::{Details, Measurements};
use kes_types::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::model::{Interval, Latency, Model, Silence, per_mille, requests};
use crate::commands::timestamp;
use crate::commands::units::{rounded, size, uptime};
use crate::output::harmless;

/// Columns of a section.
const WIDTH: u16 = 36;
/// Columns between two sections.
const GAP: u16 = 4;
/// Lines above the sections.
const HEAD: u16 = 3;

/// The view at one moment.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) model: &'a Model,
    pub(super) now: Timestamp,
    pub(super) colors: bool,
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let area = area.intersection(buffer.area);
        let sections = self.sections();
        let most_important = sections.first().map_or(0, Section::height);
        let (width, height) = (WIDTH, HEAD + most_important);
        if area.width < width || area.height < height {
            let text = format!("Too small: {width}x{height} or more, please");
            Paragraph::new(text)
                .wrap(Wrap { trim: true })
                .render(area, buffer);
            return;
        }
        let body = Rect {
            y: area.y + HEAD,
            height: area.height - HEAD,
            ..area
        };
        let is_complete = self.place(sections, body, buffer);
        self.head(is_complete, area, buffer);
    }
}

/// Figures that belong together.
#[derive(Debug)]
struct Section {
    title: &'static str,
    note: String,
    rows: Vec<Row>,
    /// In which of two columns it stands, if there is room for two.
    column: u16,
}

impl Section {
    /// Its lines, with the title.
    fn height(&self) -> u16 {
        u16::try_from(self.rows.len() + 1).unwrap_or(u16::MAX)
    }
}

#[derive(Debug)]
struct Row {
    label: &'static str,
    value: String,
    note: String,
    style: Style,
}

fn row(label: &'static str, value: impl Into<String>) -> Row {
    Row {
        label,
        value: value.into(),
        note: String::new(),
        style: Style::new(),
    }
}

impl Row {
    fn with(self, note: String) -> Self {
        Self { note, ..self }
    }

    fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl View<'_> {
    /// Puts as many sections into `area` as have room, the most important first. Whether that is all of them.
    fn place(&self, sections: Vec<Section>, area: Rect, buffer: &mut Buffer) -> bool {
        let columns = if area.width >= 2 * WIDTH + GAP { 2 } else { 1 };
        let mut used = [0_u16; 2];
        let mut is_complete = true;
        for section in sections {
            let column = section.column.min(columns - 1);
            let Some(used) = used.get_mut(usize::from(column)) else {
                continue;
            };
            if *used + section.height() > area.height {
                is_complete = false;
                continue;
            }
            let place = Rect {
                x: area.x + column * (WIDTH + GAP),
                y: area.y + *used,
                width: WIDTH,
                height: section.height(),
            };
            self.section(&section, place, buffer);
            *used += section.height() + 1;
        }
        is_complete
    }

    fn head(&self, is_complete: bool, area: Rect, buffer: &mut Buffer) {
        let Model {
            server,
            every,
            last,
            silence,
            ..
        } = self.model;
        let up = if last.up_time.is_zero() {
            String::new()
        } else {
            format!("  up {}", uptime(last.up_time.as_secs()))
        };
        let title = Line::from(vec![
            Span::styled(
                harmless(server),
                self.style(Style::new().add_modifier(Modifier::BOLD)),
            ),
            Span::raw(up),
        ]);
        let state = match silence {
            Some(Silence { since, why }) => {
                let why = harmless(why);
                let text = format!("No answer since {}: {why}", timestamp::time_of_day(*since));
                Line::styled(text, self.color(Color::Red))
            }
            None => {
                let more = if is_complete { "" } else { ", more if larger" };
                Line::raw(format!("every {every:?}, q quits{more}"))
            }
        };
        for (y, line) in (area.y..).zip([title, state]) {
            line.render(Rect { y, height: 1, ..area }, buffer);
        }
    }

    fn section(&self, section: &Section, area: Rect, buffer: &mut Buffer) {
        let title = Line::from(vec![
            Span::styled(
                section.title,
                self.style(Style::new().add_modifier(Modifier::UNDERLINED)),
            ),
            Span::raw(section.note.as_str()),
        ]);
        let rows = section.rows.iter().map(|row| {
            let Row {
                label,
                value,
                note,
                style,
            } = row;
            Line::from(vec![
                Span::raw(format!("  {label:<11} ")),
                Span::styled(format!("{value:>12}"), self.style(*style)),
                Span::raw(format!("  {note:>8}")),
            ])
        });
        for (y, line) in (area.y..area.bottom()).zip(std::iter::once(title).chain(rows)) {
            line.render(Rect { y, height: 1, ..area }, buffer);
        }
    }

    /// All sections, the most important first.
    fn sections(&self) -> Vec<Section> {
        let Measurements {
            request_success,
            request_error,
            request_failure,
            request_active,
            audit_events,
            error_events,
            num_cpu,
            num_cpu_used,
            num_threads,
            mem_heap_used,
            mem_stack_used,
            details,
            ..
        } = &self.model.last;
        let Interval {
            since_start,
            rate,
            average,
            percentiles: [p50, p90, p99],
            keystore,
        } = &self.model.interval;
        let all = requests(&self.model.last);
        let bad = |count: u64| self.color_if(count > 0, Color::Red);
        let section = |title, column, rows| Section {
            title,
            note: String::new(),
            rows,
            column,
        };
        let mut sections = vec![
            section(
                "Requests",
                0,
                vec![
                    share("OK  [2xx]", *request_success, all),
                    share("Err [4xx]", *request_error, all)
                        .styled(self.color_if(*request_error > 0, Color::Yellow)),
                    share("Err [5xx]", *request_failure, all).styled(bad(*request_failure)),
                    row("Req/s", per_second(*rate)),
                    row("Active", request_active.to_string()),
                ],
            ),
            Section {
                note: if *since_start {
                    " since the start".to_owned()
                } else {
                    format!(" of the last {:?}", self.model.every)
                },
                ..section(
                    "Latency",
                    1,
                    vec![
                        row("p50", percentile(*p50)),
                        row("p90", percentile(*p90)),
                        row("p99", percentile(*p99)),
                        row("average", duration(*average)),
                    ],
                )
            },
        ];
        sections.extend(self.keystore(details, *keystore));
        if let Some((hits, misses)) = details.cache_hits.zip(details.cache_misses) {
            let asked = hits.saturating_add(misses);
            let rows = vec![
                share("Hits", hits, asked),
                share("Misses", misses, asked),
                row("Entries", details.cache_entries.unwrap_or_default().to_string()),
            ];
            sections.push(section("Cache", 0, rows));
        }
        let mut system = vec![
            row("Heap", size(*mem_heap_used)),
            row("Stack", size(*mem_stack_used)),
            row("CPUs", format!("{num_cpu_used} of {num_cpu}")),
            row("Threads", num_threads.to_string()),
        ];
        if let Some(expires) = details.certificate_expires {
            let left = expires.saturating_sub(self.now.unix_timestamp());
            let style = self.color_if(left <= 0, Color::Red);
            system.push(row("Certificate", expiry(left)).styled(style));
        }
        sections.push(section("System", 1, system));
        let logs = vec![
            row("Errors", error_events.to_string()),
            row("Audited", audit_events.to_string()),
        ];
        sections.push(section("Log events", 0, logs));
        sections
    }

    fn keystore(&self, details: &Details, latency: Option<Duration>) -> Option<Section> {
        let state = match details.keystore_online? {
            true => row("State", "online").styled(self.color(Color::Green)),
            false => row("State", "unreachable").styled(self.color(Color::Red)),
        };
        let errors = details.keystore_errors.unwrap_or_default();
        Some(Section {
            title: "Key store",
            note: String::new(),
            rows: vec![
                state,
                row("Latency", duration(latency)),
                row(
                    "Requests",
                    details.keystore_requests.unwrap_or_default().to_string(),
                ),
                row("Errors", errors.to_string()).styled(self.color_if(errors > 0, Color::Red)),
            ],
            column: 1,
        })
    }

    /// `style`, unless the output is to be plain.
    fn style(&self, style: Style) -> Style {
        if self.colors { style } else { Style::new() }
    }

    fn color(&self, color: Color) -> Style {
        self.style(Style::new().fg(color))
    }

    fn color_if(&self, condition: bool, color: Color) -> Style {
        if condition {
            self.color(color)
        } else {
            Style::new()
        }
    }
}

/// A count, with its part in all of them.
fn share(label: &'static str, part: u64, whole: u64) -> Row {
    let tenths = per_mille(part, whole);
    row(label, part.to_string()).with(format!("{}.{} %", tenths / 10, tenths % 10))
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 99.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn percentile(latency: Option<Latency>) -> String {
    match latency {
        None => "-".to_owned(),
        Some(Latency::AtMost(bound)) => format!("≤ {bound:?}"),
        Some(Latency::MoreThan(bound)) => format!("> {bound:?}"),
    }
}

fn duration(duration: Option<Duration>) -> String {
    match duration {
        None => "-".to_owned(),
        Some(duration) => {
            let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            format!("{:?}", rounded(nanos))
        }
    }
}

/// How long a certificate is still valid.
fn expiry(seconds: i64) -> String {
    match seconds {
        ..=0 => "expired".to_owned(),
        seconds @ 1..172_800 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use time::macros::datetime;

    use super::*;

    const NOW: Timestamp = datetime!(2024-05-01 10:00:00 UTC);

    fn measured() -> Measurements {
        let mut details = Details::default();
        details.operation_time = vec![
            (Duration::from_micros(100), 5000),
            (Duration::from_micros(2500), 9000),
        ];
        details.operation_time_count = 9990;
        details.cache_hits = Some(8000);
        details.cache_misses = Some(12);
        details.cache_entries = Some(12);
        details.keystore_online = Some(true);
        details.keystore_requests = Some(20);
        details.keystore_errors = Some(0);
        details.keystore_time = Some(Duration::from_millis(25));
        details.certificate_expires = Some(NOW.unix_timestamp() + 30 * 86400 - 1);
        Measurements {
            request_success: 9000,
            request_error: 900,
            request_failure: 100,
            request_active: 3,
            audit_events: 9998,
            error_events: 7,
            response_time_sum: Duration::from_secs(2),
            response_time_count: 10_000,
            up_time: Duration::from_secs(100),
            num_cpu: 8,
            num_cpu_used: 2,
            num_threads: 4,
            mem_heap_used: 3_141_592,
            mem_stack_used: 132_000,
            details,
            ..Measurements::default()
        }
    }

    fn model(measured: Measurements) -> Model {
        Model::new("127.0.0.1:7373".to_owned(), Duration::from_secs(5), measured)
    }

    fn draw(model: &Model, width: u16, height: u16, colors: bool) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let view = View {
            model,
            now: NOW,
            colors,
        };
        terminal
            .draw(|frame| frame.render_widget(view, frame.area()))
            .unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(model: &Model, width: u16, height: u16) -> String {
        let buffer = draw(model, width, height, false);
        let lines = (0..height).map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    #[test]
    fn a_usual_terminal_shows_everything_in_two_columns() {
        assert_eq!(
            text(&model(measured()), 80, 24),
            "\
127.0.0.1:7373  up 1 minute
every 5s, q quits

Requests                                Latency since the start
  OK  [2xx]           9000    90.0 %      p50              ≤ 100µs
  Err [4xx]            900     9.0 %      p90              ≤ 2.5ms
  Err [5xx]            100     1.0 %      p99              > 2.5ms
  Req/s                100                average            200µs
  Active                 3
                                        Key store
Cache                                     State             online
  Hits                8000    99.8 %      Latency            1.3ms
  Misses                12     0.1 %      Requests              20
  Entries               12                Errors                 0

Log events                              System
  Errors                 7                Heap               3.1MB
  Audited             9998                Stack            132.0kB
                                          CPUs              2 of 8
                                          Threads                4
                                          Certificate      29 days"
        );
    }

    #[test]
    fn a_narrow_terminal_has_one_column_and_a_low_one_what_matters_most() {
        let model = model(measured());
        let narrow = text(&model, 40, 40);
        for title in [
            "Requests",
            "Latency",
            "Key store",
            "Cache",
            "System",
            "Log events",
        ] {
            assert!(
                narrow.lines().any(|line| line.starts_with(title)),
                "{title}: {narrow}"
            );
        }
        let low = text(&model, 40, 9);
        assert!(low.contains("Active") && !low.contains("Latency"), "{low}");
        assert!(low.contains("more if larger"), "{low}");
    }

    #[test]
    fn no_terminal_is_too_small_or_too_large_to_be_drawn() {
        let mut models = [model(measured()), model(Measurements::default())];
        let [_, silent] = &mut models;
        silent.failed(
            NOW,
            "a reason that is a good deal longer than the terminal is wide".to_owned(),
        );
        for model in &models {
            for (width, height) in [
                (0, 0),
                (1, 1),
                (0, 9),
                (9, 0),
                (20, 5),
                (35, 99),
                (36, 8),
                (999, 1),
                (200, 50),
                (1000, 60),
            ] {
                draw(model, width, height, true);
            }
        }
        assert_eq!(text(&models[0], 20, 5), "Too small: 36x9 or\nmore, please");
        assert_eq!(text(&models[0], 1, 1), "T");
    }

    #[test]
    fn a_server_that_has_done_and_measures_nothing_has_no_odd_figures() {
        let shown = text(&model(Measurements::default()), 80, 24);
        assert!(!shown.contains("NaN") && !shown.contains("inf"), "{shown}");
        for line in [
            "  OK  [2xx]              0     0.0 %      p50                    -",
            "  Req/s                  -                average                -",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        for absent in ["Cache", "Key store", "Certificate", "up "] {
            assert!(!shown.contains(absent), "{absent}: {shown}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_with_the_old_figures() {
        let mut model = model(measured());
        model.failed(datetime!(2024-05-01 12:34:56 +2), "refused\u{1b}[2J".to_owned());
        let shown = text(&model, 80, 24);
        assert!(
            shown.contains("No answer since 12:34:56: refused [2J\n"),
            "{shown}"
        );
        assert!(shown.contains("9000") && !shown.contains("every"), "{shown}");
    }

    #[test]
    fn colors_tell_good_from_bad_and_can_be_without() {
        let mut measured = measured();
        measured.details.keystore_online = Some(false);
        measured.details.certificate_expires = Some(0);
        let mut model = model(measured);
        let red = |buffer: &Buffer| {
            let cells = buffer.content().iter().filter(|cell| cell.fg == Color::Red);
            cells.map(ratatui::buffer::Cell::symbol).collect::<String>()
        };
        let colored = draw(&model, 80, 24, true);
        let words = red(&colored);
        assert_eq!(
            words.split_whitespace().collect::<Vec<_>>(),
            ["100", "unreachable", "expired"]
        );
        model.failed(NOW, "refused".to_owned());
        assert!(red(&draw(&model, 80, 24, true)).starts_with("No answer since 10:00:00: refused"));
        let plain = draw(&model, 80, 24, false);
        let is_plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.modifier.is_empty();
        assert!(plain.content().iter().all(is_plain));
    }
}
