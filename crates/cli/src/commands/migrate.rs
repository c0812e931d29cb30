//! `kes migrate`: copies keys between key stores.

mod copy;
mod drive;
mod names;
mod pattern;
mod place;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use kes_config::KeyStoreSettings;
use kes_keystore::{KeyStore, MemoryStore};
use kes_types::Clock;

use self::copy::{Copier, Existing, Replace};
use self::drive::drive;
use self::names::Names;
use self::pattern::Pattern;
use self::place::Foreign;
use super::offline::{explain, load_keystore};
use crate::args::MigrateArgs;
use crate::connect;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::work::{self, Interrupt};

pub(crate) fn run(args: MigrateArgs, context: &mut Context<'_>) -> Outcome {
    let to = target(&args, &context.environment)?;
    let MigrateArgs {
        from,
        pattern,
        force,
        merge,
        quiet,
        dry_run,
        ..
    } = args;
    let pattern = Pattern::parse(pattern.as_deref())?;
    let source = load(&from, context)?;
    let target = load(&to, context)?;
    if place::are_same(&source, &target) {
        return Err(anyhow!(
            "{} and {} name the same key store: there is nothing to copy",
            from.display(),
            to.display()
        )
        .into());
    }
    let migration = Migration {
        source,
        target,
        pattern,
        existing: match (force, merge) {
            (true, _) => Existing::Replace,
            (false, true) => Existing::Merge,
            (false, false) => Existing::Refuse,
        },
        is_quiet: quiet,
        is_dry_run: dry_run,
    };
    let clock = Arc::clone(&context.clock);
    work::run(async |interrupt| migration.run(interrupt, &clock, context.output).await)
}

/// The configuration of the target.
fn target(args: &MigrateArgs, environment: &Environment) -> Outcome<PathBuf> {
    if let Some(to) = &args.to {
        return Ok(to.clone());
    }
    let given = |option: &Option<String>, variable| {
        let option = option.as_deref().map(str::trim).filter(|text| !text.is_empty());
        option.is_some() || environment.get(variable).is_some()
    };
    let message = if !given(&args.server, "MINIO_KMS_SERVER") {
        "no target: name the configuration of the key store to copy to by --to FILE"
    } else if !given(&args.enclave, "MINIO_KMS_ENCLAVE") {
        "--server: a MinIO KMS server needs an enclave: use --enclave, or --to FILE for the configuration of another target"
    } else if !given(&args.api_key, "MINIO_KMS_API_KEY") {
        "--server: a MinIO KMS server needs an API key: use --api-key, or --to FILE for the configuration of another target"
    } else {
        "--server: a MinIO KMS server is not supported as the target: name the configuration of a key store by --to FILE"
    };
    Err(Failure::Usage(message.to_owned()))
}

/// The key store of a configuration, which this program can connect to.
fn load(path: &Path, context: &Context<'_>) -> Outcome<KeyStoreSettings> {
    let settings = load_keystore(path, context)?;
    connect::require_backend(&settings).with_context(|| path.display().to_string())?;
    Ok(settings)
}

/// A migration that can begin.
#[derive(Debug)]
struct Migration {
    source: KeyStoreSettings,
    target: KeyStoreSettings,
    pattern: Pattern,
    existing: Existing,
    is_quiet: bool,
    is_dry_run: bool,
}

impl Migration {
    async fn run(self, interrupt: &mut Interrupt, clock: &Arc<dyn Clock>, output: &mut Output) -> Outcome {
        if let Some(path) = place::absent(&self.source) {
            return Err(anyhow!("the source {} does not exist", path.display()).into());
        }
        let source = interrupt
            .or(connect::examine(&self.source, Arc::clone(clock)))
            .await?
            .map_err(|error| explain(error, SOURCE_IN_USE).context("the source"))?;
        let outcome = self.run_from(&source, interrupt, clock, output).await;
        source.close().await;
        outcome
    }

