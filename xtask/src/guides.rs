//! Guides that others have published for the reference implementation, step by step against ours: what people have followed for years
//! must go on working, spellings of old releases included.
//!
//! What a guide does in a console of AWS or with the command `vault` is done through the API here, which is what these do. Their
//! configurations are as they print them, with the addresses of the peers.

mod aws;
mod place;
mod vault;

use anyhow::{Context, Result};

use self::place::Place;
use crate::cargo;
use crate::report::Report;

/// One step of a guide.
type Step<P> = (&'static str, fn(&mut Place, &P) -> Result<()>);

/// Runs the guides whose names contain `only`, or all.
pub(crate) fn run(report: &mut Report, only: Option<&str>) {
    let mut kes = None;
    report.step(
        "guides: the executable is built",
        &mut kes,
        |kes| {
            *kes = Some(cargo::build_kes()?);
            Ok(())
        },
        |_| String::new(),
    );
    let Some(kes) = kes else {
        return;
    };
    let mut found = false;
    let mut wanted = |name: &str| {
        let is_wanted = only.is_none_or(|part| name.contains(part));
        found |= is_wanted;
        is_wanted
    };
    if wanted(vault::NAME) {
        guide(report, vault::NAME, &kes, vault::start, vault::STEPS);
    }
    for (name, steps) in aws::GUIDES {
        if wanted(name) {
            guide(report, name, &kes, aws::start, steps);
        }
    }
    if let (false, Some(only)) = (found, only) {
        report.add(0, &[format!("guides: no guide is called '{only}'")]);
    }
}

/// Runs the steps of one guide in order, in a place of its own. After one that fails, the rest could only fail too.
fn guide<P>(
    report: &mut Report,
    name: &str,
    kes: &std::path::Path,
    start: fn(&mut Place) -> Result<P>,
    steps: &[Step<P>],
) {
    let mut place = match Place::new(kes) {
        Ok(place) => place,
        Err(error) => return report.add(0, &[format!("guides: {name}: {error:#}")]),
    };
    let mut peer = None;
    let started = report.step(
        &format!("guides: {name}: the peer starts"),
        &mut place,
        |place| {
            peer = Some(start(place).context("starting the peer")?);
            Ok(())
        },
        Place::evidence,
    );
    let Some(peer) = peer.filter(|_| started) else {
        return;
    };
    for (step, run) in steps {
        let passed = report.step(
            &format!("guides: {name}: {step}"),
            &mut place,
            |place| run(place, &peer),
            Place::evidence,
        );
        if !passed {
            return;
        }
    }
}
