//! What is fixed for a windowed aggregation: its expressions, its aggregates and its columns.
//! Shared by all operators of the job. Invariant: the columns of a partial aggregate are those of
//! [`Plan::partial`], wherever it comes from: a combiner, a merger's checkpoint or a fused one's.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float16Type, Float32Type, Float64Type};
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_physical_expr::PhysicalExpr;
use tidemill_core::filter::{Divided, Kept};
use tidemill_core::graph::RowFunction;
use tidemill_core::operator::{KeyedDescription, Output};
use tidemill_core::part::Part;
use tidemill_core::window::WindowSpec;
use tidemill_core::{Batch, Error, Result, key};

use super::WindowAggregateSpec;
use super::columns::CellPlan;
use crate::aggregate::{Aggregate, CellCall};
use crate::project::{Projection, mask};
use crate::{parts, reject};

/// What partial aggregates start with: two columns that bound them in time.
pub(super) const BOUNDS: usize = 2;

/// What is fixed for a windowed aggregation.
pub(super) struct Plan {
    pub window: WindowSpec,
    /// The event-time column of the input.
    pub time: usize,
    /// Columns of the result.
    pub output: SchemaRef,
    /// Columns of a partial aggregate: bounds, keys, states.
    pub partial: SchemaRef,
    /// Columns of the key alone.
    pub keys: SchemaRef,
    pub calls: Vec<Call>,
    /// How a table may be kept faster than by accumulators, if it may.
    pub cells: Option<Arc<CellPlan>>,
    /// Which of the evaluated columns do not matter but for how many rows they have.
    pub counted: Arc<[bool]>,
    /// Keys, then what the aggregates take.
    inputs: Projection,
    description: KeyedDescription,
}

/// One aggregate, and which of the evaluated columns it takes.
pub(super) struct Call {
    pub aggregate: Aggregate,
    pub inputs: Vec<usize>,
    pub filter: Option<usize>,
}

/// Rows of a batch as the aggregates take them.
pub(super) struct Evaluated {
    pub rows: usize,
    pub keys: Vec<ArrayRef>,
    pub values: Vec<ArrayRef>,
}

impl Plan {
    pub fn new(spec: WindowAggregateSpec) -> Result<Self> {
        let time = time_type(&spec)?;
        // A filter has a column of its own even where it is an argument too: its nulls are false.
        let mut values: Vec<(bool, Arc<dyn PhysicalExpr>)> = Vec::new();
        let mut index = |is_filter: bool, expression: &Arc<dyn PhysicalExpr>| {
            let wanted = (is_filter, expression.clone());
            values.iter().position(|known| *known == wanted).unwrap_or_else(|| {
                values.push(wanted);
                values.len() - 1
            })
        };
        let mut calls = Vec::with_capacity(spec.aggregates.len());
        for call in &spec.aggregates {
            let aggregate = Aggregate::plan(call, &spec.input, spec.time)?;
            let inputs = aggregate.inputs().iter().map(|input| index(false, input)).collect();
            let filter = aggregate.filter().map(|filter| index(true, filter));
            calls.push(Call { aggregate, inputs, filter });
        }
        let counted = (0..values.len()).map(|value| is_only_counted(value, &calls)).collect();
        let values = values.into_iter().map(|(_, expression)| (expression, String::new()));
        let inputs =
            Projection::new(spec.input.clone(), spec.keys.iter().cloned().chain(values).collect())?;
        let keys = key_fields(&inputs.schema().fields()[..spec.keys.len()])?;
        Ok(Self {
            window: spec.window,
            time: spec.time,
            output: output_schema(time, &keys, &calls),
            partial: partial_schema(&spec.window, &keys, &calls),
            cells: CellPlan::of(&calls).map(Arc::new),
            keys: Arc::new(Schema::new(keys)),
            description: description(&spec, &calls),
            calls,
            counted,
            inputs,
        })
    }

    /// Which columns of a partial aggregate are its keys.
    pub fn key_columns(&self) -> std::ops::Range<usize> {
        BOUNDS..BOUNDS + self.keys.fields().len()
    }

