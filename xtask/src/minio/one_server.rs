//! What MinIO does with one KES server, from the first start to a deleted key.

use anyhow::{Context, Result, ensure};
use kes_peers::process::{PATIENCE, wait_until};

use super::kes::AuditEvent;
use super::objects::{self, read_again, round_trip};
use super::store::Store;
use super::world::{DEFAULT_KEY, World};
use super::{Step, files, mc};

pub(super) const STEPS: &[Step] = &[
    ("MinIO has made its default key", the_default_key_exists),
    ("mc shows the status of the default key", key_status),
    ("mc creates a key and lists it", key_create_and_list),
    (
        "a bucket with sse-kms stores, names its key and gives back",
        sse_kms_bucket,
    ),
    ("a bucket with sse-s3 stores and gives back", sse_s3_bucket),
    ("objects of several megabytes come back", large_objects),
    ("500 small objects come back", many_small_objects),
    (
        "the audit shows every generate and every decrypt",
        audit_is_complete,
    ),
    ("2,000 keys are all listed through mc", two_thousand_keys),
    ("KES restarts", kes_restarts),
    ("MinIO restarts with its encrypted configuration", minio_restarts),
    ("a put fails while KES is down and works again after", kes_is_down),
    ("a deleted key makes its objects unreadable", deleted_key),
];

fn the_default_key_exists(world: &mut World) -> Result<()> {
    let keys = world.as_admin.ok(world.server(0)?, &["key", "ls", "--json"])?;
    let keys: Vec<String> =
        serde_json::from_str(&keys).with_context(|| format!("kes key ls printed {keys}"))?;
    ensure!(keys == [DEFAULT_KEY], "the keys are {keys:?}");
    let created = world.statuses(&format!("/v1/key/create/{DEFAULT_KEY}"), 1)?;
    ensure!(
        created.iter().filter(|status| **status == 200).count() == 1,
        "the audit has {created:?} for its creation"
    );
    world.keys.check_key(DEFAULT_KEY)
}

fn key_status(world: &mut World) -> Result<()> {
    let status = world.mc.ok(&["admin", "kms", "key", "status", "m"])?;
    ensure!(
        status.get("keyId").is_some_and(|id| id == DEFAULT_KEY),
        "mc says {status}"
    );
    for problem in ["encryptionErr", "decryptionErr"] {
        ensure!(
            status.get(problem).is_none_or(|text| text == ""),
            "mc says {status}"
        );
    }
    Ok(())
}

fn key_create_and_list(world: &mut World) -> Result<()> {
    world
        .mc
        .ok(&["admin", "kms", "key", "create", "m", "made-by-mc"])?;
    let keys = world.mc.keys()?;
    ensure!(keys == ["made-by-mc", DEFAULT_KEY], "the keys are {keys:?}");
    let status = world
        .mc
        .ok(&["admin", "kms", "key", "status", "m", "made-by-mc"])?;
    ensure!(
        status.get("keyId").is_some_and(|id| id == "made-by-mc"),
        "mc says {status}"
    );
    let again = world
        .mc
        .run(&["admin", "kms", "key", "create", "m", "made-by-mc"])?
        .expect_failure()?;
    ensure!(again.contains("key with given key ID already"), "mc says {again}");
    let path = "/v1/key/create/made-by-mc";
    let statuses = world.statuses(path, 2)?;
    ensure!(statuses == [200, 400], "the audit has {statuses:?} for {path}");
    Ok(())
}

fn sse_kms_bucket(world: &mut World) -> Result<()> {
    world.mc.bucket("sse-kms", &["sse-kms", "made-by-mc"])?;
    let encryption = round_trip(world, "m/sse-kms/small", 1_000)?;
    ensure!(
        encryption == ("aws:kms".to_owned(), "made-by-mc".to_owned()),
        "stat says {encryption:?}"
    );
    Ok(())
}

fn sse_s3_bucket(world: &mut World) -> Result<()> {
    world.mc.bucket("sse-s3", &["sse-s3"])?;
    let (algorithm, _) = round_trip(world, "m/sse-s3/small", 1_000)?;
    ensure!(algorithm == "AES256", "stat says {algorithm}");
    Ok(())
}

fn large_objects(world: &mut World) -> Result<()> {
    // One request, and more than the size from which mc uploads in parts.
    for megabytes in [3, 40] {
        for bucket in ["sse-kms", "sse-s3"] {
            round_trip(
                world,
                &format!("m/{bucket}/{megabytes}-megabytes"),
                megabytes << 20,
            )?;
        }
    }
    Ok(())
}

fn many_small_objects(world: &mut World) -> Result<()> {
    let (folder, back) = (world.file("many"), world.file("many-back"));
    files::folder(&folder, 500)?;
    world.mc.ok(&["mirror", mc::utf8(&folder)?, "m/sse-kms/many"])?;
    world.mc.ok(&["mirror", "m/sse-kms/many", mc::utf8(&back)?])?;
    files::same_folder(&folder, &back)
}

