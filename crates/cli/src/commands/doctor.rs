//! `kes doctor`: what is wrong with a configuration and its world, before a server runs or while it does.
//!
//! A check is a function that takes the [`Subject`] and answers [`Finding`]s; [`CHECKS`] lists them. All run at once, each
//! within [`LIMIT`], so that one that waits for a service or a disk that hangs keeps nobody else. None changes anything, but
//! the probe of the key store with `--write`.

mod address;
mod authorities;
mod certificate;
mod configuration;
mod files;
mod finding;
mod identities;
mod names;
mod pki;
mod policies;
mod probe;
mod process;
mod proxies;
mod report;
mod running;
mod store;
mod subject;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::finding::{Finding, Findings, Severity};
use self::report::Report;
use self::subject::Subject;
use crate::args::DoctorArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::work;

/// How long a check may take, and each step of one that has several.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the check of the key store may take when the user has had enough: a step, two tries to delete, a connection to close.
const LEAVING: Duration = Duration::from_secs(45);

/// Exit code when there are warnings and no errors. 2 stands for a group of commands without one of them.
const WARNINGS: u8 = 3;

/// One thing to look at.
struct Check {
    /// As it is called in the output.
    name: &'static str,
    run: Run,
    /// Whether it asks somebody else, and is left out by `--offline`.
    asks: bool,
    /// Whether it can do without a configuration that is right.
    always: bool,
}

/// What checks that wait for others answer.
type Answer = Pin<Box<dyn Future<Output = Findings> + Send>>;

/// How a check runs.
enum Run {
    /// It may wait for a disk.
    Local(fn(&Subject, &mut Findings)),
    /// It waits for others, and bounds its steps itself.
    Asking(fn(Arc<Subject>) -> Answer),
}

/// All checks, in the order of the output.
const CHECKS: &[Check] = &[
    local("configuration", configuration::check).always(),
    local("certificate", certificate::check),
    local("names", names::check),
    local("authorities", authorities::check),
    local("files", files::check),
    asking("address", |subject| Box::pin(address::check(subject))),
    asking("store", |subject| Box::pin(store::check(subject))),
    local("policies", policies::check),
    local("identities", identities::check),
    local("process", process::check).always(),
    local("proxies", proxies::check),
];

const fn local(name: &'static str, check: fn(&Subject, &mut Findings)) -> Check {
    Check {
        name,
        run: Run::Local(check),
        asks: false,
        always: false,
    }
}

const fn asking(name: &'static str, check: fn(Arc<Subject>) -> Answer) -> Check {
    Check {
        name,
        run: Run::Asking(check),
        asks: true,
        always: false,
    }
}

impl Check {
    const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// Starts the check. It goes on by itself.
    fn start(&self, subject: &Arc<Subject>) -> JoinHandle<Findings> {
        let (name, subject) = (self.name, Arc::clone(subject));
        match self.run {
            Run::Asking(check) => tokio::spawn(check(subject)),
            Run::Local(check) => tokio::spawn(async move {
                let work = tokio::task::spawn_blocking(move || {
                    let mut findings = Findings::of(name);
                    check(&subject, &mut findings);
                    findings
                });
                let mut unfinished = Findings::of(name);
                match timeout(LIMIT, work).await {
                    Ok(Ok(findings)) => return findings,
                    Ok(Err(_)) => mistake(&mut unfinished),
                    Err(_) => unfinished.error(
                        format!("this check was not done within {} s", LIMIT.as_secs()),
                        "a file or folder that the configuration names does not answer: look at its disk or mount",
                    ),
                };
                unfinished
            }),
        }
    }
}

pub(crate) fn run(args: DoctorArgs, context: &mut Context<'_>) -> Outcome {
    let (json, quiet, strict) = (args.json, args.quiet, args.strict);
    context.set_color(args.color.when);
    let write = args.write;
    let environment = context.environment.clone();
    let clock = Arc::clone(&context.clock);
    let (path, findings) = work::run(async |interrupt| {
        let (give_up, given_up) = tokio::sync::watch::channel(false);
        let subject = interrupt
            .or(Subject::read(args, environment, clock, given_up))
            .await?;
        let subject = Arc::new(subject);
        let mut running: Vec<_> = CHECKS
            .iter()
            .filter(|check| subject.settings.is_some() || check.always)
            .filter(|check| !(subject.offline && check.asks))
            .map(|check| (check.name, check.start(&subject)))
            .collect();
        let mut findings = Vec::new();
        let collected = interrupt
            .or(async {
                for (name, check) in &mut running {
                    findings.extend(collect(name, check).await);
                }
            })
            .await;
        if let Err(failure) = collected {
            if write {
                // A key that was made for a try is deleted again, and if it cannot be, the user learns its name.
                let _ = give_up.send(true);
                for (name, check) in running.iter_mut().filter(|(name, _)| *name == "store") {
                    let left = timeout(LEAVING, collect(name, check)).await.unwrap_or_default();
                    for finding in left.iter().filter(|finding| finding.is_left_behind) {
                        context.warn(&finding.what);
                    }
                }
            }
            return Err(failure);
        }
        Ok((subject.path.display().to_string(), findings))
    })?;
    let report = Report::new(path, findings, strict);
    report.print(json, quiet, context.output)?;
    context.output.flush()?;
    match report.worst() {
        Severity::Error => Err(Failure::Found(1)),
        Severity::Warning => Err(Failure::Found(WARNINGS)),
        Severity::Note | Severity::Ok => Ok(()),
    }
}

async fn collect(name: &'static str, check: &mut JoinHandle<Findings>) -> Vec<Finding> {
    if let Ok(findings) = check.await {
        return findings.into_inner();
    }
    let mut findings = Findings::of(name);
    mistake(&mut findings);
    findings.into_inner()
}

/// Says that a check has panicked.
fn mistake(findings: &mut Findings) -> &mut Finding {
    findings.error(
        "this check has failed by a mistake of its own",
        "report it, with the configuration as far as it is not secret",
    )
}
