//! Which rows of a batch an aggregate takes: not null, and passed by its filter.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::prep_null_mask_filter;

/// The rows where `nulls` says valid and `filter` is true; `None` means all of them.
pub(super) fn selected(
    nulls: Option<&NullBuffer>,
    filter: Option<&BooleanArray>,
) -> Option<BooleanBuffer> {
    let valid = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
    let passed = filter.map(|filter| match filter.null_count() {
        0 => filter.values().clone(),
        _ => prep_null_mask_filter(filter).values().clone(),
    });
    match (valid, passed) {
        (Some(valid), Some(passed)) => Some(&valid & &passed),
        (valid, passed) => valid.or(passed),
    }
}
