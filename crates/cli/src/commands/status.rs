//! `kes status`.

mod health;

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use kes_client::{Endpoint, Route, Status};
use serde::Serialize;

use super::units::{size, uptime};
use crate::args::StatusArgs;
use crate::connection::{block_on, client};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::Output;

pub(crate) fn run(args: StatusArgs, context: &mut Context<'_>) -> Outcome {
    let StatusArgs {
        short,
        api,
        json,
        health,
        color,
        connection,
    } = args;
    context.set_color(color.when);
    if let Some(address) = health {
        return health::run(&address, context.output);
    }
    let client = client(&connection.into(), context)?;
    let clock = context.clock.clone();
    let (status, latency, routes) = block_on(async {
        let start = clock.monotonic();
        let status = client.status().await?;
        let latency = clock.monotonic().since(start);
        let routes = if api { Some(client.api().await?) } else { None };
        Ok((status, latency, routes))
    })?;
    let mut routes = routes;
    if let Some(routes) = &mut routes {
        routes.sort_by(|a, b| a.path.cmp(&b.path));
    }
    if json {
        return print_json(&status, routes.as_deref(), short, context.output);
    }
    let [endpoint, ..] = client.endpoints() else {
        return Ok(());
    };
    print_text(
        endpoint,
        &status,
        latency,
        routes.as_deref(),
        short,
        context.output,
    )
}

fn print_json(status: &Status, routes: Option<&[Route]>, short: bool, output: &mut Output) -> Outcome {
    let indent = output.is_terminal() && !short;
    if let Some(routes) = routes {
        return output.json(&routes, indent);
    }
    let Status {
        version,
        os,
        arch,
        uptime,
        num_cpu,
        num_cpu_used,
        mem_heap_used,
        mem_stack_used,
        keystore_latency,
        keystore_unreachable,
        keystore_unavailable,
        ..
    } = status;
    #[derive(Serialize)]
    struct Printed<'a> {
        version: &'a str,
        os: &'a str,
        arch: &'a str,
        uptime: u64,
        num_cpu: u64,
        num_cpu_used: u64,
        mem_heap_used: u64,
        mem_stack_used: u64,
        keystore_latency: u64,
        keystore_unreachable: bool,
        keystore_unavailable: bool,
    }
    let status = Printed {
        version,
        os,
        arch,
        uptime: *uptime,
        num_cpu: *num_cpu,
        num_cpu_used: *num_cpu_used,
        mem_heap_used: *mem_heap_used,
        mem_stack_used: *mem_stack_used,
        keystore_latency: keystore_latency.unwrap_or_default(),
        keystore_unreachable: *keystore_unreachable,
        keystore_unavailable: *keystore_unavailable,
    };
    output.json(&status, indent)
}

fn print_text(
    endpoint: &Endpoint,
    status: &Status,
    latency: Duration,
    routes: Option<&[Route]>,
    short: bool,
    output: &mut Output,
) -> Outcome {
    let is_well = !status.keystore_unreachable && !status.keystore_unavailable;
    let color = if is_well { AnsiColor::Green } else { AnsiColor::Red };
    let dot = output.paint(color.on_default(), "●");
    output.line(&format!("{dot} {endpoint}"))?;
    if !short {
        for (label, value) in [
            ("Version", status.version.clone()),
            ("Uptime", uptime(status.uptime)),
            ("Latency", format!("{}ms", latency.as_millis())),
            ("OS", status.os.clone()),
            ("CPUs", format!("{} {}", status.num_cpu_used, status.arch)),
            ("Memory", String::new()),
            ("· Heap", size(status.mem_heap_used)),
            ("· Stack", size(status.mem_stack_used)),
        ] {
            output.line(format!("  {label:<8} {value}").trim_end())?;
        }
    }
    if status.keystore_unreachable {
        output.line("  The key store is unreachable")?;
    } else if status.keystore_unavailable {
        output.line("  The key store is unavailable")?;
    }
    let Some(routes) = routes else { return Ok(()) };
    let header = format!("{:<7} {:<28} {}", "Method", "API", "Timeout");
    let header = output.paint(Style::new().underline(), &header);
    output.text(&format!("\n{header}\n"))?;
    for Route {
        method,
        path,
        timeout,
        ..
    } in routes
    {
        let timeout = if *timeout == 0 {
            "Inf".to_owned()
        } else {
            format!("{timeout}s")
        };
        output.line(&format!("{method:<7} {path:<28} {timeout}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    fn status() -> Status {
        let json = r#"{"version":"0.1.0","os":"linux","arch":"amd64","uptime":129600,"num_cpu":4,"num_cpu_used":2,
            "mem_heap_used":3141592,"mem_stack_used":900,"keystore_latency":1}"#;
        serde_json::from_str(json).unwrap()
    }

    fn text(status: &Status, routes: Option<&[Route]>, short: bool) -> String {
        let (mut output, captured) = output(true);
        let endpoint = Endpoint::parse("https://127.0.0.1:7373").unwrap();
        print_text(
            &endpoint,
            status,
            Duration::from_millis(7),
            routes,
            short,
            &mut output,
        )
        .unwrap();
        captured.text()
    }

    #[test]
    fn the_state_is_shown_line_by_line() {
        assert_eq!(
            text(&status(), None, false),
            "● 127.0.0.1:7373\n  Version  0.1.0\n  Uptime   1 day 12 hours\n  Latency  7ms\n  OS       linux\n  \
             CPUs     2 amd64\n  Memory\n  · Heap   3.1MB\n  · Stack  900B\n"
        );
        assert_eq!(text(&status(), None, true), "● 127.0.0.1:7373\n");
    }

    #[test]
    fn a_key_store_that_is_not_there_is_shown() {
        let mut status = status();
        status.keystore_latency = None;
        status.keystore_unreachable = true;
        assert!(text(&status, None, true).ends_with("unreachable\n"));
        let (mut output, captured) = output(false);
        print_json(&status, None, false, &mut output).unwrap();
        let json = captured.text();
        assert!(
            json.contains(r#""keystore_latency":0,"keystore_unreachable":true"#),
            "{json}"
        );
    }

    #[test]
    fn apis_are_a_table() {
        let route = |path: &str, timeout: u64| -> Route {
            let json = format!(r#"{{"method":"GET","path":"{path}","timeout":{timeout}}}"#);
            serde_json::from_str(&json).unwrap()
        };
        assert_eq!(
            text(
                &status(),
                Some(&[route("/v1/log/audit", 0), route("/version", 10)]),
                true
            ),
            "● 127.0.0.1:7373\n\nMethod  API                          Timeout\n\
             GET     /v1/log/audit                Inf\nGET     /version                     10s\n"
        );
    }
}