    async fn run_from(
        &self,
        source: &Arc<dyn KeyStore>,
        interrupt: &mut Interrupt,
        clock: &Arc<dyn Clock>,
        output: &mut Output,
    ) -> Outcome {
        let foreign =
            Foreign::find(&self.source, &self.pattern).with_context(|| format!("cannot list {source}"))?;
        let names = || Names::new(Arc::clone(source), self.pattern.clone());
        let total = interrupt
            .or(names().count())
            .await?
            .with_context(|| format!("cannot list {source}"))?;
        if total == 0 {
            output.line(&report::nothing(source.as_ref(), &self.pattern))?;
            return report::outcome(drive::Tally::default(), foreign, total);
        }
        let (target, replacer) = interrupt
            .or(self.target(clock))
            .await?
            .map_err(|error| explain(error, "stop it first").context("the target"))?;
        let copier = Arc::new(Copier {
            source: Arc::clone(source),
            target: Arc::clone(&target),
            replacer,
            existing: self.existing,
            is_dry_run: self.is_dry_run,
        });
        let mut progress = if self.is_quiet || self.is_dry_run {
            Progress::Silent
        } else {
            Progress::of("keys", total)
        };
        let tally = drive(copier, names(), interrupt.received(), &mut progress, output).await;
        progress.finish();
        target.close().await;
        output.line(&report::summary(&tally, self.is_dry_run))?;
        report::outcome(tally, foreign, total)
    }

    /// Connects to the target. A dry run neither makes nor changes anything.
    async fn target(&self, clock: &Arc<dyn Clock>) -> anyhow::Result<Target> {
        let clock = Arc::clone(clock);
        if !self.is_dry_run {
            let opened = connect::open(&self.target, clock).await?;
            let replacer = opened.embedded().map(|store| store as _);
            return Ok((opened.into_connected().store, replacer));
        }
        if place::absent(&self.target).is_none() {
            return Ok((connect::examine(&self.target, clock).await?, None));
        }
        connect::check(&self.target)?;
        // What is not there is empty.
        Ok((Arc::new(MemoryStore::new()), None))
    }
}

/// A key store to copy to, and the same again if it can replace a value in one step.
type Target = (Arc<dyn KeyStore>, Option<Arc<dyn Replace>>);

/// Said when the source cannot be opened beside its server.
const SOURCE_IN_USE: &str =
    "stop it first, or copy from a restored backup: see `kes store backup` and `kes store restore`";

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(
        server: Option<&str>,
        enclave: Option<&str>,
        api_key: Option<&str>,
        env: &Environment,
    ) -> String {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let args = MigrateArgs {
            server: own(server),
            enclave: own(enclave),
            api_key: own(api_key),
            ..MigrateArgs::default()
        };
        match target(&args, env) {
            Err(Failure::Usage(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_minio_kms_server_is_no_target_and_what_it_lacks_is_said_first() {
        let none = Environment::default();
        let all = Environment::from([
            ("MINIO_KMS_SERVER", "127.0.0.1:7373"),
            ("MINIO_KMS_ENCLAVE", "tenant-1"),
            ("MINIO_KMS_API_KEY", "k1:secret"),
        ]);
        assert!(refusal(None, None, None, &none).contains("--to FILE"));
        assert!(refusal(Some(" "), Some("e"), Some("k"), &none).starts_with("no target"));
        assert!(refusal(Some("s"), None, Some("k"), &none).contains("--enclave"));
        assert!(refusal(Some("s"), Some("e"), None, &none).contains("--api-key"));
        for refused in [
            refusal(Some("s"), Some("e"), Some("k"), &none),
            refusal(None, None, None, &all),
        ] {
            assert!(
                refused.starts_with("--server: ") && refused.contains("not supported"),
                "{refused}"
            );
        }
        let to = MigrateArgs {
            to: Some("new.yml".into()),
            ..MigrateArgs::default()
        };
        assert_eq!(
            target(&to, &all).unwrap(),
            Path::new("new.yml"),
            "the environment is only a default"
        );
    }
}
