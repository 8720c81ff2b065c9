//! Columns of state that are equal are written once: aggregates of one column share much of their
//! state, and the bounds of a tumbling window's slice are one number twice.
//!
//! ```text
//! handed over   end  first_end  key  n   sum.n  sum  avg.n  avg
//! written       end  ·0         key  n   ·3     sum  ·3     ·5      a column of nulls, of no bytes
//! ```
//!
//! Stands between operators' fragments and [`codec`](crate::codec). Invariant: `restored` gives back
//! what `shared` got, names, types and metadata included, and leaves alone what it did not write.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, NullArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tidemill_core::error::{Error, Result};

/// Metadata of a field that is written without values: the number of the column that has them. Persisted.
const SAME_AS: &str = "tidemill.same-as";

/// The batches as they are written. All have one schema.
pub(crate) fn shared(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let columns = 0..first.num_columns();
    let earlier = |n: usize| (0..n).find(|earlier| are_equal(batches, *earlier, n));
    // An earlier one that is equal is the first of its kind: it has values.
    let same_as: Vec<Option<usize>> = columns.map(earlier).collect();
    if same_as.iter().all(Option::is_none) {
        return Ok(batches.to_vec());
    }
    let fields = first.schema_ref().fields().iter().zip(&same_as);
    let schema = with_fields(first.schema_ref(), fields.map(|(field, of)| written(field, *of)));
    let write = |batch: &RecordBatch| {
        let nulls = || Arc::new(NullArray::new(batch.num_rows())) as ArrayRef;
        let columns = batch.columns().iter().zip(&same_as);
        let columns = columns.map(|(column, of)| of.map_or_else(|| column.clone(), |_| nulls()));
        of_rows(&schema, columns.collect(), batch.num_rows())
    };
    batches.iter().map(write).collect()
}

/// The batches as they were handed over.
pub(crate) fn restored(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(batches) };
    let of = first.schema_ref().fields();
    let same_as: Vec<Option<usize>> =
        of.iter().map(|field| same_as(field, of)).collect::<Result<_>>()?;
    if same_as.iter().all(Option::is_none) {
        return Ok(batches);
    }
    let read = |(field, from): (&FieldRef, &Option<usize>)| match from {
        None => field.clone(),
        Some(from) => {
            let mut metadata = field.metadata().clone();
            metadata.remove(SAME_AS);
            let from = &of[*from];
            let field = Field::new(field.name(), from.data_type().clone(), from.is_nullable());
            Arc::new(field.with_metadata(metadata))
        }
    };
    let schema = with_fields(first.schema_ref(), of.iter().zip(&same_as).map(read));
    let read = |batch: RecordBatch| {
        let column = |(n, of): (usize, &Option<usize>)| batch.column(of.unwrap_or(n)).clone();
        let columns = same_as.iter().enumerate().map(column).collect();
        of_rows(&schema, columns, batch.num_rows())
    };
    batches.into_iter().map(read).collect()
}

/// Whether two columns are of one type and hold the same, bit for bit, in all batches. Columns of nulls are
/// not worth it.
fn are_equal(batches: &[RecordBatch], a: usize, b: usize) -> bool {
    let fields = batches[0].schema_ref().fields();
    let (a_field, b_field) = (&fields[a], &fields[b]);
    let alike = a_field.data_type() == b_field.data_type()
        && a_field.is_nullable() == b_field.is_nullable()
        && !matches!(a_field.data_type(), DataType::Null);
    let equal = |batch: &RecordBatch| {
        let (a, b) = (batch.column(a), batch.column(b));
        Arc::ptr_eq(a, b) || a.to_data() == b.to_data()
    };
    alike && batches.iter().all(equal)
}

fn written(field: &FieldRef, same_as: Option<usize>) -> FieldRef {
    let Some(of) = same_as else { return field.clone() };
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(SAME_AS.to_owned(), of.to_string());
    Arc::new(Field::new(field.name(), DataType::Null, true).with_metadata(metadata))
}

