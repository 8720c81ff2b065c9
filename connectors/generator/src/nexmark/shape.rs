//! The columns that a table declares, resolved by name, and how they are filled.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMicrosecondType};
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Fields};
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, EventTime, Result};

use super::config::{Config, Kind};
use super::field::{Events, Field};

/// What a table's rows are.
pub(crate) enum Shape {
    /// Events of one kind, a column for each field.
    Flat(Kind, Vec<Column>),
    /// Events of all kinds, a row for each kind, two of the three null.
    Events(Vec<EventColumn>),
}

/// A field and the type it is declared as.
pub(crate) struct Column {
    field: &'static Field,
    declared: DataType,
}

/// A column of a table of events.
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
                columns.iter().map(|column| column.make(&events, Ok)).collect()
            }
            Self::Events(columns) => {
                let kinds: Vec<Kind> = numbers.iter().map(|n| config.kind(*n)).collect();
                columns.iter().map(|c| c.make(config, numbers, &kinds, base)).collect()
            }
        }
    }
}

fn columns(kind: Kind, declared: &Fields) -> Result<Vec<Column>> {
    let find = |column: &Arc<arrow::datatypes::Field>| {
        let field = Field::of(kind).iter().find(|field| field.name == column.name());
        match field {
            Some(field) if field.family.holds(column.data_type()) => {
                Ok(Column { field, declared: column.data_type().clone() })
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
    /// The field's values for these events, put into place and cast to the declared type.
    fn make(
        &self,
        events: &Events<'_>,
        place: impl FnOnce(ArrayRef) -> Result<ArrayRef>,
    ) -> Result<ArrayRef> {
        let values = place(self.field.make(events)?)?;
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
        kinds: &[Kind],
        base: EventTime,
    ) -> Result<ArrayRef> {
        match self {
            Self::EventType => {
                let types = kinds.iter().map(|kind| *kind as i32);
                Ok(Arc::new(Int32Array::from_iter_values(types)))
            }
            Self::Row(kind, fields, columns) => {
                let own = Own::among(numbers, kinds, *kind);
                let events = Events { config, numbers: &own.numbers, base };
                let arrays = columns.iter().map(|column| column.make(&events, |a| own.spread(a)));
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                let rows = StructArray::try_new(fields.clone(), arrays, Some(own.valid))?;
                Ok(Arc::new(rows))
            }
        }
    }
}

/// The events of one kind among all of a batch.
struct Own {
    numbers: Vec<u64>,
    places: Vec<usize>,
    /// Which events of the batch these are: the validity of the row and of its fields alike.
    valid: NullBuffer,
}

impl Own {
    fn among(numbers: &[u64], kinds: &[Kind], kind: Kind) -> Self {
        let is_own = |place: &usize| kinds[*place] == kind;
        let places: Vec<usize> = (0..kinds.len()).filter(is_own).collect();
        let numbers = places.iter().map(|place| numbers[*place]).collect();
        Self { numbers, places, valid: kinds.iter().map(|k| *k == kind).collect() }
    }

    /// Puts values of these events in their places, with nulls between them.
    fn spread(&self, values: ArrayRef) -> Result<ArrayRef> {
        let nulls = Some(self.valid.clone());
        if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
            return Ok(Arc::new(Int64Array::try_new(self.scatter(numbers.values()), nulls)?));
        }
        if let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() {
            let times = self.scatter(times.values());
            return Ok(Arc::new(TimestampMicrosecondArray::try_new(times, nulls)?));
        }
        let texts = values.as_string_view();
        let views = self.scatter(texts.views());
        Ok(Arc::new(StringViewArray::try_new(views, texts.data_buffers(), nulls)?))
    }

    fn scatter<T: ArrowNativeType>(&self, values: &[T]) -> ScalarBuffer<T> {
        let mut spread = vec![T::default(); self.valid.len()];
        for (place, value) in self.places.iter().zip(values) {
            spread[*place] = *value;
        }
        spread.into()
    }
}
