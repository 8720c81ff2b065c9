//! Operators without state: what they pass on, drop and reject.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal, cast};
use tidemill_core::Batch;
use tidemill_core::element::Origin;
use tidemill_core::operator::{Fate, OperatorFactory};
use tidemill_core::source::SplitId;
use tidemill_core::testing::{Collected, context};
use tidemill_operators::{Filter, Projection, RowOperator, Union};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("text", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn batch() -> Batch {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "x", "3", "y", "5"]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(5)]));
    let floor = Some(Int64Array::from(vec![7, 7, 8, 8, 9]));
    let origin = Some(Origin { split: SplitId::new("s"), records: None, rows: None });
    let rows = RecordBatch::try_new(schema(), vec![text, n]).unwrap();
    Batch { floor, origin, ..Batch::new(rows) }
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, schema().index_of(name).unwrap()))
}

/// `CAST(text AS BIGINT)`, which fails for some rows.
fn number() -> Arc<dyn PhysicalExpr> {
    cast(column("text"), &schema(), DataType::Int64).unwrap()
}

fn greater(left: Arc<dyn PhysicalExpr>, than: i64) -> Arc<dyn PhysicalExpr> {
    let than = Arc::new(Literal::new(ScalarValue::Int64(Some(than))));
    Arc::new(BinaryExpr::new(left, datafusion_expr::Operator::Gt, than))
}

fn process(factory: &dyn OperatorFactory, batch: Batch) -> Collected {
    let mut out = Collected::default();
    let mut operator = factory.create(&context(0, 1)).unwrap();
    operator.process(0, batch, &mut out).unwrap();
    assert!(out.batches.iter().all(|batch| batch.rows.schema_ref() == &factory.schema()));
    out
}

fn numbers(batch: &Batch, column: usize) -> Vec<i64> {
    batch.rows.column(column).as_primitive::<Int64Type>().values().to_vec()
}

fn floors(batch: &Batch) -> Vec<i64> {
    batch.floor.as_ref().unwrap().values().to_vec()
}

#[test]
fn a_projection_rejects_the_rows_it_fails_for_and_only_those() {
    let columns = vec![(number(), "number".to_owned()), (column("n"), "n".to_owned())];
    let projection = Projection::new(schema(), columns).unwrap();
    let out = process(&RowOperator(Arc::new(projection)), batch());
    assert_eq!(numbers(&out.batches[0], 0), [1, 3, 5]);
    assert_eq!(floors(&out.batches[0]), [7, 8, 9]);
    assert_eq!(out.fate(Fate::DeadLettered), 2);
    let payload = String::from_utf8(out.dead_letters[0].record.payload.clone().unwrap()).unwrap();
    assert_eq!(payload, r#"{"text":"x","n":2}"#);
    assert!(out.dead_letters[1].reason.contains('y'));
}

#[test]
fn a_filter_counts_what_it_drops_and_rejects_what_it_fails_for() {
    let out = process(&Filter::new(schema(), greater(column("n"), 1)).unwrap(), batch());
    assert_eq!(numbers(&out.batches[0], 1), [2, 4, 5]);
    assert_eq!(floors(&out.batches[0]), [7, 8, 9]);
    assert_eq!(out.fate(Fate::Filtered), 2, "false and null");

    let out = process(&Filter::new(schema(), greater(number(), 1)).unwrap(), batch());
    assert_eq!(out.rows(), 2);
    assert_eq!((out.fate(Fate::Filtered), out.fate(Fate::DeadLettered)), (1, 2));

    let all = process(&Filter::new(schema(), greater(column("n"), 9)).unwrap(), batch());
    assert_eq!((all.batches.len(), all.fate(Fate::Filtered)), (0, 5));

    let refused = Filter::new(schema(), column("n")).unwrap_err();
    assert!(refused.to_string().contains("BOOLEAN"), "{refused}");
}

#[test]
fn a_union_passes_rows_on_under_its_own_columns() {
    let named = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Int64, true),
    ]));
    let out = process(&Union::new(named), batch());
    assert_eq!((out.rows(), floors(&out.batches[0])), (5, vec![7, 7, 8, 8, 9]));

    let other = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
    let mut operator = Union::new(other).create(&context(0, 1)).unwrap();
    assert!(operator.process(1, batch(), &mut Collected::default()).is_err());
}
