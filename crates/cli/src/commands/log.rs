//! `kes log`.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use kes_client::{AuditEvent, AuditRequest, Client};
use kes_config::duration;
use time::macros::format_description;

use super::metric;
use super::units::rounded;
use crate::args::{self, Connection, LogArgs, LogTraceArgs};
use crate::connection::{client, explain};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::following::{follow, somebody_reads};
use crate::output::{Output, harmless};

/// How often `kes log trace` asked a server for its metrics.
const TRACE_RATE: Duration = Duration::from_secs(3);

/// One of a server's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    Audit,
    Error,
}

pub(crate) fn run(args: LogArgs, context: &mut Context<'_>) -> Outcome {
    let LogArgs {
        audit,
        error,
        json,
        color,
        connection,
    } = args;
    context.set_color(color.when);
    let log = match (audit, error) {
        (Some(true), true) => {
            return Err(Failure::Usage(format!(
                "'--audit' cannot be used with '--error'; see '{} log --help'",
                args::program()
            )));
        }
        (Some(false), false) => return Err(Failure::NoCommand(args::help(&["log"]))),
        (_, true) => Log::Error,
        (_, false) => Log::Audit,
    };
    show(log, json, &connection, context)
}

/// `kes log trace`, which printed JSON into a pipe.
pub(crate) fn trace(args: LogTraceArgs, context: &mut Context<'_>) -> Outcome {
    let LogTraceArgs {
        kind,
        rate,
        json,
        connection,
    } = args;
    let json = json || !context.output.is_terminal();
    match kind.as_str() {
        "metric" => {
            context.deprecated("kes log trace", "use kes metric");
            metric::show(rate.unwrap_or(TRACE_RATE), json, &connection, context)
        }
        "error" => {
            context.deprecated("kes log trace", "use kes log --error");
            show(Log::Error, json, &connection, context)
        }
        _ => {
            context.deprecated("kes log trace", "use kes log");
            show(Log::Audit, json, &connection, context)
        }
    }
}

/// Shows what is logged from now on.
pub(crate) fn show(log: Log, json: bool, connection: &Connection, context: &mut Context<'_>) -> Outcome {
    let client = client(connection, context)?;
    let output = &mut *context.output;
    follow(async {
        match log {
            Log::Audit => show_audit(&client, json, output).await,
            Log::Error => show_errors(&client, json, output).await,
        }
    })
}

async fn show_audit(client: &Client, json: bool, output: &mut Output) -> Outcome {
    let mut events = client.audit_log().await.map_err(explain)?;
    if !json {
        let header = output.paint(Style::new().underline(), HEADER);
        output.line(&header)?;
    }
    while let Some(event) = events.next().await.map_err(explain)? {
        somebody_reads().await?;
        if json {
            output.json(&event, false)?;
        } else {
            let row = row(&event, output);
            output.line(&row)?;
        }
    }
    Ok(())
}

async fn show_errors(client: &Client, json: bool, output: &mut Output) -> Outcome {
    let mut events = client.error_log().await.map_err(explain)?;
    while let Some(event) = events.next().await.map_err(explain)? {
        somebody_reads().await?;
        if json {
            output.json(&event, false)?;
        } else {
            output.line(&harmless(&event.message))?;
        }
    }
    Ok(())
}

const HEADER: &str =
    "Time      Status  Identity              IP               API                             Latency";

/// An event under the columns of [`HEADER`].
fn row(event: &AuditEvent, output: &Output) -> String {
    let AuditEvent {
        time,
        request: AuditRequest {
            ip, path, identity, ..
        },
        response,
        ..
    } = event;
    let time = time
        .format(format_description!("[hour]:[minute]:[second]"))
        .unwrap_or_default();
    let color = if response.code == 200 {
        AnsiColor::Green
    } else {
        AnsiColor::Red
    };
    let status = output.paint(color.on_default(), &format!("{:<5}", response.code));
    let known = |text: &str| {
        if text.is_empty() {
            "<unknown>".to_owned()
        } else {
            harmless(text)
        }
    };
    let latency = duration::format(rounded(response.time));
    format!(
        "{time}  {status}   {:<20.20}  {:<15}  {:<30}  {latency}",
        known(identity),
        known(ip),
        harmless(path)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    #[test]
    fn an_event_is_a_row_under_the_header() {
        let json = r#"{"time":"2024-05-01T23:30:01.5+02:00","request":{"ip":"127.0.0.1","method":"PUT",
            "path":"/v1/key/create/my-key","identity":"3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22"},
            "response":{"code":200,"time":1234567}}"#;
        let mut event: AuditEvent = serde_json::from_str(json).unwrap();
        let (output, _) = output(true);
        let shown = row(&event, &output);
        assert_eq!(
            shown,
            "23:30:01  200     3ecfcdf38fcbe141ae26  127.0.0.1        /v1/key/create/my-key           1.2ms"
        );
        for column in ["3ecf", "127", "/v1", "1.2"]
            .iter()
            .zip(["Identity", "IP", "API", "Latency"])
        {
            assert_eq!(shown.find(column.0), HEADER.find(column.1), "{column:?}");
        }

        event.request = AuditRequest::default();
        event.request.path = "/v1/\u{1b}[2Jkey\n".to_owned();
        assert_eq!(
            row(&event, &output),
            "23:30:01  200     <unknown>             <unknown>        /v1/ [2Jkey                     1.2ms"
        );
    }
}
