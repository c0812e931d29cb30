//! Other ways to set MinIO up, and what its documented policy leaves out.

use anyhow::{Result, ensure};
use kes_peers::process::{PATIENCE, wait_until};

use super::Step;
use super::objects::round_trip;
use super::world::{DEFAULT_KEY, World};

pub(super) const AUTO_ENCRYPTION: &[Step] = &[(
    "a bucket without any encryption setting stores encrypted",
    encrypted_by_itself,
)];

pub(super) const API_KEY: &[Step] = &[
    ("mc creates and lists keys", create_and_list),
    (
        "a bucket with sse-kms stores, names its key and gives back",
        sse_kms_bucket,
    ),
];

pub(super) const POLICY_LIMITS: &[Step] = &[
    ("what the policy allows works", allowed_by_policy),
    ("what the policy does not allow is refused", refused_by_policy),
];

fn encrypted_by_itself(world: &mut World) -> Result<()> {
    world.mc.bucket("plain", &[])?;
    let (algorithm, _) = round_trip(world, "m/plain/object", 1_000)?;
    ensure!(
        !algorithm.is_empty(),
        "stat says that the object is not encrypted"
    );
    let generated = world.statuses(&format!("/v1/key/generate/{DEFAULT_KEY}"), 1)?;
    ensure!(generated.contains(&200), "the audit has no data key");
    Ok(())
}

fn create_and_list(world: &mut World) -> Result<()> {
    world
        .mc
        .ok(&["admin", "kms", "key", "create", "m", "made-by-mc"])?;
    let keys = world.mc.keys()?;
    ensure!(keys == ["made-by-mc", DEFAULT_KEY], "the keys are {keys:?}");
    Ok(())
}

fn sse_kms_bucket(world: &mut World) -> Result<()> {
    world.mc.bucket("sse-kms", &["sse-kms", "made-by-mc"])?;
    let encryption = round_trip(world, "m/sse-kms/object", 1_000)?;
    ensure!(
        encryption == ("aws:kms".to_owned(), "made-by-mc".to_owned()),
        "stat says {encryption:?}"
    );
    Ok(())
}

fn allowed_by_policy(world: &mut World) -> Result<()> {
    let server = world.server(0)?;
    let listed = world.as_minio.ok(server, &["key", "ls", "--json"])?;
    ensure!(
        listed.contains(DEFAULT_KEY),
        "the listing without a prefix says {listed}"
    );
    world.as_minio.ok(server, &["key", "create", "made-by-minio"])?;
    world.as_minio.ok(server, &["key", "dek", "made-by-minio"])?;
    world.as_minio.ok(server, &["status"])?;
    Ok(())
}

fn refused_by_policy(world: &mut World) -> Result<()> {
    const REFUSED: &[&[&str]] = &[
        &["key", "rm", DEFAULT_KEY],
        &["key", "info", DEFAULT_KEY],
        &["key", "encrypt", DEFAULT_KEY, "text"],
        &[
            "key",
            "import",
            "imported",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ],
        &["key", "ls", "minio-"],
        &["ls", "--identity"],
        &["ls", "--policy"],
    ];
    let server = world.server(0)?;
    for arguments in REFUSED {
        let said = world.as_minio.run(server, arguments)?.expect_failure()?;
        ensure!(
            said.contains("not authorized: insufficient permissions"),
            "kes {arguments:?} says {said}"
        );
    }
    world.as_admin.ok(server, &["key", "info", DEFAULT_KEY])?;
    wait_until("the audit of all refusals", PATIENCE, || {
        let refused = server.audit()?.iter().filter(|event| event.status == 403).count();
        Ok((refused >= REFUSED.len()).then_some(()))
    })
}
