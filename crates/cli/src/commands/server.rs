//! `kes server`: from options and a configuration file to a server that runs until it is told to stop.

mod banner;
mod descriptors;
mod interfaces;
mod plan;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use kes_config::{AuthMode, Diagnostic, ListenAddress, LoadError, Overrides};

use self::plan::{Bare, Plan};
pub(crate) use self::plan::{reachable, tls_settings};
use super::init::{self, Wanted};
use crate::args::{self, ServerArgs};
use crate::connect;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::memory;

/// What to say to whoever does not say what to serve.
const WAYS: &str = "\
A server can be started in three ways:

  kes server DIR            with the configuration and the keys in a folder; `kes server --init DIR` makes the folder first
  kes server --config FILE  with a configuration that you have written
  kes server --dev          to try it out: all keys are in memory, and lost when the server stops

See 'kes server --help' for the options.
";

/// Where the settings come from, also when they are read anew.
#[derive(Debug)]
enum Source {
    File {
        path: PathBuf,
        overrides: Overrides,
        strict: bool,
    },
    Dev {
        address: ListenAddress,
    },
    /// Options alone, as until 2022.
    Options(Bare),
}

pub(crate) fn run(mut args: ServerArgs, context: &mut Context<'_>) -> Outcome {
    // As a script gives it whose variable is empty.
    args.addr = args.addr.filter(|addr| !addr.trim().is_empty());
    note_deprecated(&args, context);
    refuse_contradictions(&args)?;
    address(args.addr.as_deref())?;
    let (check, mlock, quiet) = (args.check, args.mlock, args.quiet);
    let wanted = match &args.directory {
        Some(folder) if args.init => Some(Wanted::for_server(folder.clone(), args.addr.as_deref())?),
        Some(folder) => {
            init::require_complete(folder)?;
            None
        }
        None => None,
    };
    let source = source(args, context)?;
    if check {
        return self::check(&source, context);
    }
    let is_locked = if mlock {
        memory::require_lock()?;
        true
    } else {
        memory::lock_if_unlimited()
    };
    if let Some(wanted) = wanted {
        init::run_once(&wanted, context)?;
    }
    let plan = source.load(context)?;
    let start = run::Start {
        source,
        plan,
        is_locked,
        is_quiet: quiet,
    };
    start.run(context)
}

/// Reads and checks the configuration and the files that it names, and does nothing else.
fn check(source: &Source, context: &mut Context<'_>) -> Outcome {
    let plan = source.load(context)?;
    for concern in plan.check_files(context.clock.now())? {
        context.warn(&concern);
    }
    match source {
        Source::File { path, .. } => context
            .output
            .line(&format!("{}: the configuration is valid", path.display())),
        Source::Dev { .. } | Source::Options(_) => context.output.line("the options are valid"),
    }
}

fn note_deprecated(args: &ServerArgs, context: &mut Context<'_>) {
    let all = [
        (args.root.is_some(), "--root", "admin.identity"),
        (args.auth.is_some(), "--auth", "tls.auth"),
        (args.key.is_some(), "--key", "tls.key"),
        (args.cert.is_some(), "--cert", "tls.cert"),
    ];
    let given = all.into_iter().filter(|(is_given, ..)| *is_given);
    let (options, keys): (Vec<_>, Vec<_>) = given.map(|(_, option, key)| (option, key)).unzip();
    if !options.is_empty() {
        let instead = if args.dev {
            "it has no effect with --dev".to_owned()
        } else {
            format!("use {} in the configuration file", keys.join(", "))
        };
        context.deprecated(&format!("kes server {}", options.join(", ")), &instead);
    }
}

/// Fails if two options, or an option and the folder, say different things about where the settings come from.
fn refuse_contradictions(args: &ServerArgs) -> Outcome {
    let folder = args.directory.as_deref().map(Path::display);
    let message = match folder {
        Some(folder) if args.dev => {
            format!("'--dev' keeps keys in memory, and cannot be used with the folder {folder}")
        }
        Some(folder) if args.config.is_some() => format!(
            "'--config' cannot be used with the folder {folder}, which has a configuration of its own: name one of them"
        ),
        Some(_) if args.init && args.check => {
            "'--check' changes nothing, and cannot be used with '--init'".to_owned()
        }
        None if args.init => "'--init' takes a folder: kes server --init DIR".to_owned(),
        Some(_) | None => return Ok(()),
    };
    Err(Failure::Usage(format!(
        "{message}; see '{} server --help'",
        args::program()
    )))
}

