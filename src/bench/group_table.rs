//! Yardstick: DataFusion's own group table and accumulators, one set per slice, driven by a loop.
//!
//! What an aggregation in windows costs when it is made of the library's parts and nothing stands
//! between them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result as DataFusionResult};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use tidemill_core::{Error, Result};

use super::batch::{add_results, aggregates};
use super::checksum::Checksum;
use super::table::{BatchTable, SliceTable};

/// What all tables of a query share.
pub(super) struct Aggregates {
    key: SchemaRef,
    functions: Vec<Arc<AggregateFunctionExpr>>,
}

impl Aggregates {
    /// Of the benchmark's rows.
    pub fn new(rows: &SchemaRef) -> Result<Self> {
        let key = Arc::new(Schema::new(vec![rows.field(0).clone()]));
        Ok(Self { key, functions: aggregates(rows).map_err(failed)? })
    }
}

/// The groups of one slice. What cannot be made is told when the first rows come.
pub(super) struct GroupTable {
    parts: DataFusionResult<Parts>,
}

struct Parts {
    keys: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// For each row of the batch at hand its group.
    groups: Vec<usize>,
}

impl Parts {
    fn new(aggregates: &Aggregates) -> DataFusionResult<Self> {
        let functions = aggregates.functions.iter();
        Ok(Self {
            keys: new_group_values(aggregates.key.clone(), &GroupOrdering::None)?,
            accumulators: functions
                .map(|f| f.create_groups_accumulator())
                .collect::<Result<_, _>>()?,
            groups: Vec::new(),
        })
    }

    fn update(&mut self, key: &ArrayRef, value: &ArrayRef) -> DataFusionResult<()> {
        self.keys.intern(std::slice::from_ref(key), &mut self.groups)?;
        let (values, total) = (std::slice::from_ref(value), self.keys.len());
        let mut accumulators = self.accumulators.iter_mut();
        accumulators.try_for_each(|a| a.update_batch(values, &self.groups, None, total))
    }

    fn absorb(&mut self, other: &mut Self) -> DataFusionResult<()> {
        let keys = other.keys.emit(EmitTo::All)?;
        self.keys.intern(&keys, &mut self.groups)?;
        let total = self.keys.len();
        for (mine, theirs) in self.accumulators.iter_mut().zip(&mut other.accumulators) {
            mine.merge_batch(&theirs.state(EmitTo::All)?, &self.groups, total)?;
        }
        Ok(())
    }

    fn results(&mut self) -> DataFusionResult<Vec<ArrayRef>> {
        let mut columns = self.keys.emit(EmitTo::All)?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        Ok(columns)
    }
}

impl GroupTable {
    fn parts(&mut self) -> Result<&mut Parts> {
        self.parts.as_mut().map_err(|error| failed(std::mem::replace(error, already_told())))
    }
}

fn already_told() -> DataFusionError {
    DataFusionError::Internal("the table could not be made".to_owned())
}

impl SliceTable for GroupTable {
    type Shared = Aggregates;

    fn with_capacity(_: usize, shared: &Aggregates) -> Self {
        Self { parts: Parts::new(shared) }
    }

    fn len(&self) -> usize {
        self.parts.as_ref().map_or(0, |parts| parts.keys.len())
    }

    fn absorb(&mut self, other: &mut Self) -> Result<()> {
        self.parts()?.absorb(other.parts()?).map_err(failed)
    }

    fn results(mut self, start: i64, end: i64, into: &mut Checksum) -> Result<()> {
        let columns = self.parts()?.results().map_err(failed)?;
        add_results(&columns, |_| (start, end), into)
    }
}

impl BatchTable for GroupTable {
    fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        self.parts()?.update(rows.column(0), rows.column(2)).map_err(failed)
    }
}

fn failed(error: DataFusionError) -> Error {
    Error::internal(format!("DataFusion: {}", error.strip_backtrace()))
}
