//! Rows by a predicate, where columns that nobody looks at cost nothing.
//!
//! On the data path wherever rows are dropped. A source leaves such columns null
//! ([`Source::reading`](crate::source::Source::reading)), and all-null columns are cut rather than
//! filtered. Invariant: the result is that of Arrow's filter.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{FilterBuilder, FilterPredicate};
use arrow::datatypes::DataType;

use crate::error::Result;

/// The rows for which `predicate` is true (neither false nor null).
pub(crate) fn filter_rows(rows: &RecordBatch, predicate: &BooleanArray) -> Result<RecordBatch> {
    let builder = FilterBuilder::new(predicate);
    let is_used_often = rows.num_columns() > 1
        || rows.columns().iter().any(|column| column.data_type().is_nested());
    let predicate = if is_used_often { builder.optimize().build() } else { builder.build() };
    let columns = rows.columns().iter().map(|column| filter_column(column, &predicate));
    let columns = columns.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(predicate.count()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

fn filter_column(column: &ArrayRef, predicate: &FilterPredicate) -> Result<ArrayRef> {
    if column.null_count() == column.len() {
        return Ok(column.slice(0, predicate.count()));
    }
    let DataType::Struct(fields) = column.data_type() else {
        return Ok(predicate.filter(column)?);
    };
    let row = column.as_struct();
    let columns = row.columns().iter().map(|column| filter_column(column, predicate));
    let columns = columns.collect::<Result<_>>()?;
    let nulls = match row.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            let valid: ArrayRef = Arc::new(BooleanArray::new(nulls.inner().clone(), None));
            Some(predicate.filter(&valid)?.as_boolean().values().clone().into())
        }
        _ => None,
    };
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        nulls,
        predicate.count(),
    )?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray, new_null_array};
    use arrow::compute::filter_record_batch;
    use arrow::datatypes::{Field, Fields, Schema};

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
}
