//! The columns that a table declares, resolved by name, and how they are filled.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMicrosecondType};
use arrow::array::{
    Array, ArrayRef, BooleanBufferBuilder, Int32Array, Int64Array, StringViewArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Fields};
use tidemill_core::need::Need;
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, EventTime, Result};

use super::config::{Config, Kind};
use super::field::{Events, Field};

/// Rows of a column that nobody looks at: more at once are made when they are asked for.
const BLANK_ROWS: usize = 8_192;

/// What a table's rows are.
#[derive(Clone)]
pub(crate) enum Shape {
    /// Events of one kind, a column for each field.
    Flat(Kind, Vec<Column>),
    /// Events of all kinds, a row for each kind, two of the three null.
    Events(Vec<EventColumn>),
}

/// A field and the type it is declared as.
#[derive(Clone)]
pub(crate) struct Column {
    field: &'static Field,
    declared: DataType,
    nullable: bool,
    /// Nulls in its place, where nobody looks at it.
    blank: Option<ArrayRef>,
}

/// A column of a table of events.
#[derive(Clone)]
pub(crate) enum EventColumn {
    /// 0 for a person, 1 for an auction, 2 for a bid.
    EventType,
    /// The fields of one kind.
    Row(Kind, Fields, Vec<Column>),
}

impl Shape {
    /// The shape of a declared table.
    pub(crate) fn resolve(table: &TableSpec) -> Result<Self> {
        let names = Kind::ALL.map(Kind::name);
        if table.options.get("nexmark.table").is_some() {
            let kind = Kind::ALL[table.options.choice("nexmark.table", &names, 0)?];
            return Ok(Self::Flat(kind, columns(kind, table.schema.fields())?));
        }
        let resolve = |field: &Arc<arrow::datatypes::Field>| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == field.name());
            match (field.name().as_str(), kind, field.data_type()) {
                ("event_type", _, DataType::Int32) => Ok(EventColumn::EventType),
                (_, Some(kind), DataType::Struct(fields)) => {
                    if !field.is_nullable() {
                        let message = "a row of nexmark is null in events of another kind: leave out NOT NULL";
                        return Err(Error::configuration(message).at(field.name()));
                    }
                    Ok(EventColumn::Row(kind, fields.clone(), columns(kind, fields)?))
                }
                (name, _, declared) => Err(Error::configuration(format!(
                    "nexmark has no column '{name}' of type {declared}: it has event_type INT and \
                     person, auction and bid of type ROW<…>; for flat columns set 'nexmark.table'"
                ))),
            }
        };
        let columns = table.schema.fields().iter().map(resolve).collect::<Result<_>>();
        columns.map(Self::Events)
    }

    /// The one kind that its rows are, if they are of one.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Flat(kind, _) => Some(*kind),
            Self::Events(_) => None,
        }
    }

    /// The shape of rows of which no more than this is looked at.
    pub(crate) fn reading(&self, needs: &[Need]) -> Self {
        match self {
            Self::Flat(kind, columns) => {
                let columns = columns.iter().zip(needs).map(|(column, need)| column.reading(need));
                Self::Flat(*kind, columns.collect())
            }
            Self::Events(columns) => {
                let reading = |(column, need): (&EventColumn, &Need)| match column {
                    EventColumn::EventType => EventColumn::EventType,
                    EventColumn::Row(kind, fields, columns) => {
                        let columns =
                            columns.iter().map(|c| c.reading(&need.of_field(c.field.name)));
                        EventColumn::Row(*kind, fields.clone(), columns.collect())
                    }
                };
                Self::Events(columns.iter().zip(needs).map(reading).collect())
            }
        }
    }

    /// The columns of these events, which are of the right kind.
    pub(crate) fn columns(
        &self,
        config: &Config,
        numbers: &[u64],
        base: EventTime,
    ) -> Result<Vec<ArrayRef>> {
        match self {
            Self::Flat(_, columns) => {
                let events = Events { config, numbers, base };
                columns
                    .iter()
                    .map(|column| match column.blank(numbers.len()) {
                        Some(blank) => Ok(blank),
                        None => column.make(&events, Ok),
                    })
                    .collect()
            }
            Self::Events(columns) => {
                let runs = Run::among(numbers, config);
                columns.iter().map(|c| c.make(config, numbers, &runs, base)).collect()
            }
        }
    }
}