    /// Evaluates keys and what the aggregates take. Rows for which that fails are dead letters; the
    /// batch of the others is returned with them.
    pub fn evaluate(&self, batch: Batch, out: &mut dyn Output) -> Result<(Batch, Evaluated)> {
        let (batch, results) = reject::apply(&self.inputs, batch, out)?;
        let (_, mut keys, _) = results.into_parts();
        let mut values = keys.split_off(self.keys.fields().len());
        for key in &mut keys {
            *key = canonical(key)?;
        }
        for filter in self.calls.iter().filter_map(|call| call.filter) {
            values[filter] = Arc::new(mask(values[filter].as_boolean()));
        }
        let rows = batch.len();
        Ok((batch, Evaluated { rows, keys, values }))
    }

    pub fn describe(&self) -> KeyedDescription {
        self.description.clone()
    }
}

impl Evaluated {
    /// The rows that are kept; of columns that are only `counted`, any so many.
    pub fn filter(&self, kept: &BooleanArray, counted: &[bool]) -> Result<Self> {
        let kept = Kept::new(kept);
        let [rows] = self.each([kept.count()], counted, |column| Ok([kept.of(column)?]))?;
        Ok(rows)
    }

    /// The rows for which it is true, and the others; of columns that are only `counted`, any so many.
    pub fn divide(&self, rows: &BooleanArray, counted: &[bool]) -> Result<[Self; 2]> {
        let divided = Divided::new(rows);
        self.each(divided.counts(), counted, |column| divided.of(column))
    }

    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let slice = |columns: &[ArrayRef]| -> Vec<_> {
            columns.iter().map(|column| column.slice(offset, length)).collect()
        };
        Self { rows: length, keys: slice(&self.keys), values: slice(&self.values) }
    }

    /// Some of the rows, in this order; of columns that are only `counted`, any so many.
    pub fn take(&self, rows: &UInt32Array, counted: &[bool]) -> Result<Self> {
        let [rows] = self.each([rows.len()], counted, |column| Ok([take(column, rows, None)?]))?;
        Ok(rows)
    }

    /// So many rows for each side, which has what `f` gives it of a column.
    fn each<const SIDES: usize>(
        &self,
        rows: [usize; SIDES],
        counted: &[bool],
        f: impl Fn(&ArrayRef) -> Result<[ArrayRef; SIDES]>,
    ) -> Result<[Self; SIDES]> {
        let mut sides = rows.map(|rows| Self { rows, keys: Vec::new(), values: Vec::new() });
        for key in &self.keys {
            sides.iter_mut().zip(f(key)?).for_each(|(side, key)| side.keys.push(key));
        }
        for (value, is_counted) in self.values.iter().zip(counted) {
            let values = match is_counted {
                true => rows.map(|rows| value.slice(0, rows)),
                false => f(value)?,
            };
            sides.iter_mut().zip(values).for_each(|(side, value)| side.values.push(value));
        }
        Ok(sides)
    }
}

/// Whether all that is asked of an evaluated column is how many rows it has.
fn is_only_counted(value: usize, calls: &[Call]) -> bool {
    let is_counted = |call: &Call| {
        let is_argument = call.inputs.contains(&value);
        let counts_rows = matches!(call.aggregate.cell(), Some(CellCall::Rows));
        call.filter != Some(value) && (!is_argument || counts_rows)
    };
    calls.iter().all(is_counted)
}

/// The event time's type.
fn time_type(spec: &WindowAggregateSpec) -> Result<DataType> {
    let field = spec.input.fields().get(spec.time);
    match field.map(|field| field.data_type()) {
        Some(time @ DataType::Timestamp(TimeUnit::Microsecond, _)) => Ok(time.clone()),
        _ => Err(Error::configuration(format!(
            "a window needs a timestamp in microseconds, which column {} of its input is not",
            field.map_or_else(|| spec.time.to_string(), |field| field.name().clone())
        ))),
    }
}

