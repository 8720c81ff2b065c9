//! Pieces of state on their way into files: small ones that are needed for about as long go into one file
//! together.
//!
//! Stands between operators' fragments and the checkpoint's folder, on the coordinator's thread. A window of an hour
//! by the second has thousands of slices, and a file for each would cost far more than what is in it. Invariants: the
//! rows of each fragment that is needed are in one that is written, with those of its schema alone, and that is needed
//! until the last of them is.

use arrow::compute::concat_batches;
use tidemill_core::operator::StateFragment;
use tidemill_core::{EventTime, Result};

use crate::memory::rows_bytes;

/// A file that holds so many bytes is not made larger. What of it is no longer needed stays for so long.
const FULL: usize = 4 << 20;

/// The fragments as they are written, one to a file; without those that are needed no longer, or are empty.
pub(crate) fn joined(
    fragments: Vec<StateFragment>,
    watermark: EventTime,
) -> Result<Vec<StateFragment>> {
    let is_needed = |fragment: &StateFragment| {
        fragment.needed_until > watermark && fragment.rows.num_rows() > 0
    };
    let mut fragments: Vec<_> = fragments.into_iter().filter(is_needed).collect();
    fragments.sort_by_key(|fragment| fragment.needed_until);
    let (mut joined, mut waiting, mut bytes) = (Vec::new(), Vec::<StateFragment>::new(), 0);
    for fragment in fragments {
        let more = rows_bytes(&fragment.rows);
        let is_other = |last: &StateFragment| last.rows.schema() != fragment.rows.schema();
        if bytes + more > FULL || waiting.last().is_some_and(is_other) {
            joined.extend(join(std::mem::take(&mut waiting))?);
            bytes = 0;
        }
        bytes += more;
        waiting.push(fragment);
    }
    joined.extend(join(waiting)?);
    Ok(joined)
}

/// These fragments as one.
fn join(fragments: Vec<StateFragment>) -> Result<Option<StateFragment>> {
    let Some(last) = fragments.last() else { return Ok(None) };
    let parts = fragments.iter().map(|part| &part.rows);
    let rows = match fragments.len() {
        1 => last.rows.clone(),
        _ => concat_batches(last.rows.schema_ref(), parts)?,
    };
    Ok(Some(StateFragment { rows, ..last.clone() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::cast::AsArray;
    use arrow::array::types::Int64Type;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use tidemill_core::time::BEGINNING;

    use super::*;

    fn fragment(first: i64, rows: i64, needed_until: EventTime) -> StateFragment {
        let numbers: ArrayRef = Arc::new((first..first + rows).collect::<Int64Array>());
        let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        StateFragment { rows, needed_until, watermark: BEGINNING }
    }

    /// How many rows each has, their sum, and until when it is needed.
    fn told(fragments: &[StateFragment]) -> Vec<(usize, i64, EventTime)> {
        let told = |fragment: &StateFragment| {
            let numbers = fragment.rows.column(0).as_primitive::<Int64Type>();
            (numbers.len(), numbers.values().iter().sum(), fragment.needed_until)
        };
        fragments.iter().map(told).collect()
    }

    #[test]
    fn small_fragments_share_a_file_that_is_needed_as_long_as_the_last_of_them() {
        let fragments = [(0, 2, 30), (10, 1, 20), (20, 3, 10), (30, 0, 40), (40, 1, 41)];
        let fragments = fragments.map(|(first, rows, until)| fragment(first, rows, until)).to_vec();
        let all = joined(fragments.clone(), 9).unwrap();
        assert_eq!(told(&all), [(7, 1 + 10 + 63 + 40, 41)]);
        let fewer = joined(fragments, 20).unwrap();
        assert_eq!(told(&fewer), [(3, 1 + 40, 41)], "the others' windows have fired");
        assert!(joined(Vec::new(), 0).unwrap().is_empty());
    }

    #[test]
    fn fragments_of_different_schemas_stay_apart() {
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let other = RecordBatch::try_from_iter([("word", words)]).unwrap();
        let fragments = vec![fragment(1, 2, 1), fragment(3, 1, 3), fragment(4, 1, 4)];
        let other = StateFragment { rows: other, needed_until: 2, watermark: BEGINNING };
        let all = joined([fragments, vec![other]].concat(), 0).unwrap();
        let rows: Vec<_> = all.iter().map(|f| (f.rows.num_rows(), f.needed_until)).collect();
        assert_eq!(rows, [(2, 1), (1, 2), (2, 4)]);
    }

    #[test]
    fn a_file_that_is_full_is_left_alone() {
        let half = (FULL / size_of::<i64>() / 2) as i64;
        let fragments = [(0, half, 3), (0, half, 1), (0, 1, 4), (0, 5 * half, 5), (0, 1, 6)];
        let fragments = fragments.map(|(first, rows, until)| fragment(first, rows, until));
        let all = joined(fragments.to_vec(), 0).unwrap();
        let rows: Vec<_> = all.iter().map(|f| (f.rows.num_rows() as i64, f.needed_until)).collect();
        assert_eq!(rows, [(2 * half, 3), (1, 4), (5 * half, 5), (1, 6)]);
    }
}