/// What the options say about where the settings come from.
fn source(args: ServerArgs, context: &Context<'_>) -> Outcome<Source> {
    let ServerArgs {
        directory,
        init: _,
        addr,
        config,
        dev,
        check: _,
        strict,
        mlock: _,
        quiet: _,
        root,
        auth,
        key,
        cert,
    } = args;
    let auth = auth_mode(auth.as_deref())?;
    if dev {
        return Ok(Source::Dev {
            address: address(addr.as_deref())?,
        });
    }
    let root = root.filter(|root| !root.trim().is_empty());
    if let Some(path) = config.or_else(|| directory.as_deref().map(init::config_of)) {
        return Ok(Source::File {
            path,
            overrides: Overrides {
                addr,
                root,
                auth,
                key,
                cert,
            },
            strict,
        });
    }
    match (root, key, cert) {
        (Some(root), Some(key), Some(cert)) => {
            context.warn(
                "there is no configuration file: all keys are in memory and are LOST when the server stops",
            );
            Ok(Source::Options(Bare {
                address: address(addr.as_deref())?,
                root,
                key,
                cert,
                auth,
            }))
        }
        (None, None, None) => Err(Failure::NoCommand(WAYS.to_owned())),
        _ => Err(Failure::Usage(
            "no configuration: name a folder, or use --config FILE, or --dev for a server to try out"
                .to_owned(),
        )),
    }
}

fn address(option: Option<&str>) -> anyhow::Result<ListenAddress> {
    let Some(text) = option else {
        return Ok(ListenAddress::DEFAULT);
    };
    ListenAddress::parse(text).map_err(|error| anyhow!("invalid value '{text}' for '--addr': {error}"))
}

/// What `--auth` says. Without a value, the configuration decides.
fn auth_mode(option: Option<&str>) -> anyhow::Result<Option<AuthMode>> {
    match option.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => {
            let mode = AuthMode::parse(text);
            mode.map(Some)
                .map_err(|error| anyhow!("invalid value '{text}' for '--auth': {error}"))
        }
    }
}

impl Source {
    /// Whether the settings can change while the server runs.
    const fn can_reload(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// The settings for a start, with warnings printed.
    fn load(&self, context: &Context<'_>) -> Outcome<Plan> {
        match self {
            Self::File {
                path,
                overrides,
                strict,
            } => {
                let environment = &context.environment;
                let (plan, warnings) = load_file(path, overrides, environment).map_err(|error| {
                    error
                        .warnings
                        .iter()
                        .for_each(|warning| context.warn(&warning.to_string()));
                    Failure::Errors(error.errors.iter().map(ToString::to_string).collect())
                })?;
                warnings
                    .iter()
                    .for_each(|warning| context.warn(&warning.to_string()));
                if *strict && !warnings.is_empty() {
                    return Err(
                        anyhow!("the configuration has warnings, and --strict makes them errors").into(),
                    );
                }
                Ok(plan?)
            }
            Self::Dev { address } => Ok(Plan::for_development(*address, context.clock.now())?),
            Self::Options(bare) => Ok(Plan::of_options(bare)?),
        }
    }

    /// The settings as the file says now, with warnings in the log.
    fn load_again(&self, environment: &Environment) -> anyhow::Result<Plan> {
        let Self::File {
            path,
            overrides,
            strict,
        } = self
        else {
            return Err(anyhow!("there is no configuration file"));
        };
        let (plan, warnings) = load_file(path, overrides, environment)
            .map_err(|error| anyhow!(error.to_string().replace('\n', "; ")))
            .context("the configuration is invalid")?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if *strict && !warnings.is_empty() {
            return Err(anyhow!(
                "the configuration has warnings, and --strict makes them errors"
            ));
        }
        plan
    }
}

type Loaded = (anyhow::Result<Plan>, Vec<Diagnostic>);

fn load_file(path: &Path, overrides: &Overrides, environment: &Environment) -> Result<Loaded, LoadError> {
    let variable = |name: &str| environment.raw(name).map(str::to_owned);
    let loaded = kes_config::load(path, overrides, &variable)?;
    let plan =
        connect::require_backend(&loaded.settings.keystore).and_then(|()| Plan::of_file(loaded.settings));
    Ok((plan, loaded.warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authentication_is_decided_by_a_value_or_the_file() {
        assert_eq!(auth_mode(None).unwrap(), None);
        assert_eq!(auth_mode(Some("")).unwrap(), None);
        for (text, mode) in [
            ("on", AuthMode::On),
            ("VERIFY", AuthMode::On),
            ("off", AuthMode::Off),
            ("Ignore", AuthMode::Off),
        ] {
            assert_eq!(auth_mode(Some(text)).unwrap(), Some(mode), "{text}");
        }
        assert!(
            auth_mode(Some("maybe"))
                .unwrap_err()
                .to_string()
                .starts_with("invalid value 'maybe' for '--auth'")
        );
    }

    #[test]
    fn an_address_names_no_host() {
        assert_eq!(address(None).unwrap(), ListenAddress::DEFAULT);
        assert!(address(Some(":7373")).is_ok() && address(Some("[::1]:0")).is_ok());
        for bad in ["localhost:7373", "127.0.0.1", "127.0.0.1:65536"] {
            assert!(address(Some(bad)).is_err(), "{bad}");
        }
    }
}
