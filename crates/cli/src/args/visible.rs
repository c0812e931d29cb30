//! The commands and options that are offered to people: without those that are there for scripts of former years only.

use clap::{Arg, Command};

/// What of `command` is shown.
pub(super) fn of(command: &Command) -> Command {
    let mut visible = Command::new(command.get_name().to_owned())
        .disable_help_subcommand(true)
        .subcommand_required(command.is_subcommand_required_set())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).map(arg))
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(of));
    if let Some(about) = command.get_about() {
        visible = visible.about(about.clone());
    }
    visible
}

/// The same without its relations to others, which may be hidden.
fn arg(arg: &Arg) -> Arg {
    let mut visible = Arg::new(arg.get_id().clone())
        .action(arg.get_action().clone())
        .value_parser(arg.get_value_parser().clone())
        .required(arg.is_required_set())
        .require_equals(arg.is_require_equals_set())
        .hide_possible_values(arg.is_hide_possible_values_set());
    if let Some(long) = arg.get_long() {
        visible = visible.long(long.to_owned());
    }
    if let Some(short) = arg.get_short() {
        visible = visible.short(short);
    }
    if let Some(help) = arg.get_help() {
        visible = visible.help(help.clone());
    }
    if let Some(names) = arg.get_value_names() {
        visible = visible.value_names(names.iter().cloned());
    }
    if let Some(number) = arg.get_num_args() {
        visible = visible.num_args(number);
    }
    visible
}
