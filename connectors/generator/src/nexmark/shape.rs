//! The columns that a table declares, resolved by name, and how they are filled.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields};
use tidemill_core::need::Need;
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, EventTime, Result};

use super::config::{Config, Kind};
use super::field::{Events, Field};
use super::stretch::Stretch;

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
        let stretches = &Stretch::among(numbers, config);
        let of = |kind| Events { config, kind, numbers, stretches, valid: None, base };
        match self {
            Self::Flat(kind, columns) => {
                let events = of(*kind);
                columns.iter().map(|column| column.make(&events)).collect()
            }
            Self::Events(columns) => columns.iter().map(|column| column.make(&of)).collect(),
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
        Some(match rows.cmp(&blank.len()) {
            Ordering::Less => blank.slice(0, rows),
            Ordering::Equal => blank.clone(),
            Ordering::Greater => new_null_array(&self.declared, rows),
        })
    }

    /// The field's values for these events, cast to the declared type.
    fn make(&self, events: &Events<'_>) -> Result<ArrayRef> {
        if let Some(blank) = self.blank(events.numbers.len()) {
            return Ok(blank);
        }
        let values = self.field.make(events);
        if *values.data_type() == self.declared {
            Ok(values)
        } else {
            Ok(cast(&values, &self.declared)?)
        }
    }
}

impl EventColumn {
    fn make<'a>(&self, of: &impl Fn(Kind) -> Events<'a>) -> Result<ArrayRef> {
        match self {
            Self::EventType => {
                // Whichever kind: its events have all stretches.
                let events = of(Kind::Bid);
                let mut types = Vec::with_capacity(events.numbers.len());
                for stretch in events.stretches {
                    types.resize(stretch.places.end, stretch.kind as i32);
                }
                Ok(Arc::new(Int32Array::from(types)))
            }
            Self::Row(kind, fields, columns) => {
                let valid = Stretch::are_of(*kind, of(*kind).stretches);
                let events = Events { valid: Some(valid.clone()), ..of(*kind) };
                let arrays = columns.iter().map(|column| column.make(&events));
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, Some(valid))?))
            }
        }
    }
}
