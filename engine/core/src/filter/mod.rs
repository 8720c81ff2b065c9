//! Rows by a mask, where columns that nobody looks at cost nothing.
//!
//! On the data path wherever rows are dropped, or go different ways. A source leaves such columns null
//! ([`Source::reading`](crate::source::Source::reading)), and all-null columns are cut rather than
//! filtered. Invariant: the result is that of Arrow's filter.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{FilterBuilder, FilterPredicate, prep_null_mask_filter};
use arrow::datatypes::DataType;

use self::vectors::{compress, divide};
use crate::error::{Error, Result};

mod vectors;

/// Where no more than one row in so many is kept, Arrow goes from one to the next, which is less than to go over all.
const SPARSE: usize = 64;

/// The rows for which `predicate` is true (neither false nor null).
pub(crate) fn filter_rows(rows: &RecordBatch, predicate: &BooleanArray) -> Result<RecordBatch> {
    let kept = Kept::new(predicate);
    let columns = rows.columns().iter().map(|column| kept.of(column)).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(kept.count()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// The rows of a batch that are kept, of which each column is asked for them.
pub struct Kept {
    rows: BooleanArray,
    count: usize,
    /// For columns that are not moved by vectors.
    arrow: OnceCell<FilterPredicate>,
}

impl Kept {
    /// Those for which `rows` is true (neither false nor null).
    pub fn new(rows: &BooleanArray) -> Self {
        let rows = match rows.null_count() {
            0 => rows.clone(),
            _ => prep_null_mask_filter(rows),
        };
        Self { count: rows.true_count(), rows, arrow: OnceCell::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What a column has in these rows.
    ///
    /// # Errors
    /// A column of another length.
    pub fn of(&self, column: &ArrayRef) -> Result<ArrayRef> {
        if column.len() != self.rows.len() {
            let (rows, mask) = (column.len(), self.rows.len());
            return Err(Error::internal(format!("a mask of {mask} rows for a column of {rows}")));
        }
        if column.null_count() == column.len() {
            return Ok(column.slice(0, self.count));
        }
        if self.count > column.len() / SPARSE
            && let Some(kept) = compress(column, self.rows.values(), self.count)
        {
            return Ok(kept);
        }
        match column.data_type() {
            DataType::Struct(_) => self.of_row(column.as_struct()),
            _ => Ok(self.arrow().filter(column)?),
        }
    }

    fn of_row(&self, row: &StructArray) -> Result<ArrayRef> {
        let columns = row.columns().iter().map(|column| self.of(column)).collect::<Result<_>>()?;
        let nulls = match row.nulls() {
            Some(nulls) if nulls.null_count() > 0 => {
                let valid: ArrayRef = Arc::new(BooleanArray::new(nulls.inner().clone(), None));
                Some(self.of(&valid)?.as_boolean().values().clone().into())
            }
            _ => None,
        };
        let fields = row.fields().clone();
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, self.count)?))
    }

    fn arrow(&self) -> &FilterPredicate {
        self.arrow.get_or_init(|| FilterBuilder::new(&self.rows).optimize().build())
    }
}

/// The rows of a batch that go one way, and those that go the other, of which each column is asked for both.
pub struct Divided {
    kept: Kept,
    others: Kept,
}

impl Divided {
    /// Those for which `rows` is true, and the others; none is null.
    ///
    /// # Panics
    /// A null in `rows`.
    pub fn new(rows: &BooleanArray) -> Self {
        assert!(rows.null_count() == 0, "each row goes one way or the other");
        let others = BooleanArray::new(!rows.values(), None);
        Self { kept: Kept::new(rows), others: Kept::new(&others) }
    }

    /// How many go either way.
    pub fn counts(&self) -> [usize; 2] {
        [self.kept.count, self.others.count]
    }

    /// What a column has in the rows that go either way.
    ///
    /// # Errors
    /// A column of another length.
    pub fn of(&self, column: &ArrayRef) -> Result<[ArrayRef; 2]> {
        if column.len() == self.kept.rows.len()
            && let Some(both) = divide(column, self.kept.rows.values(), self.kept.count)
        {
            return Ok(both);
        }
        Ok([self.kept.of(column)?, self.others.of(column)?])
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Float64Array, Int32Array, Int64Array, StringArray, StringViewArray,
        TimestampMicrosecondArray, UInt64Array, new_null_array,
    };
    use arrow::buffer::{BooleanBuffer, NullBuffer};
    use arrow::compute::{filter, filter_record_batch, not};
    use arrow::datatypes::{Field, Fields, Schema};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn it_is_arrows_filter() {
        let text: ArrayRef =
            Arc::new(StringViewArray::from_iter((0..100).map(|n| Some(format!("the text {n:9}")))));
        let numbers: ArrayRef =
            Arc::new(Int64Array::from_iter((0..100).map(|n| (n % 7 > 0).then_some(n))));
        let nothing = new_null_array(&DataType::Utf8View, 100);
        let fields = Fields::from_iter(
            [("n", &numbers), ("nothing", &nothing)]
                .map(|(name, column)| Field::new(name, column.data_type().clone(), true)),
        );
        let children = vec![numbers.clone(), nothing.clone()];
        let valid = Some((0..100).map(|n| n % 3 > 0).collect::<Vec<bool>>().into());
        let some: ArrayRef = Arc::new(StructArray::new(fields.clone(), children.clone(), valid));
        let all: ArrayRef = Arc::new(StructArray::new(fields, children, None));
        let none: ArrayRef = new_null_array(all.data_type(), 100);
        let columns = [text, numbers, nothing, some, all, none];
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(n, column)| Field::new(format!("c{n}"), column.data_type().clone(), true))
            .collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec()).unwrap();
        for keep in
            [|_| None, |_| Some(true), |n| Some(n % 5 == 0), |n| (n % 4 > 0).then_some(n > 50)]
        {
            let predicate = BooleanArray::from_iter((0..100).map(keep));
            let expected = filter_record_batch(&rows, &predicate).unwrap();
            assert_eq!(filter_rows(&rows, &predicate).unwrap(), expected);
            for column in 0..rows.num_columns() {
                let rows = rows.project(&[column]).unwrap();
                let expected = expected.project(&[column]).unwrap();
                assert_eq!(filter_rows(&rows, &predicate).unwrap(), expected);
            }
            let empty = rows.project(&[]).unwrap();
            let kept = filter_rows(&empty, &predicate).unwrap().num_rows();
            assert_eq!(kept, expected.num_rows());
        }
    }

    #[test]
    fn what_is_kept_is_what_arrow_keeps() {
        for seed in 0..300 {
            println!("seed {seed}");
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let len = rng.random_range(0..300);
            let share = [0.0, 0.1, 0.5, 0.99, 1.0][rng.random_range(0..5)];
            let kept: BooleanArray = (0..len).map(|_| Some(rng.random_bool(share))).collect();
            let nulls: Int64Array = (0..len).map(|n| (n % 7 > 0).then_some(n)).collect();
            let valid = Int64Array::new(
                (0..len).collect::<Vec<_>>().into(),
                Some(NullBuffer::new_valid(len as usize)),
            );
            let times = TimestampMicrosecondArray::from_iter_values(0..len).with_timezone("UTC");
            let columns: [ArrayRef; 8] = [
                Arc::new(UInt64Array::from_iter_values((0..len).map(|n| u64::MAX - n as u64))),
                Arc::new(times),
                Arc::new(valid),
                Arc::new(Int64Array::from_iter_values((0..len).map(|n| n * 1_000_000_007))),
                Arc::new(Float64Array::from_iter_values((0..len).map(|n| n as f64 / 3.0))),
                Arc::new(Int32Array::from_iter_values((0..len).map(|n| n as i32))),
                Arc::new(StringArray::from_iter_values((0..len).map(|n| n.to_string()))),
                Arc::new(nulls),
            ];
            let first = rng.random_range(0..=len as usize);
            let rest = len as usize - first;
            for column in columns {
                for (column, kept) in [
                    (column.slice(first, rest), kept.slice(first, rest)),
                    (column.clone(), kept.clone()),
                ] {
                    let others = not(&kept).unwrap();
                    let expected = [&kept, &others].map(|mask| filter(&column, mask).unwrap());
                    assert_eq!(&Kept::new(&kept).of(&column).unwrap(), &expected[0]);
                    let divided = Divided::new(&kept);
                    assert_eq!(divided.of(&column).unwrap(), expected);
                    assert_eq!(divided.counts(), expected.map(|side| side.len()));
                }
            }
        }
    }

    #[test]
    fn what_is_null_in_the_mask_is_not_kept_whatever_lies_under_it() {
        for one_in in [2, 3 * SPARSE] {
            let bits = BooleanBuffer::collect_bool(10_000, |row| row % one_in == 0);
            let valid = NullBuffer::from_iter((0..10_000).map(|row| row % 3 > 0));
            let mask = BooleanArray::new(bits, Some(valid));
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
            let kept = Kept::new(&mask);
            let expected = filter(&column, &mask).unwrap();
            assert_eq!(kept.count(), expected.len());
            assert_eq!(&kept.of(&column).unwrap(), &expected);
        }
    }

    #[test]
    fn a_column_of_another_length_is_an_error() {
        let kept = Kept::new(&BooleanArray::from(vec![true; 3]));
        let [short, long, nothing]: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            new_null_array(&DataType::Int64, 2),
        ];
        for column in [short, long, nothing] {
            assert!(kept.of(&column).unwrap_err().to_string().contains("a mask of 3 rows"));
        }
    }
}
