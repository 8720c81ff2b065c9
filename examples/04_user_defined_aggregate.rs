//! A user-defined aggregate: the geometric mean, called from the builder and from SQL.
//!
//! `cargo run --example 04_user_defined_aggregate`

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion_common::ScalarValue;
use datafusion_expr::{Accumulator, AggregateUDF, Volatility, create_udaf};
use tidemill::memory::{MemoryHandle, MemoryTables};
use tidemill::prelude::*;
use tidemill::sql::Registry;

/// The geometric mean of positive numbers, by the sum of their logarithms.
#[derive(Debug, Default)]
struct GeometricMean {
    logarithms: f64,
    count: u64,
}

impl Accumulator for GeometricMean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> datafusion_common::Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.logarithms += value.ln();
            self.count += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> datafusion_common::Result<ScalarValue> {
        let mean = (self.count > 0).then(|| (self.logarithms / self.count as f64).exp());
        Ok(ScalarValue::Float64(mean))
    }

    fn state(&mut self) -> datafusion_common::Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::from(self.logarithms), ScalarValue::from(self.count)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> datafusion_common::Result<()> {
        self.logarithms += states[0].as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        self.count += states[1].as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn geometric_mean() -> AggregateUDF {
    create_udaf(
        "geometric_mean",
        vec![DataType::Float64],
        Arc::new(DataType::Float64),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::<GeometricMean>::default())),
        Arc::new(vec![DataType::Float64, DataType::UInt64]),
    )
}

/// Growth factors of one minute: their geometric mean is 2.
fn growth() -> tidemill::Result<(SchemaRef, RecordBatch)> {
    let columns = schema([("ts", TIMESTAMP), ("factor", DataType::Float64)]);
    let times = TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000, 3_000_000]);
    let factors = Float64Array::from(vec![1.0, 2.0, 4.0]);
    let rows = RecordBatch::try_new(columns.clone(), vec![Arc::new(times), Arc::new(factors)])?;
    Ok((columns, rows))
}

fn in_the_builder() -> tidemill::Result<MemoryHandle> {
    let (columns, rows) = growth()?;
    let (results, sink) = collect();
    let mut job = Job::named("growth");
    job.source(MemorySource::new(columns, vec![vec![rows]]))
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .window(Tumbling::of(Duration::from_secs(60)))
        .aggregate([geometric_mean().call(vec![col("factor")]).alias("mean")])
        .sink(sink);
    job.run_blocking()?;
    Ok(results)
}

fn in_sql() -> tidemill::Result<MemoryHandle> {
    let (columns, rows) = growth()?;
    let tables = MemoryTables::new().with_source("growth", columns, vec![vec![rows]]);
    let results = tables.sink("means");
    let text = "
        CREATE TABLE growth (ts TIMESTAMP(3), factor DOUBLE, WATERMARK FOR ts AS ts)
        WITH ('connector' = 'memory');
        CREATE TABLE means (mean DOUBLE) WITH ('connector' = 'memory');
        INSERT INTO means
        SELECT GEOMETRIC_MEAN(factor)
        FROM TABLE(TUMBLE(TABLE growth, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        GROUP BY window_start, window_end;
    ";
    let registry = Registry::new(vec![Arc::new(tables)]).with_udaf(Arc::new(geometric_mean()));
    Job::from_sql("growth.sql", text, &registry)?.run_blocking()?;
    Ok(results)
}

/// Computes the same mean in both ways.
pub fn main() -> tidemill::Result<()> {
    for results in [in_the_builder()?, in_sql()?] {
        let batches = results.batches();
        let means = batches[0].column_by_name("mean").expect("both jobs call the result mean");
        assert_eq!(means.len(), 1);
        let mean = means.as_primitive::<Float64Type>().value(0);
        assert!((mean - 2.0).abs() < 1e-12, "the geometric mean of 1, 2 and 4 is {mean}");
        eprintln!("geometric mean: {mean}");
    }
    Ok(())
}
