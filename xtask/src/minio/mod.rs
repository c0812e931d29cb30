//! MinIO Server and its client, as their makers ship them, against the `kes` executable.
//!
//! A scenario is a set of servers and the steps that run on them in order. It runs with MinIO as the administrator of KES and with
//! the policy that MinIO's public documentation gives it, and on several key stores.

mod files;
mod kes;
mod mc;
mod objects;
mod one_server;
mod store;
mod two_servers;
mod variants;
mod world;

use std::rc::Rc;

use anyhow::Result;

use self::store::Store;
use self::world::{Access, Layout, Tools, World};
use crate::cargo;
use crate::report::Report;

/// One checked step: what must hold, and how that is found out.
type Step = (&'static str, fn(&mut World) -> Result<()>);

/// The servers a group of steps needs, and the steps.
struct Scenario {
    name: &'static str,
    layout: Layout,
    runs: &'static [Run],
    steps: &'static [Step],
}

/// What MinIO may do, and where the keys are.
type Run = (Access, Store);

const ON_FOLDER: Run = (Access::Admin, Store::Fs);
const ON_FOLDER_BY_POLICY: Run = (Access::DocumentedPolicy, Store::Fs);
/// With what the server printed for MinIO.
const EMBEDDED: Run = (Access::Admin, Store::Embedded);
/// With a policy added to what the server wrote.
const EMBEDDED_BY_POLICY: Run = (Access::DocumentedPolicy, Store::Embedded);
const AWS: Run = (Access::Admin, Store::Aws);
const AWS_BY_POLICY: Run = (Access::DocumentedPolicy, Store::Aws);
const VAULT: Run = (Access::Admin, Store::Vault);
const VAULT_BY_POLICY: Run = (Access::DocumentedPolicy, Store::Vault);

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-server",
        layout: Layout::ONE_SERVER,
        runs: &[ON_FOLDER, ON_FOLDER_BY_POLICY, EMBEDDED, AWS, VAULT_BY_POLICY],
        steps: one_server::STEPS,
    },
    Scenario {
        name: "two-servers",
        layout: Layout::TWO_SERVERS,
        // An embedded store has one server.
        runs: &[ON_FOLDER, ON_FOLDER_BY_POLICY, VAULT],
        steps: two_servers::STEPS,
    },
    Scenario {
        name: "auto-encryption",
        layout: Layout::AUTO_ENCRYPTION,
        runs: &[ON_FOLDER, ON_FOLDER_BY_POLICY, EMBEDDED_BY_POLICY, AWS],
        steps: variants::AUTO_ENCRYPTION,
    },
    Scenario {
        name: "api-key",
        layout: Layout::API_KEY,
        runs: &[
            ON_FOLDER,
            ON_FOLDER_BY_POLICY,
            EMBEDDED_BY_POLICY,
            VAULT_BY_POLICY,
        ],
        steps: variants::API_KEY,
    },
    Scenario {
        name: "limits",
        layout: Layout::ONE_SERVER,
        runs: &[ON_FOLDER_BY_POLICY, EMBEDDED_BY_POLICY, AWS_BY_POLICY],
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
            let (minio, mc) = (kes_peers::minio()?, kes_peers::mc()?);
            *tools = Some(Rc::new(Tools { kes, minio, mc }));
            Ok(())
        },
        |_| String::new(),
    );
    let Some(tools) = tools.filter(|_| ready) else {
        return;
    };
    let mut found = false;
    for Scenario {
        name,
        layout,
        runs,
        steps,
    } in SCENARIOS
    {
        for (access, store) in *runs {
            let name = format!("minio {access} {name}{store}");
            if only.is_none_or(|part| name.contains(part)) {
                found = true;
                scenario(report, &name, World::new(&tools, *access, *store, *layout), steps);
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

/// Runs the steps in order. A step that fails does not stop those after it, which find running what it has stopped; but nothing
/// runs on servers that never started.
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
        let passed = report.step(
            &format!("{name}: {step}"),
            &mut world,
            |world| match world {
                Ok(world) if prepared => run(world),
                _ => anyhow::bail!("not run: the servers did not start"),
            },
            |world| if prepared { evidence(world) } else { String::new() },
        );
        if let (false, true, Ok(world)) = (passed, prepared, &mut world)
            && let Err(error) = world.start()
        {
            println!("{name}: what the step has stopped does not start again: {error:#}");
        }
    }
}

fn evidence(world: &Result<World>) -> String {
    world.as_ref().map(World::evidence).unwrap_or_default()
}
