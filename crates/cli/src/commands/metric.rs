//! `kes metric`: a live view on a terminal, a line of JSON for each answer elsewhere.

mod live;
mod model;
mod screen;
mod view;

use std::time::Duration;

use kes_client::Measurements;
use serde::{Serialize, Serializer};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{Connection, MetricArgs};
use crate::connection::{client, explain};
use crate::context::Context;
use crate::failure::Outcome;
use crate::following::{follow, somebody_reads};

/// How often a server is asked.
const RATE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: MetricArgs, context: &mut Context<'_>) -> Outcome {
    let MetricArgs {
        rate,
        color,
        connection,
    } = args;
    context.set_color(color.when);
    show(rate.unwrap_or(RATE), false, &connection, context)
}

/// Shows the metrics of a server, at once and after each `rate`: as JSON, unless a person watches.
pub(crate) fn show(
    rate: Duration,
    json: bool,
    connection: &Connection,
    context: &mut Context<'_>,
) -> Outcome {
    let client = client(connection, context)?;
    // Some terminals only print one line below the other.
    let can_redraw = context.environment.get("TERM") != Some("dumb");
    if context.output.is_terminal() && can_redraw && !json {
        return live::show(&client, rate, context);
    }
    let output = &mut *context.output;
    follow(async {
        let mut ticks = interval(rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let measured = client.measurements().await.map_err(explain)?;
            somebody_reads().await?;
            output.json(&Printed::from(&measured), false)?;
        }
    })
}

/// How measurements are printed.
#[derive(Serialize)]
struct Printed {
    kes_http_request_success: u64,
    kes_http_request_error: u64,
    kes_http_request_failure: u64,
    kes_http_request_active: u64,
    kes_log_audit_events: u64,
    kes_log_error_events: u64,
    #[serde(serialize_with = "by_nanoseconds")]
    kes_http_response_time: Vec<(Duration, u64)>,
    /// Nanoseconds.
    kes_system_up_time: u64,
    kes_system_num_cpu: u64,
    kes_system_num_cpu_used: u64,
    kes_system_num_threads: u64,
    kes_system_mem_heap_used: u64,
    kes_system_mem_heap_objects: u64,
    kes_system_mem_stack_used: u64,
}

impl From<&Measurements> for Printed {
    fn from(measured: &Measurements) -> Self {
        let Measurements {
            request_success,
            request_error,
            request_failure,
            request_active,
            audit_events,
            error_events,
            response_time,
            response_time_sum: _,
            response_time_count: _,
            up_time,
            num_cpu,
            num_cpu_used,
            num_threads,
            mem_heap_used,
            mem_heap_objects,
            mem_stack_used,
            details: _,
        } = measured;
        Self {
            kes_http_request_success: *request_success,
            kes_http_request_error: *request_error,
            kes_http_request_failure: *request_failure,
            kes_http_request_active: *request_active,
            kes_log_audit_events: *audit_events,
            kes_log_error_events: *error_events,
            kes_http_response_time: response_time.clone(),
            kes_system_up_time: u64::try_from(up_time.as_nanos()).unwrap_or(u64::MAX),
            kes_system_num_cpu: *num_cpu,
            kes_system_num_cpu_used: *num_cpu_used,
            kes_system_num_threads: *num_threads,
            kes_system_mem_heap_used: *mem_heap_used,
            kes_system_mem_heap_objects: *mem_heap_objects,
            kes_system_mem_stack_used: *mem_stack_used,
        }
    }
}

/// Buckets as an object whose keys are their bounds in nanoseconds, in the order of the bounds.
fn by_nanoseconds<S: Serializer>(buckets: &[(Duration, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        buckets
            .iter()
            .map(|(bound, count)| (bound.as_nanos().to_string(), count)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_have_the_names_that_programs_know() {
        let measured = Measurements {
            request_success: 1,
            response_time: vec![(Duration::from_millis(10), 2), (Duration::from_secs(10), 3)],
            up_time: Duration::from_millis(1500),
            ..Measurements::default()
        };
        assert_eq!(
            serde_json::to_string(&Printed::from(&measured)).unwrap(),
            "{\"kes_http_request_success\":1,\"kes_http_request_error\":0,\"kes_http_request_failure\":0,\
             \"kes_http_request_active\":0,\"kes_log_audit_events\":0,\"kes_log_error_events\":0,\
             \"kes_http_response_time\":{\"10000000\":2,\"10000000000\":3},\"kes_system_up_time\":1500000000,\
             \"kes_system_num_cpu\":0,\"kes_system_num_cpu_used\":0,\"kes_system_num_threads\":0,\
             \"kes_system_mem_heap_used\":0,\"kes_system_mem_heap_objects\":0,\"kes_system_mem_stack_used\":0}"
        );
    }
}