/// The column that has this one's values, where it is not itself.
fn same_as(field: &Field, fields: &[FieldRef]) -> Result<Option<usize>> {
    let Some(of) = field.metadata().get(SAME_AS) else { return Ok(None) };
    let of = of.parse().ok().filter(|of: &usize| {
        fields.get(*of).is_some_and(|of| !of.metadata().contains_key(SAME_AS))
    });
    let name = field.name();
    let unknown =
        || Error::corrupt(format!("column `{name}` is the same as one that is not there"));
    of.ok_or_else(unknown).map(Some)
}

fn with_fields(schema: &SchemaRef, fields: impl Iterator<Item = FieldRef>) -> SchemaRef {
    let fields: Vec<FieldRef> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn of_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Float64Array, Int64Array, NullArray};

    use super::*;

    fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
        let metadata = HashMap::from([("of".to_owned(), name.to_owned())]);
        Field::new(name, data_type, nullable).with_metadata(metadata)
    }

    fn batch(zero: f64, other: i64) -> RecordBatch {
        let fields = vec![
            field("end", DataType::Int64, false),
            field("first", DataType::Int64, false),
            field("nullable", DataType::Int64, true),
            field("other", DataType::Int64, false),
            field("sum", DataType::Float64, true),
            field("avg", DataType::Float64, true),
            field("spill", DataType::Binary, true),
            field("avg spill", DataType::Binary, true),
            field("none", DataType::Null, true),
            field("none either", DataType::Null, true),
        ];
        let ends: ArrayRef = Arc::new(Int64Array::from(vec![7, 7]));
        let spill = || Arc::new(BinaryArray::from_iter([None, Some(b"x")])) as ArrayRef;
        let float = |n: f64| Arc::new(Float64Array::from(vec![Some(n), Some(f64::NAN)]));
        let columns: Vec<ArrayRef> = vec![
            ends.clone(),
            Arc::new(Int64Array::from(vec![7, 7])),
            ends.clone(),
            Arc::new(Int64Array::from(vec![7, other])),
            float(0.0),
            float(zero),
            spill(),
            spill(),
            Arc::new(NullArray::new(2)),
            Arc::new(NullArray::new(2)),
        ];
        let metadata = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        RecordBatch::try_new(schema, columns).unwrap()
    }

    fn written_once(batches: &[RecordBatch]) -> Vec<String> {
        let shared = shared(batches).unwrap();
        let fields = shared[0].schema_ref().fields().iter();
        let own = fields.filter(|field| !field.metadata().contains_key(SAME_AS));
        own.map(|field| field.name().clone()).collect()
    }

    #[test]
    fn what_is_equal_is_written_once_and_comes_back() {
        let batches = [batch(0.0, 8), batch(0.0, 7)];
        assert_eq!(
            written_once(&batches),
            ["end", "nullable", "other", "sum", "spill", "none", "none either"]
        );
        assert_eq!(restored(shared(&batches).unwrap()).unwrap(), batches);
    }

    #[test]
    fn what_differs_in_one_batch_or_in_one_bit_is_written() {
        let other = written_once(&[batch(0.0, 7), batch(0.0, 8)]);
        assert!(other.contains(&"other".to_owned()), "{other:?}");
        let signed = [batch(0.0, 7), batch(-0.0, 7)];
        assert!(written_once(&signed).contains(&"avg".to_owned()));
        let back = restored(shared(&signed).unwrap()).unwrap();
        let zero = back[1].column(5).to_data().buffers()[0].typed_data::<f64>()[0];
        assert!(zero.is_sign_negative());
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_damage() {
        let metadata = HashMap::from([(SAME_AS.to_owned(), "3".to_owned())]);
        let field = Field::new("x", DataType::Null, true).with_metadata(metadata);
        let nulls: ArrayRef = Arc::new(NullArray::new(1));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![nulls]).unwrap();
        assert!(restored(vec![batch]).unwrap_err().to_string().contains("`x`"));
    }
}
