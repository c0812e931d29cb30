//! MinIO Server and its client, as their makers ship them, against the `kes` executable.
//!
//! A scenario is a set of servers and the steps that run on them in order. Every scenario runs twice: once with MinIO as the
//! administrator of KES, once with the policy that MinIO's public documentation gives it.

mod files;
mod kes;
mod mc;
mod objects;
mod one_server;
mod two_servers;
mod variants;
mod world;

use std::rc::Rc;

use anyhow::Result;

use self::world::{Access, Layout, Tools, World};
use crate::cargo;
use crate::peers::Peers;
use crate::report::Report;

/// One checked step: what must hold, and how that is found out.
type Step = (&'static str, fn(&mut World) -> Result<()>);

/// The servers a group of steps needs, and the steps.
struct Scenario {
    name: &'static str,
    layout: Layout,
    /// With which access to KES; both if none is named.
    only: Option<Access>,
    steps: &'static [Step],
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-server",
        layout: Layout::ONE_SERVER,
        only: None,
        steps: one_server::STEPS,
    },
    Scenario {
        name: "two-servers",
        layout: Layout::TWO_SERVERS,
        only: None,
        steps: two_servers::STEPS,
    },
    Scenario {
        name: "auto-encryption",
        layout: Layout::AUTO_ENCRYPTION,
        only: None,
        steps: variants::AUTO_ENCRYPTION,
    },
    Scenario {
        name: "api-key",
        layout: Layout::API_KEY,
        only: None,
        steps: variants::API_KEY,
    },
    Scenario {
        name: "limits",
        layout: Layout::ONE_SERVER,
        only: Some(Access::DocumentedPolicy),
        steps: variants::POLICY_LIMITS,
    },
];

/// Runs the scenarios whose names contain `only`, or all.
pub(crate) fn run(report: &mut Report, only: Option<&str>) {
    let mut tools = None;
    let ready = report.step(
        "minio: the executable and the peers are built",
        &mut tools,
        |tools| {
            let kes = cargo::build_kes()?;
            let Peers { minio, mc } = Peers::install()?;
            *tools = Some(Rc::new(Tools { kes, minio, mc }));
            Ok(())
        },
        |_| String::new(),
    );
    let Some(tools) = tools.filter(|_| ready) else {
        return;
    };
    let mut found = false;
    for access in [Access::Admin, Access::DocumentedPolicy] {
        for Scenario {
            name,
            layout,
            only: with,
            steps,
        } in SCENARIOS
        {
            let name = format!("minio {access} {name}");
            if with.is_none_or(|with| with == access) && only.is_none_or(|part| name.contains(part)) {
                found = true;
                scenario(report, &name, World::new(&tools, access, *layout), steps);
            }
        }
    }
    if !found {
        report.add(
            0,
            &[format!(
                "minio: no scenario is called '{}'",
                only.unwrap_or_default()
            )],
        );
    }
}

/// Runs the steps in order. A step that fails does not stop those after it, but nothing runs on servers that never started.
fn scenario(report: &mut Report, name: &str, world: Result<World>, steps: &[Step]) {
    let mut world = world;
    let prepared = report.step(
        &format!("{name}: the servers start"),
        &mut world,
        |world| match world {
            Ok(world) => world.start(),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        },
        evidence,
    );
    for (step, run) in steps {
        report.step(
            &format!("{name}: {step}"),
            &mut world,
            |world| match world {
                Ok(world) if prepared => run(world),
                _ => anyhow::bail!("not run: the servers did not start"),
            },
            |world| if prepared { evidence(world) } else { String::new() },
        );
    }
}

fn evidence(world: &Result<World>) -> String {
    world.as_ref().map(World::evidence).unwrap_or_default()
}
