//! A drain that takes too long: what holds it up, and where the job goes on.
//!
//! Invariant: giving up is a crash to everything outside. What was not committed is committed, or made again,
//! by the next run.

use std::time::Duration;

use tidemill_core::{Epoch, Error};

use crate::status::Shared;

/// A commit is given so long, though patience with the drain has ended meanwhile.
pub(crate) const COMMIT_CHANCE: Duration = Duration::from_secs(1);

/// Why the job ends without being drained. `committing`: the epoch that exists, and the sinks that have not
/// committed it.
pub(crate) fn not_drained(
    patience: Duration,
    committing: Option<(Epoch, Vec<&str>)>,
    shared: &Shared,
    is_checkpointed: bool,
) -> Error {
    let reason = match committing {
        Some((epoch, sinks)) => format!("epoch {epoch} is not committed by {}", sinks.join(", ")),
        None => {
            let busy = shared.views.iter().find_map(|view| view.busy.lock().clone());
            busy.map_or("rows are still under way".to_owned(), |node| {
                format!("rows wait for {node}")
            })
        }
    };
    let resumes = match shared.changing.lock().checkpoints.last_epoch {
        Some(epoch) => format!("It stopped behind epoch {epoch}; it resumes there"),
        None if is_checkpointed => {
            "It has no checkpoint yet: the next run starts where this one did".to_owned()
        }
        None => "What was under way is lost, since the job makes no checkpoints".to_owned(),
    };
    Error::external(format!(
        "the job was to stop, and is not drained after {patience:.0?}: {reason}. {resumes}"
    ))
}