fn audit_is_complete(world: &mut World) -> Result<()> {
    const OBJECTS: usize = 20;
    world.mc.ok(&["admin", "kms", "key", "create", "m", "audited"])?;
    // Setting the encryption of a bucket tries the key out, too.
    world.mc.bucket("audited", &["sse-kms", "audited"])?;
    let before = world.audit()?.len();
    for index in 0..OBJECTS {
        round_trip(world, &format!("m/audited/object-{index}"), 100 + index)?;
    }
    for operation in ["generate", "decrypt"] {
        let path = format!("/v1/key/{operation}/audited");
        let since = |events: Vec<AuditEvent>| {
            events
                .iter()
                .skip(before)
                .filter(|event| event.path == path)
                .count()
        };
        let count = wait_until(&format!("{OBJECTS} audit events of {path}"), PATIENCE, || {
            Ok(Some(since(world.audit()?)).filter(|count| *count >= OBJECTS))
        })?;
        ensure!(count == OBJECTS, "the audit has {count} events of {path}");
    }
    for event in world
        .audit()?
        .iter()
        .skip(before)
        .filter(|event| event.path.ends_with("/audited"))
    {
        ensure!(
            event.identity == world.minio_identity,
            "{event:?} names another identity"
        );
        ensure!(event.status == 200, "{event:?}");
    }
    Ok(())
}

fn two_thousand_keys(world: &mut World) -> Result<()> {
    let made: Vec<String> = (0..2_000).map(|index| format!("bulk-{index:04}")).collect();
    let names: Vec<&str> = made.iter().map(String::as_str).collect();
    world
        .as_admin
        .ok(world.server(0)?, &[&["key", "create"], names.as_slice()].concat())?;
    let keys = world.mc.keys()?;
    let listed: Vec<&str> = keys
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("bulk-"))
        .collect();
    ensure!(
        listed == names,
        "{} of the 2,000 keys are listed, {} keys in all",
        listed.len(),
        keys.len()
    );
    Ok(())
}

fn kes_restarts(world: &mut World) -> Result<()> {
    world.server_mut(0)?.stop()?;
    world.start_kes(0)?;
    read_again(world, "m/sse-kms/small")?;
    round_trip(world, "m/sse-kms/after-restart", 1_000)?;
    Ok(())
}

fn minio_restarts(world: &mut World) -> Result<()> {
    const SECRET: &str = "alices-secret-key";
    world.mc.ok(&["admin", "user", "add", "m", "alice", SECRET])?;
    world
        .mc
        .ok(&["admin", "policy", "attach", "m", "readwrite", "--user", "alice"])?;
    world.stop_minio()?;
    let configuration = world.data().join(".minio.sys/config");
    ensure!(
        !files::contain(&configuration, SECRET.as_bytes())?,
        "the secret key is in plain on the drive"
    );
    world.start_minio()?;
    let mut alice = world.mc.clone();
    (alice.user, alice.password) = ("alice".to_owned(), SECRET.to_owned());
    objects::read_again_as(&alice, world, "m/sse-kms/small")
}

fn kes_is_down(world: &mut World) -> Result<()> {
    let sent = objects::write(world, "m/sse-kms/while-down", 1_000)?;
    let put = ["cp", mc::utf8(&sent)?, "m/sse-kms/while-down"];
    world.server_mut(0)?.stop()?;
    let down = world.mc.run(&put);
    world.start_kes(0)?;
    down?.expect_failure()?;
    wait_until("a put to work again", PATIENCE, || {
        Ok(world.mc.run(&put)?.expect_success().ok())
    })?;
    read_again(world, "m/sse-kms/while-down")?;
    read_again(world, "m/sse-kms/small")
}

fn deleted_key(world: &mut World) -> Result<()> {
    world.mc.ok(&["admin", "kms", "key", "create", "m", "doomed"])?;
    world.mc.bucket("doomed", &["sse-kms", "doomed"])?;
    round_trip(world, "m/doomed/object", 1_000)?;
    world.as_admin.ok(world.server(0)?, &["key", "rm", "doomed"])?;
    objects::unreadable(world, "m/doomed/object")?;
    let create = ["admin", "kms", "key", "create", "m", "doomed"];
    match world.store {
        Store::Fs | Store::Aws | Store::Vault => {
            // A new key of that name is another key.
            world.mc.ok(&create)?;
            objects::unreadable(world, "m/doomed/object")?;
        }
        Store::Embedded => {
            let refused = world.mc.run(&create)?.expect_failure()?;
            ensure!(
                refused.contains("key with given key ID already"),
                "mc says {refused}"
            );
            world
                .as_admin
                .ok(world.server(0)?, &["key", "undelete", "doomed"])?;
            read_again(world, "m/doomed/object")?;
        }
    }
    read_again(world, "m/sse-kms/small")
}
