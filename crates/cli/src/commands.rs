//! The commands.

mod completion;
mod config;
mod doctor;
mod identity;
mod identity_new;
mod init;
mod key;
mod list;
mod log;
mod man;
mod metric;
mod migrate;
mod offline;
mod policy;
mod policy_test;
mod server;
mod status;
mod store;
mod subject_names;
mod timestamp;
mod units;

use crate::args::{
    AuditCommand, Cli, IdentityCommand, LogCommand, ToolCommand, ToolIdentityCommand, TopCommand,
};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::version;

pub(crate) use completion::{answer, asked};

/// Runs the command that `cli` asks for.
pub(crate) fn run(cli: Cli, context: &mut Context<'_>) -> Outcome {
    let Cli {
        version,
        auto_completion,
        update,
        command,
    } = cli;
    if version {
        return context.output.text(&version::describe());
    }
    if update {
        context.deprecated("kes --update", "use kes update");
        return Err(no_update());
    }
    if auto_completion {
        return completion::install(context);
    }
    match command {
        Some(TopCommand::Init(args)) => init::run(args, context),
        Some(TopCommand::Server(args)) => server::run(args, context),
        Some(TopCommand::Ls(args)) => {
            context.warn_about_enclave(None);
            list::run(args, context)
        }
        Some(TopCommand::Key { command }) => key::run(command, context),
        Some(TopCommand::Log { args, command: None }) => {
            context.warn_about_enclave(None);
            log::run(args, context)
        }
        Some(TopCommand::Log {
            command: Some(LogCommand::Trace(args)),
            ..
        }) => {
            context.warn_about_enclave(None);
            log::trace(args, context)
        }
        Some(TopCommand::Audit {
            command: AuditCommand::Trace { json, connection },
        }) => {
            context.deprecated("kes audit trace", "use kes log");
            context.warn_about_enclave(None);
            log::show(log::Log::Audit, json, &connection, context)
        }
        Some(TopCommand::Policy { command }) => policy::run(command, context),
        Some(TopCommand::Identity {
            command: Some(command),
            subject: _,
        }) => match command {
            IdentityCommand::New(args) => identity_new::run(args, context),
            IdentityCommand::Of(args) => identity::of(&args, context),
            IdentityCommand::Info {
                identity,
                options,
                color,
            } => {
                context.set_color(color.when);
                identity::info(identity.as_deref(), &options, context)
            }
            IdentityCommand::List { pattern, options } => {
                context.deprecated("kes identity list", "use kes identity ls");
                context.warn_about_enclave(options.enclave.as_deref());
                let pattern = pattern.as_deref();
                list::list_as_lines(
                    list::What::Identities,
                    pattern,
                    options.json,
                    &options.connection,
                    context,
                )
            }
            IdentityCommand::Ls {
                pattern,
                options,
                color,
            } => {
                context.set_color(color.when);
                context.warn_about_enclave(options.enclave.as_deref());
                let pattern = pattern.as_deref();
                list::list(
                    list::What::Identities,
                    pattern,
                    options.json,
                    &options.connection,
                    context,
                )
            }
        },
        Some(TopCommand::Identity {
            command: None,
            subject: Some(subject),
        }) => identity::show(&subject, context),
        Some(TopCommand::Identity {
            command: None,
            subject: None,
        }) => identity::generate(context),
        Some(TopCommand::Status(args)) => {
            context.warn_about_enclave(None);
            status::run(args, context)
        }
        Some(TopCommand::Doctor(args)) => doctor::run(args, context),
        Some(TopCommand::Config { command }) => config::run(command, context),
        Some(TopCommand::Store { command }) => store::run(command, context),
        Some(TopCommand::Completion { shell }) => completion::script(shell, context.output),
        Some(TopCommand::Man { directory }) => man::run(&directory),
        Some(TopCommand::Update(_)) => Err(no_update()),
        Some(TopCommand::Migrate(args)) => migrate::run(args, context),
        Some(TopCommand::Tool {
            command: ToolCommand::Migrate(args),
        }) => {
            context.deprecated("kes tool migrate", "use kes migrate");
            migrate::run(args, context)
        }
        Some(TopCommand::Tool {
            command: ToolCommand::Identity { command },
        }) => match command {
            ToolIdentityCommand::New(args) => {
                context.deprecated("kes tool identity new", "use kes identity new");
                identity_new::run_with_files(args, context)
            }
            ToolIdentityCommand::Of(args) => {
                context.deprecated("kes tool identity of", "use kes identity of");
                identity::of(&args, context)
            }
        },
        Some(TopCommand::Metric(args)) => {
            context.warn_about_enclave(None);
            metric::run(args, context)
        }
        None => unreachable!("the argument parser answers where no command is named"),
    }
}

fn no_update() -> Failure {
    Failure::Usage(
        "this program does not update itself: install a new release in the way that you installed this one"
            .to_owned(),
    )
}
