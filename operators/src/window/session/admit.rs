//! The fate of each row at the entrance of a session window: it counts, is late, or is a dead letter.
//! First step of combiners and fused operators. Invariant: the decision for a row depends on its event
//! time and its split's watermark alone.

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use arrow::buffer::ScalarBuffer;
use tidemill_core::operator::{Fate, Output};
use tidemill_core::{Batch, EventTime, Result};

use crate::window::place::{Verdict, judge, out_of_range};
use crate::window::plan::{Evaluated, Plan};

/// Event times keep this much more than the gap from the ends of time (microseconds).
const MARGIN: i64 = 1_000;

/// Evaluates a batch; returns the rows that count, which are accounted for, with their event times.
/// The others go out at the side.
pub(super) fn admit(
    plan: &Plan,
    gap: i64,
    watermark: EventTime,
    batch: Batch,
    out: &mut dyn Output,
) -> Result<(Evaluated, ScalarBuffer<EventTime>)> {
    let (batch, rows) = plan.evaluate(batch, out)?;
    let margin = gap.saturating_add(MARGIN);
    let in_range = i64::MIN + margin..=i64::MAX - margin;
    // The usual case: all rows are on time.
    if let Some(range) = batch.time_range(plan.time)
        && batch.floor.is_none()
        && range.min >= watermark
        && in_range.contains(&range.min)
        && in_range.contains(&range.max)
    {
        out.account(Fate::Counted, rows.rows);
        let times = batch.rows.column(plan.time).as_primitive::<TimestampMicrosecondType>();
        return Ok((rows, times.values().clone()));
    }
    let (rows, times) = judge(plan, watermark, &batch, rows, out, |time, floor| {
        if !in_range.contains(&time) {
            Verdict::Rejected(out_of_range(time))
        } else if time < floor {
            Verdict::Late
        } else {
            Verdict::Placed(time)
        }
    })?;
    Ok((rows, times.into()))
}
