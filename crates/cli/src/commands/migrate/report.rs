//! What a migration says at its end.

use anyhow::anyhow;
use kes_keystore::KeyStore;

use super::drive::{End, Tally};
use super::pattern::Pattern;
use super::place::Foreign;
use crate::failure::{Failure, Outcome, one_line};

/// Said when there is nothing to copy.
pub(super) fn nothing(source: &dyn KeyStore, pattern: &Pattern) -> String {
    if pattern.is_all() {
        format!("{source} has no keys")
    } else {
        format!("{source} has no key that matches '{}'", pattern.as_str())
    }
}

/// What became of the keys, on one line.
pub(super) fn summary(tally: &Tally, is_dry_run: bool) -> String {
    let (copied, replaced) = if is_dry_run {
        ("Would copy", "would replace")
    } else {
        ("Copied", "replaced")
    };
    let mut line = format!("{copied} {}", keys(tally.copied));
    if tally.replaced > 0 {
        line.push_str(&format!(", {replaced} {}", tally.replaced));
    }
    let be = |count| if count == 1 { "was" } else { "were" };
    if tally.present > 0 {
        line.push_str(&format!(
            "; {} {} there already",
            tally.present,
            be(tally.present)
        ));
    }
    if tally.gone > 0 {
        line.push_str(&format!("; {} {} deleted meanwhile", tally.gone, be(tally.gone)));
    }
    line
}

/// Whether all went well, or everything that did not. `total` is how many keys there were.
pub(super) fn outcome(tally: Tally, foreign: Foreign, total: u64) -> Outcome {
    let seen = tally.seen();
    let Tally {
        problems,
        more_problems,
        end,
        ..
    } = tally;
    let refused = problems.len() as u64 + more_problems;
    let mut errors: Vec<_> = problems
        .into_iter()
        .map(|(name, problem)| one_line(&anyhow!(problem).context(format!("key '{name}'"))))
        .collect();
    if more_problems > 0 {
        errors.push(format!("{} more were not copied either", keys(more_problems)));
    }
    let left = || {
        format!(
            "{seen} of {} were looked at; once the cause is mended, the same command with --merge goes on from there",
            keys(total)
        )
    };
    match end {
        Some(End::Output(failure)) => return Err(failure),
        Some(End::Interrupted) if errors.is_empty() => return Err(Failure::Interrupted),
        Some(End::Listing(error)) => {
            errors.push(one_line(
                &anyhow!(error).context("the source does not list its keys any further"),
            ));
            errors.push(left());
        }
        Some(End::Problem) if seen < total => errors.push(left()),
        Some(End::Interrupted | End::Problem) | None => {}
    }
    let Foreign { names, more } = foreign;
    let foreign = names.len() as u64 + more;
    errors.extend(
        names
            .into_iter()
            .map(|name| format!("'{name}' was not copied: no key can have this name")),
    );
    if more > 0 {
        errors.push(format!(
            "{more} more files were not copied, since no key can have their names"
        ));
    }
    if refused + foreign > 1 {
        errors.push(format!("{} were not copied", keys(refused + foreign)));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::Errors(errors))
    }
}

fn keys(count: u64) -> String {
    format!("{count} key{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use kes_keystore::{EntryName, MemoryStore, StoreError};

    use super::super::copy::Problem;
    use super::*;

    fn errors(tally: Tally, foreign: Foreign, total: u64) -> Vec<String> {
        match outcome(tally, foreign, total) {
            Err(Failure::Errors(errors)) => errors,
            other => panic!("{other:?}"),
        }
    }

    fn problem(name: &str, problem: Problem) -> (EntryName, Problem) {
        (EntryName::parse(name).unwrap(), problem)
    }

    #[test]
    fn the_last_line_counts_what_was_done() {
        let tally = |copied, replaced, present, gone| Tally {
            copied,
            replaced,
            present,
            gone,
            ..Tally::default()
        };
        assert_eq!(summary(&tally(0, 0, 0, 0), false), "Copied 0 keys");
        assert_eq!(
            summary(&tally(1, 0, 1, 0), false),
            "Copied 1 key; 1 was there already"
        );
        assert_eq!(
            summary(&tally(3, 1, 2, 4), false),
            "Copied 3 keys, replaced 1; 2 were there already; 4 were deleted meanwhile"
        );
        assert_eq!(
            summary(&tally(3, 2, 0, 0), true),
            "Would copy 3 keys, would replace 2"
        );
    }

    #[test]
    fn an_empty_source_is_said_to_be_one() {
        let store = MemoryStore::new();
        let all = nothing(&store, &Pattern::parse(None).unwrap());
        assert_eq!(all, format!("{store} has no keys"));
        let some = nothing(&store, &Pattern::parse(Some("a*")).unwrap());
        assert_eq!(some, format!("{store} has no key that matches 'a*'"));
    }

    #[test]
    fn every_key_that_was_not_copied_is_named() {
        let reason = StoreError::InvalidName {
            reason: "too long".to_owned(),
        };
        let tally = Tally {
            copied: 2,
            problems: vec![
                problem("a", Problem::Differs),
                problem("b", Problem::Refused(reason)),
            ],
            ..Tally::default()
        };
        let foreign = Foreign {
            names: vec!["x.y".to_owned()],
            more: 0,
        };
        assert_eq!(
            errors(tally, foreign, 4),
            [
                "key 'a': the target has another key of this name",
                "key 'b': the target does not take this name: invalid name: too long",
                "'x.y' was not copied: no key can have this name",
                "3 keys were not copied",
            ]
        );
        assert!(outcome(Tally::default(), Foreign::default(), 0).is_ok());
    }

    #[test]
    fn a_migration_that_stopped_says_how_to_go_on() {
        let tally = Tally {
            copied: 2,
            problems: vec![problem("c", Problem::Exists)],
            end: Some(End::Problem),
            ..Tally::default()
        };
        let errors = errors(tally, Foreign::default(), 10);
        let [exists, left] = errors.as_slice() else {
            panic!("{errors:?}")
        };
        assert!(
            exists.starts_with("key 'c': ") && exists.contains("--force"),
            "{exists}"
        );
        assert!(
            left.starts_with("3 of 10 keys were looked at") && left.contains("--merge"),
            "{left}"
        );
        let interrupted = Tally {
            end: Some(End::Interrupted),
            ..Tally::default()
        };
        assert!(matches!(
            outcome(interrupted, Foreign::default(), 10),
            Err(Failure::Interrupted)
        ));
    }
}
