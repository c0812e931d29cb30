//! One operation on both servers, turn by turn.

use std::fs;
use std::time::Duration;

use anyhow::ensure;

use crate::load::{Generators, Latency, Outcome, Pace, Target};
use crate::process::Server;
use crate::scenario::{Scenario, Shape};
use crate::setup::{Binaries, Site};
use crate::stats::{Interval, median, median_interval};

/// The null server's answer.
const NULL_ANSWER: usize = 180;
/// Fewest bytes of an audit event.
const SMALLEST_EVENT: u64 = 200;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pairs: usize,
    pub(crate) seconds: u32,
    /// Requests a second of the open loop.
    pub(crate) rate: u32,
    /// Whether the null server takes the place of ours.
    pub(crate) calibrate: bool,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) ours: Figures,
    pub(crate) null: Figures,
    /// Our CPU time per request over the null server's, measured right before or after it.
    pub(crate) ratio: Interval,
    /// Whether latencies come from an open loop.
    pub(crate) open_loop: bool,
}

/// Medians over all runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// In the closed loop.
    pub(crate) per_second: f64,
    /// In the closed loop, in microseconds.
    pub(crate) cpu: f64,
    pub(crate) latency: Latency,
}

#[derive(Debug, Default)]
struct Runs {
    per_second: Vec<f64>,
    cpu: Vec<f64>,
    latencies: Vec<Latency>,
}

pub(crate) async fn run(
    scenario: &Scenario,
    plan: Plan,
    site: &Site,
    binaries: &Binaries,
    generators: &Generators,
) -> anyhow::Result<Comparison> {
    let ours = if plan.calibrate {
        site.start_null(&binaries.null_server).await?
    } else {
        site.start_kes(&binaries.kes, scenario.audit).await?
    };
    let null = site.start_null(&binaries.null_server).await?;
    let body = site.path("body.json");
    let mut answer = NULL_ANSWER;
    if plan.calibrate {
        fs::write(&body, "0".repeat(200))?;
    } else {
        let mut client = site.client(ours.addr).await?;
        fs::write(&body, client.body(scenario.operation).await?)?;
        answer = client.verify(scenario.operation).await?;
    }
    let target = |server: &Server, answer| Target {
        addr: server.addr,
        operation: scenario.operation,
        body: &body,
        shape: scenario.shape,
        answer,
    };
    let (target_ours, target_null) = (target(&ours, answer), target(&null, NULL_ANSWER));

    // Warms up, and finds out how many requests last as long as they should. Both servers get the same number.
    let requests = match scenario.shape {
        Shape::Http1 { .. } | Shape::Http2 { .. } => 40_000,
        Shape::Handshake { .. } => 1000,
    };
    let mut fastest = 0.0_f64;
    for target in [&target_ours, &target_null] {
        fastest = fastest.max(
            generators
                .run(target, Pace::Closed { requests }, site)?
                .per_second,
        );
    }
    let requests = (fastest * f64::from(plan.seconds)) as u64;
    let (mut runs_ours, mut runs_null) = (Runs::default(), Runs::default());
    for pair in 0..plan.pairs {
        eprintln!("{}: pair {} of {}", scenario.name, pair + 1, plan.pairs);
        let mut turn = [
            (&ours, &target_ours, &mut runs_ours),
            (&null, &target_null, &mut runs_null),
        ];
        // Whatever changes with time meets each of the two first equally often.
        if pair % 2 == 1 {
            turn.reverse();
        }
        for (server, target, runs) in turn {
            runs.add(server, target, requests, plan, generators, site)?;
        }
        if !plan.calibrate {
            site.client(ours.addr).await?.verify(scenario.operation).await?;
        }
    }
    if scenario.audit && !plan.calibrate {
        let events = fs::metadata(site.path("kes.log"))?.len() / SMALLEST_EVENT;
        ensure!(
            events >= plan.pairs as u64 * requests,
            "the audit output does not go to the file"
        );
    }

    let ratios: Vec<_> = runs_ours
        .cpu
        .iter()
        .zip(&runs_null.cpu)
        .map(|(ours, null)| ours / null)
        .collect();
    Ok(Comparison {
        ours: runs_ours.figures(),
        null: runs_null.figures(),
        ratio: median_interval(&ratios),
        open_loop: !matches!(scenario.shape, Shape::Handshake { .. }),
    })
}

impl Runs {
    fn add(
        &mut self,
        server: &Server,
        target: &Target<'_>,
        requests: u64,
        plan: Plan,
        generators: &Generators,
        site: &Site,
    ) -> anyhow::Result<()> {
        let (closed, cpu) = steady(server, target, requests, generators, site)?;
        self.per_second.push(closed.per_second);
        self.cpu.push(cpu);
        self.latencies.push(match target.shape {
            Shape::Http1 { .. } | Shape::Http2 { .. } => {
                generators
                    .run(
                        target,
                        Pace::Open {
                            requests: u64::from(plan.seconds) * u64::from(plan.rate),
                            rate: plan.rate,
                        },
                        site,
                    )?
                    .latency
            }
            Shape::Handshake { .. } => closed.latency,
        });
        Ok(())
    }

    fn figures(&self) -> Figures {
        let over = |pick: fn(&Latency) -> f64| median(&self.latencies.iter().map(pick).collect::<Vec<_>>());
        Figures {
            per_second: median(&self.per_second),
            cpu: median(&self.cpu),
            latency: Latency {
                p50: over(|l| l.p50),
                p99: over(|l| l.p99),
                p999: over(|l| l.p999),
            },
        }
    }
}

/// A closed loop, and the server's CPU time for one more request in microseconds.
///
/// A run with as many requests as can be sent at once costs what setting up the connections costs. It is taken off, or
/// every result would depend on how long a run is.
fn steady(
    server: &Server,
    target: &Target<'_>,
    requests: u64,
    generators: &Generators,
    site: &Site,
) -> anyhow::Result<(Outcome, f64)> {
    let (short, setup) = timed(
        server,
        target,
        Pace::Closed {
            requests: target.shape.parallel(),
        },
        generators,
        site,
    )?;
    let (long, total) = timed(server, target, Pace::Closed { requests }, generators, site)?;
    ensure!(
        long.requests > short.requests,
        "too few requests to tell what one costs"
    );
    let cpu = total.saturating_sub(setup).as_secs_f64() * 1e6 / (long.requests - short.requests) as f64;
    Ok((long, cpu))
}

fn timed(
    server: &Server,
    target: &Target<'_>,
    pace: Pace,
    generators: &Generators,
    site: &Site,
) -> anyhow::Result<(Outcome, Duration)> {
    let before = server.cpu_time()?;
    let outcome = generators.run(target, pace, site)?;
    Ok((outcome, server.cpu_time()?.since(&before)?))
}
