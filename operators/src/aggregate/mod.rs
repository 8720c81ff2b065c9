//! Aggregate functions whose results do not depend on how their rows were split up.
//!
//! Between a row and a result stand a combiner, an exchange, a merger and perhaps a checkpoint;
//! each cuts the rows of a group into partial aggregates of its own choice. So here an aggregate is
//! only what gives **the same bits for every cut and every order of merging**:
//!
//! | strategy | for | how |
//! |---|---|---|
//! | native | counts, integer and decimal sums, min/max, bit, bool, sketches | DataFusion's, whose merge is associative and commutative |
//! | exact | sums, means, variances of floats | the exact sum, rounded once |
//! | extremum | min/max of floats | a total order |
//! | ordered | everything else | the rows themselves, sorted before they are aggregated |
//!
//! Invariant: the state columns that an accumulator emits are exactly those of
//! [`Aggregate::state_fields`], and merging them in any order gives what one accumulator fed with
//! all rows would have given, bit for bit.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use datafusion_common::DataFusionError;
use datafusion_expr::{AggregateUDF, GroupsAccumulator};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use tidemill_core::{Error, ErrorKind, Result};

mod call;
mod native;

use call::Call;

/// One aggregate call as the planner hands it over.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// The function.
    pub function: Arc<AggregateUDF>,
    /// Its arguments, over the input. None means `count(*)`.
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    /// `DISTINCT`.
    pub distinct: bool,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// `ORDER BY` or `WITHIN GROUP (ORDER BY …)`.
    pub order_by: Vec<PhysicalSortExpr>,
    /// `IGNORE NULLS`.
    pub ignore_nulls: bool,
    /// Name of the result column.
    pub name: String,
}

/// An aggregate call planned against the rows that it aggregates.
#[derive(Debug, Clone)]
pub struct Aggregate {
    call: Arc<Call>,
    strategy: Strategy,
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    state_fields: Vec<FieldRef>,
}

/// How the promise of the module is kept for one call.
#[derive(Debug, Clone)]
enum Strategy {
    Native,
}

impl Aggregate {
    /// Plans a call over rows of `input`, whose event time is column `time` (microseconds).
    /// Arguments are coerced to what the function takes.
    ///
    /// # Errors
    /// A configuration error that names the aggregate where it cannot be computed, with the reason.
    pub fn plan(spec: &AggregateSpec, input: &SchemaRef, time: usize) -> Result<Self> {
        plan(spec, input, time).map_err(|e| {
            let what = format!("aggregate {} ({})", spec.name, spec.function.name());
            Error::configuration(e.message().to_owned()).at(what)
        })
    }

    /// The expressions whose values `update_batch` takes, in order. Beyond the call's own arguments
    /// these may be the event time and what it is ordered by.
    pub fn inputs(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.inputs
    }

    /// The predicate whose value `update_batch` takes as its filter.
    pub fn filter(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.call.filter.as_ref()
    }

    /// The columns of a partial aggregate; their names start with the aggregate's.
    pub fn state_fields(&self) -> &[FieldRef] {
        &self.state_fields
    }

    /// The column of the result.
    pub fn result_field(&self) -> FieldRef {
        self.call.result_field()
    }

    /// An accumulator without groups.
    pub fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        match &self.strategy {
            Strategy::Native => native::accumulator(&self.call).map_err(failed),
        }
    }

    /// All that state and result depend on. A checkpoint whose fingerprint differs is refused.
    pub fn fingerprint(&self) -> String {
        let columns: Vec<_> = self.state_fields.iter().map(|f| f.data_type().to_string()).collect();
        format!("{:?} {} -> [{}]", self.strategy, self.call, columns.join(", "))
    }

    /// The call as SQL, for `explain`.
    pub fn describe(&self) -> String {
        format!("{} AS {}", self.call, self.call.name)
    }
}

fn plan(spec: &AggregateSpec, input: &SchemaRef, time: usize) -> Result<Aggregate> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    if !input.fields().get(time).is_some_and(|f| f.data_type().equals_datatype(&micros)) {
        return Err(Error::internal(format!("column {time} is not an event time in microseconds")));
    }
    let call = Arc::new(Call::new(spec, input)?);
    let state_fields = native::state_fields(&call).map_err(failed)?;
    Ok(Aggregate { inputs: call.args.clone(), call, strategy: Strategy::Native, state_fields })
}

/// An error of DataFusion's as one of the engine's.
fn failed(error: DataFusionError) -> Error {
    Error::new(ErrorKind::Internal, error.strip_backtrace())
}
