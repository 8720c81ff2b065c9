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
//! A user's function is merged where its `order_sensitivity()` is `Insensitive`, which is not what
//! DataFusion assumes of one that does not say; any other gets its rows in order of event time.
//!
//! An accumulator may take it that every group below `total_num_groups` has been in some batch:
//! groups are numbered in order of appearance.
//!
//! Invariant: the state columns that an accumulator emits are exactly those of
//! [`Aggregate::state_fields`], and merging them in any order gives what one accumulator fed with
//! all rows would have given, bit for bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use datafusion_expr::{AggregateUDF, EmitTo, GroupsAccumulator};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use tidemill_core::part::Part;
use tidemill_core::{Error, Result};

use crate::failed;

mod call;
mod cells;
mod exact;
mod extremum;
mod native;
mod ordered;
mod selection;
mod strategy;

#[cfg(test)]
mod tests;

use call::Call;
pub(crate) use cells::{Cells, Group, Unit, Whole};
use strategy::Strategy;

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

/// What [`Cells`] and a count of rows are asked for by an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellCall {
    /// How many rows there are.
    Rows,
    /// The exact sum of a column.
    Sum,
    /// The same over the count.
    Mean,
    /// The least value of a column.
    Min,
    /// The greatest value of a column.
    Max,
}

/// An aggregate call planned against the rows that it aggregates.
#[derive(Debug, Clone)]
pub struct Aggregate {
    call: Arc<Call>,
    strategy: Strategy,
    result: FieldRef,
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    state_fields: Vec<FieldRef>,
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
        self.result.clone()
    }

    /// An accumulator without groups.
    pub fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        match &self.strategy {
            Strategy::Native(function) => {
                let types = self.state_fields.iter().map(|f| f.data_type().clone()).collect();
                native::accumulator(function, types).map_err(failed)
            }
            Strategy::Exact(statistic) => Ok(statistic.accumulator()),
            Strategy::Extremum(extremum, values) => extremum.accumulator(values).map_err(failed),
            Strategy::Ordered(plan) => Ok(plan.accumulator()),
        }
    }

    /// What of [`Cells`] gives this aggregate; `None` for those that need accumulators of their own.
    pub(crate) fn cell(&self) -> Option<CellCall> {
        match &self.strategy {
            Strategy::Exact(exact::Statistic::Sum) => Some(CellCall::Sum),
            Strategy::Exact(exact::Statistic::Mean) => Some(CellCall::Mean),
            Strategy::Extremum(end, DataType::Float64) => Some(match end {
                extremum::Extremum::Min => CellCall::Min,
                extremum::Extremum::Max => CellCall::Max,
            }),
            Strategy::Native(_) => self.call.counts_rows().then_some(CellCall::Rows),
            _ => None,
        }
    }

    /// The state of one group without rows, having found that its result has the type it should:
    /// what cannot work is found out now, not when the first window fires.
    fn probe(&self) -> Result<Vec<ArrayRef>> {
        let types = self.inputs.iter().map(|input| input.data_type(&self.call.input));
        let null = types.map(|t| Ok(new_null_array(&t.map_err(failed)?, 1)));
        let null: Vec<_> = null.collect::<Result<_>>()?;
        let none = BooleanArray::from(vec![false]);
        let empty = || {
            let mut accumulator = self.accumulator()?;
            accumulator.update_batch(&null, &[0], Some(&none), 1).map_err(failed)?;
            Ok::<_, Error>(accumulator)
        };
        let result = empty()?.evaluate(EmitTo::All).map_err(failed)?;
        let (is, declared) = (result.data_type(), self.result.data_type());
        if is != declared {
            return Err(Error::configuration(format!(
                "it declares a result of type {declared} and gives {is}"
            )));
        }
        empty()?.state(EmitTo::All).map_err(failed)
    }

    /// All that state and result depend on. A checkpoint whose fingerprint differs is refused.
    pub fn fingerprint(&self) -> String {
        let columns: Vec<_> = self.state_fields.iter().map(|f| f.data_type().to_string()).collect();
        let strategy = self.strategy_name();
        let result = self.result.data_type();
        let inputs: Vec<_> = self.inputs.iter().map(ToString::to_string).collect();
        format!(
            "{strategy} {} of ({}) -> {result} [{}]",
            self.call,
            inputs.join(", "),
            columns.join(", ")
        )
    }

    /// What a user would say of [`Aggregate::fingerprint`]: the call, and how its state is kept.
    pub fn parts(&self) -> [Part; 2] {
        let columns: Vec<_> = self.state_fields.iter().map(|f| f.data_type().to_string()).collect();
        let state = format!(
            "{} [{}] -> {}",
            self.strategy_name(),
            columns.join(", "),
            self.result.data_type()
        );
        [
            Part::new("aggregate", self.call.sql(), self.call.uses()),
            Part::new("state", state, Vec::new()),
        ]
    }

    fn strategy_name(&self) -> &'static str {
        match &self.strategy {
            Strategy::Native(_) => "native",
            Strategy::Exact(_) => "exact",
            Strategy::Extremum(..) => "extremum",
            Strategy::Ordered(_) => "ordered",
        }
    }

    /// The call as SQL, for `explain`.
    pub fn describe(&self) -> String {
        format!("{} AS {}", self.call, self.call.name)
    }
}

fn plan(spec: &AggregateSpec, input: &SchemaRef, time: usize) -> Result<Aggregate> {
    let is_micros = |field: &FieldRef| {
        matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
    };
    if !input.fields().get(time).is_some_and(is_micros) {
        return Err(Error::internal(format!("column {time} is not an event time in microseconds")));
    }
    let call = Arc::new(Call::new(spec, input)?);
    let strategy = Strategy::of(&call, time)?;
    let inputs = match &strategy {
        Strategy::Ordered(plan) => plan.inputs(),
        _ => call.args.clone(),
    };
    let result = call.expression(call.distinct, &call.order_by)?.field();
    let mut aggregate = Aggregate { call, strategy, result, inputs, state_fields: Vec::new() };
    let probe = aggregate.probe()?;
    let name = &spec.name;
    aggregate.state_fields = match &aggregate.strategy {
        Strategy::Native(_) => native::state_fields(name, &probe),
        Strategy::Exact(statistic) => exact::state_fields(*statistic, name),
        Strategy::Extremum(extremum, values) => vec![extremum.state_field(name, values)],
        Strategy::Ordered(plan) => vec![plan.state_field()],
    };
    Ok(aggregate)
}
