//! `kes store backup`: a backup from the server into a file, which appears only when the backup is whole.

use anyhow::Context as _;
use kes_client::Client;
use kes_keystore_embedded::{BackupCheck, Report};

use super::report::{self, Written};
use crate::args::StoreBackupArgs;
use crate::connection::{client, explain_to_admin};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::files::{self, Existing, Growing};
use crate::progress::Progress;
use crate::work;

pub(super) fn run(args: StoreBackupArgs, context: &mut Context<'_>) -> Outcome {
    let StoreBackupArgs {
        out,
        force,
        json,
        connection,
    } = args;
    if out.as_os_str() == "-" {
        return Err(Failure::Usage(
            "a backup is good only when it is whole, so it goes to a file that appears then: name one instead of '-'"
                .to_owned(),
        ));
    }
    if !force {
        files::refuse_existing(&out)?;
    }
    let client = client(&connection, context)?;
    // Before the server is asked, so that it does not begin what cannot be kept.
    let file = Growing::new(&out)?;
    let mut progress = Progress::counting("keys");
    let received = work::run(async |interrupt| interrupt.or(receive(&client, file, &mut progress)).await?);
    progress.finish();
    let (report, size, file) = received?;
    file.appear(if force { Existing::Replace } else { Existing::Keep })?;
    let written = Written {
        path: &out,
        size: Some(size),
    };
    report::print(&report, Some(written), json, context.output)
}

/// Receives a backup, and checks every piece of it on its way.
async fn receive<'p>(
    client: &Client,
    mut file: Growing<'p>,
    progress: &mut Progress,
) -> Outcome<(Report, u64, Growing<'p>)> {
    let mut backup = client.store_backup().await.map_err(explain_to_admin)?;
    let (mut check, mut size) = (BackupCheck::new(), 0);
    while let Some(piece) = backup.next().await.map_err(explain_to_admin)? {
        check.update(&piece).context(BAD)?;
        size += piece.len() as u64;
        file.write(&piece)?;
        progress.set(check.entries());
    }
    let report = check.finish().context(BAD)?;
    Ok((report, size, file))
}

/// Said of a backup that is not what it should be.
const BAD: &str = "what the server sent is not kept";
