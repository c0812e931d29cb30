//! `kes server`.

use crate::args::ServerArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

pub(crate) fn run(_args: ServerArgs, _context: &mut Context<'_>) -> Outcome {
    Err(Failure::Usage("`kes server` is not built yet".to_owned()))
}