/// The keys' columns in canonical form.
fn key_fields(fields: &[FieldRef]) -> Result<Vec<FieldRef>> {
    let canonical = |field: &FieldRef| {
        let field = match field.data_type() {
            DataType::Dictionary(_, value) => {
                Arc::new(Field::clone(field).with_data_type(value.as_ref().clone()))
            }
            _ => field.clone(),
        };
        key::hash_rows(&[new_empty_array(field.data_type())], 0)
            .map_err(|e| e.at(format!("key {}", field.name())))?;
        Ok(field)
    };
    fields.iter().map(canonical).collect()
}

/// Equal keys with equal bits: dictionaries as their values, one zero and one NaN.
fn canonical(key: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! floats {
        ($t:ty) => {{
            type Native = <$t as arrow::array::ArrowPrimitiveType>::Native;
            let zero = Native::default();
            Arc::new(key.as_primitive::<$t>().unary::<_, $t>(|v| {
                if v.is_nan() {
                    Native::NAN
                } else if v == zero {
                    zero
                } else {
                    v
                }
            }))
        }};
    }
    Ok(match key.data_type() {
        DataType::Dictionary(_, value) => cast(key, value)?,
        DataType::Float16 => floats!(Float16Type),
        DataType::Float32 => floats!(Float32Type),
        DataType::Float64 => floats!(Float64Type),
        _ => key.clone(),
    })
}

fn output_schema(time: DataType, keys: &[FieldRef], calls: &[Call]) -> SchemaRef {
    let bound = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new("window_start", bound.clone(), false)),
        Arc::new(Field::new("window_end", bound, false)),
        Arc::new(Field::new("window_time", time, false)),
    ];
    fields.extend(keys.iter().cloned());
    fields.extend(calls.iter().map(|call| call.aggregate.result_field()));
    Arc::new(Schema::new(fields))
}

fn partial_schema(window: &WindowSpec, keys: &[FieldRef], calls: &[Call]) -> SchemaRef {
    let bounds = match window {
        WindowSpec::Aligned(_) => ["slice_end", "first_window_end"],
        WindowSpec::Session { .. } => ["start", "end"],
    };
    let bounds = bounds.map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
    let mut fields: Vec<FieldRef> = bounds.to_vec();
    fields.extend(keys.iter().cloned());
    fields.extend(calls.iter().flat_map(|call| call.aggregate.state_fields().iter().cloned()));
    Arc::new(Schema::new(fields))
}

fn description(spec: &WindowAggregateSpec, calls: &[Call]) -> KeyedDescription {
    let keys: Vec<_> = spec.keys.iter().map(|(key, name)| format!("{key} AS {name}")).collect();
    let names: Vec<_> = spec.keys.iter().map(|(_, name)| name.as_str()).collect();
    let aggregates: Vec<_> = calls.iter().map(|call| call.aggregate.describe()).collect();
    let states: Vec<_> = calls.iter().map(|call| call.aggregate.fingerprint()).collect();
    let by = if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) };
    KeyedDescription {
        line: format!("{}{by}: {}", spec.window, aggregates.join(", ")),
        fingerprint: format!(
            "{} over column {} by [{}]: [{}]",
            spec.window,
            spec.time,
            keys.join(", "),
            states.join(", ")
        ),
        parts: state_parts(spec, calls),
        // A session fires behind its end, and its `window_time` lies before that.
        hold_back: match spec.window {
            WindowSpec::Aligned(_) => 0,
            WindowSpec::Session { .. } => super::emit::WINDOW_TIME,
        },
    }
}

fn state_parts(spec: &WindowAggregateSpec, calls: &[Call]) -> Vec<Part> {
    let time = spec.input.field(spec.time).name().clone();
    let key = |(key, name): &(Arc<dyn PhysicalExpr>, String)| {
        let sql = parts::sql(key);
        let is = if sql == *name { sql } else { format!("{sql} AS {name}") };
        Part::new("key", is, parts::uses(key))
    };
    let mut all = vec![
        Part::new("window", spec.window.to_string(), Vec::new()),
        Part::new("time", time.clone(), vec![time]),
    ];
    all.extend(spec.keys.iter().map(key));
    all.extend(calls.iter().flat_map(|call| call.aggregate.parts()));
    all
}