fn columns(kind: Kind, declared: &Fields) -> Result<Vec<Column>> {
    let find = |column: &Arc<arrow::datatypes::Field>| {
        let field = Field::of(kind).iter().find(|field| field.name == column.name());
        match field {
            Some(field) if field.family.holds(column.data_type()) => {
                let (declared, nullable) = (column.data_type().clone(), column.is_nullable());
                Ok(Column { field, declared, nullable, blank: None })
            }
            Some(field) => Err(Error::configuration(format!(
                "{} '{}' of nexmark is declared as {}: it is {}",
                kind.name(),
                field.name,
                column.data_type(),
                field.family.sql()
            ))),
            None => {
                let known: Vec<_> = Field::of(kind).iter().map(|field| field.name).collect();
                Err(Error::configuration(format!(
                    "a nexmark {} has no field '{}': it has {}",
                    kind.name(),
                    column.name(),
                    known.join(", ")
                )))
            }
        }
    };
    declared.iter().map(find).collect()
}

impl Column {
    fn reading(&self, need: &Need) -> Self {
        let is_blank = self.nullable && need.is_nothing();
        let blank = is_blank.then(|| new_null_array(&self.declared, BLANK_ROWS));
        Self { blank, declared: self.declared.clone(), ..*self }
    }

    /// So many nulls, where nobody looks at the column.
    fn blank(&self, rows: usize) -> Option<ArrayRef> {
        let blank = self.blank.as_ref()?;
        Some(match rows <= blank.len() {
            true => blank.slice(0, rows),
            false => new_null_array(&self.declared, rows),
        })
    }

    /// The field's values for these events, put into place and cast to the declared type.
    fn make(
        &self,
        events: &Events<'_>,
        place: impl FnOnce(ArrayRef) -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        let values = place(self.field.make(events))?;
        if *values.data_type() == self.declared {
            Ok(values)
        } else {
            Ok(cast(&values, &self.declared)?)
        }
    }
}

impl EventColumn {
    fn make(
        &self,
        config: &Config,
        numbers: &[u64],
        runs: &[Run],
        base: EventTime,
    ) -> Result<ArrayRef> {
        match self {
            Self::EventType => {
                let mut types = Vec::with_capacity(numbers.len());
                for run in runs {
                    types.resize(run.places.end, run.kind as i32);
                }
                Ok(Arc::new(Int32Array::from(types)))
            }
            Self::Row(kind, fields, columns) => {
                let own = Own::among(numbers, runs, *kind);
                let events = Events { config, numbers: &own.numbers, base };
                let arrays = columns.iter().map(|column| match column.blank(numbers.len()) {
                    Some(blank) => Ok(blank),
                    None => column.make(&events, |values| own.spread(&values)),
                });
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                let rows = StructArray::try_new(fields.clone(), arrays, Some(own.valid))?;
                Ok(Arc::new(rows))
            }
        }
    }
}

/// Events of one kind that follow one another in a batch.
struct Run {
    kind: Kind,
    places: Range<usize>,
}

impl Run {
    fn among(numbers: &[u64], config: &Config) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for (place, number) in numbers.iter().enumerate() {
            let kind = config.kind(*number);
            match runs.last_mut() {
                Some(run) if run.kind == kind => run.places.end = place + 1,
                _ => runs.push(Self { kind, places: place..place + 1 }),
            }
        }
        runs
    }
}

/// The events of one kind among all of a batch.
struct Own {
    numbers: Vec<u64>,
    runs: Vec<Range<usize>>,
    /// Which events of the batch these are: the validity of the row and of its fields alike.
    valid: NullBuffer,
}

impl Own {
    fn among(numbers: &[u64], runs: &[Run], kind: Kind) -> Self {
        let mut valid = BooleanBufferBuilder::new(numbers.len());
        runs.iter().for_each(|run| valid.append_n(run.places.len(), run.kind == kind));
        let runs = runs.iter().filter(|run| run.kind == kind).map(|run| run.places.clone());
        let runs: Vec<Range<usize>> = runs.collect();
        let own = runs.iter().flat_map(|run| &numbers[run.clone()]).copied().collect();
        Self { numbers: own, runs, valid: NullBuffer::new(valid.finish()) }
    }

    /// Puts values of these events in their places, with nulls between them.
    fn spread(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let nulls = Some(self.valid.clone());
        if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
            return Ok(Arc::new(Int64Array::try_new(self.scatter(numbers.values()), nulls)?));
        }
        if let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() {
            let times = self.scatter(times.values());
            return Ok(Arc::new(TimestampMicrosecondArray::try_new(times, nulls)?));
        }
        let texts = values.as_string_view();
        let (views, blocks) = (self.scatter(texts.views()), texts.data_buffers().to_vec());
        // SAFETY: each view is one of `texts`, whose blocks these are, or that of the empty text.
        Ok(Arc::new(unsafe { StringViewArray::new_unchecked(views, blocks, nulls) }))
    }

    fn scatter<T: ArrowNativeType>(&self, values: &[T]) -> ScalarBuffer<T> {
        let mut spread = vec![T::default(); self.valid.len()];
        let mut rest = values;
        for run in &self.runs {
            let (own, behind) = rest.split_at(run.len());
            spread[run.clone()].copy_from_slice(own);
            rest = behind;
        }
        spread.into()
    }
}
