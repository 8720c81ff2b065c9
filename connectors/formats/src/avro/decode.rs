//! One Avro datum into columns: a walk over its bytes, along a plan made once per writer's schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::{Error, ErrorKind, Result};

use super::plan::{Default, Plan, Reader, RecordReader, Root, Target};
use super::schema::{Kind, Schema, Type};
use super::wire::Wire;
use crate::Decoder;
use crate::column::{Bad, Column, Fit, Record, Values};
use crate::registry::{Registry, framing};

/// How deep values that no column takes may be nested.
const DEPTH_MAX: usize = 128;

/// Decodes Avro data. See the [module](super).
pub struct AvroDecoder {
    columns: SchemaRef,
    record: Record,
    rows: usize,
    writers: Writers,
}

/// The schemas that data was written with.
enum Writers {
    /// One, that everybody knows.
    Agreed(Plan),
    /// Those of a registry, by the id in front of each datum.
    Registered(Box<Registered>),
}

/// Plans for the schemas of a registry, as they are met.
struct Registered {
    registry: Registry,
    reader: Option<Arc<Schema>>,
    plans: HashMap<u32, Result<Plan, String>>,
    /// Why a record could not be judged, which is not the record's fault.
    outage: Option<Error>,
}

impl AvroDecoder {
    /// A decoder of data that was all written with `writer`.
    pub(super) fn agreed(columns: SchemaRef, writer: Arc<Schema>) -> Result<Self> {
        let plan = Plan::new(writer.clone(), columns.fields(), Some(&writer))
            .map_err(Error::configuration)?;
        Self::of_plan(columns, plan)
    }

    /// A decoder of data that is all read along one plan, made for these columns.
    pub(super) fn of_plan(columns: SchemaRef, plan: Plan) -> Result<Self> {
        Self::new(columns, Writers::Agreed(plan))
    }

    /// A decoder of data in a registry's frames.
    pub(super) fn registered(
        columns: SchemaRef,
        registry: Registry,
        reader: Option<Arc<Schema>>,
    ) -> Result<Self> {
        let (registry, plans) = (registry.for_decoder(), HashMap::new());
        let registered = Registered { registry, reader, plans, outage: None };
        Self::new(columns, Writers::Registered(Box::new(registered)))
    }

    fn new(columns: SchemaRef, writers: Writers) -> Result<Self> {
        Ok(Self { record: Record::new(columns.fields())?, columns, rows: 0, writers })
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        let (plan, datum) = match &mut self.writers {
            Writers::Agreed(plan) => (&*plan, payload),
            Writers::Registered(registered) => {
                let (id, datum) = framing::split(payload)?;
                (registered.plan(id, &self.columns)?, datum)
            }
        };
        match read_datum(datum, plan, &mut self.record) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(bad) => {
                self.record.truncate(self.rows);
                Err(bad.reason(""))
            }
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.record.finish(rows)?;
        if let Writers::Registered(registered) = &mut self.writers
            && let Some(outage) = registered.outage.take()
        {
            return Err(outage);
        }
        Ok(RecordBatch::try_new(self.columns.clone(), columns)?)
    }
}

impl Registered {
    #[inline]
    fn plan(&mut self, id: u32, columns: &SchemaRef) -> Result<&Plan, String> {
        if !self.plans.contains_key(&id) {
            let plan = self.resolve(id, columns)?;
            self.plans.insert(id, plan);
        }
        self.plans[&id].as_ref().map_err(Clone::clone)
    }

    /// The plan of a schema, or why there is none; the outer error is not for ever.
    fn resolve(&mut self, id: u32, columns: &SchemaRef) -> Result<Result<Plan, String>, String> {
        if let Some(outage) = &self.outage {
            return Err(outage.to_string());
        }
        let found = match self.registry.schema_by_id(id) {
            Ok(found) => found,
            Err(error) => {
                let reason = error.to_string();
                if error.kind() != ErrorKind::Permanent {
                    self.outage = Some(error);
                }
                return Err(reason);
            }
        };
        let imports: Vec<_> = found.imports.iter().map(|import| import.text.clone()).collect();
        let plan = Schema::parse(&found.definition.text, &imports)
            .and_then(|writer| Plan::new(writer.into(), columns.fields(), self.reader.as_ref()));
        Ok(plan.map_err(|why| format!("schema {id} of the registry: {why}")))
    }
}

fn read_datum(datum: &[u8], plan: &Plan, record: &mut Record) -> Fit {
    let mut wire = Wire::new(datum);
    let reader = match &plan.root {
        Root::Record(reader) => reader,
        Root::Union(branches) => {
            let branch = wire.long()?;
            match usize::try_from(branch).ok().and_then(|branch| branches.get(branch)) {
                Some(Ok(reader)) => reader,
                Some(Err(why)) => return Err(Bad::new(why.clone())),
                None => return Err(no_branch(branch)),
            }
        }
    };
    read_record(&mut wire, reader, record, &plan.schema)?;
    wire.end()
}

fn read_record(
    wire: &mut Wire,
    reader: &RecordReader,
    record: &mut Record,
    schema: &Schema,
) -> Fit {
    for field in &reader.fields {
        let read = match &field.target {
            Target::Column(column, reader) => {
                read(wire, reader, &mut record.columns[*column], schema)
            }
            Target::Skip(of) => skip(wire, of, schema, 0),
        };
        read.map_err(|bad| bad.inside(format_args!(".{}", field.name)))?;
    }
    for absent in &reader.absent {
        let column = &mut record.columns[absent.column];
        match &absent.default {
            None => column.append_null(),
            Some(Default { bytes, reader, schema }) => {
                read(&mut Wire::new(bytes), reader, column, schema)
            }
        }
        .map_err(|bad| bad.inside(format_args!(".{}", record.names[absent.column])))?;
    }
    Ok(())
}

#[inline]
fn read(wire: &mut Wire, reader: &Reader, column: &mut Column, schema: &Schema) -> Fit {
    let reader = match reader {
        Reader::Optional { null, value } => match wire.long()? {
            branch if branch == 1 - *null => value,
            branch if branch == *null => return column.append_null(),
            branch => return Err(no_branch(branch)),
        },
        reader => reader,
    };
    match (reader, &mut column.values) {
        (Reader::Integer, Values::Integer { values, min, max }) => {
            let value = wire.long()?;
            if !(*min..=*max).contains(&value) {
                return Err(column.mismatch(&value.to_string()));
            }
            values.push(value);
        }
        (Reader::Double, Values::Float { values, .. }) => {
            values.push(f64::from_le_bytes(wire.array()?));
        }
        (Reader::Prefixed, Values::Text(_)) => return append_text(column, wire.prefixed()?),
        (Reader::Temporal { multiply, divide }, Values::Temporal { values, .. }) => {
            let value = wire.long()?;
            let Some(product) = value.checked_mul(*multiply) else {
                return Err(column.mismatch(&value.to_string()));
            };
            values.push(product.div_euclid(*divide));
        }
        _ => return read_rare(wire, reader, column, schema),
    }
    column.appended();
    Ok(())
}

/// As [`read`], for what is less frequent.
fn read_rare(wire: &mut Wire, reader: &Reader, column: &mut Column, schema: &Schema) -> Fit {
    match (reader, &mut column.values) {
        (Reader::Null, _) => return column.append_null(),
        (Reader::Boolean, Values::Boolean(values)) => values.push(wire.boolean()?),
        (Reader::Float, Values::Float { values, .. }) => {
            values.push(f64::from(f32::from_le_bytes(wire.array()?)));
        }
        (Reader::IntegerAsFloat, Values::Float { values, single }) => {
            let value = wire.long()?;
            values.push(if *single { f64::from(value as f32) } else { value as f64 });
        }
        (Reader::Prefixed, Values::Binary(_)) => {
            column.append_bytes(wire.prefixed()?);
            return Ok(());
        }
        (Reader::Fixed(size), Values::Binary(_)) => {
            column.append_bytes(wire.take(*size)?);
            return Ok(());
        }
        (Reader::Symbol(symbols), Values::Text(_)) => {
            let index = wire.long()?;
            let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
            let Some(symbol) = symbol else {
                return Err(Bad::new(format!("the enum has no symbol number {index}")));
            };
            column.append_bytes(symbol.as_bytes());
            return Ok(());
        }
        (Reader::Decimal { size, multiply }, Values::Decimal { .. }) => {
            let bytes = if let Some(size) = size { wire.take(*size)? } else { wire.prefixed()? };
            return append_decimal(column, bytes, *multiply);
        }
        (Reader::Union(branches), _) => {
            let branch = wire.long()?;
            let reader = usize::try_from(branch).ok().and_then(|branch| branches.get(branch));
            return match reader {
                Some(reader) => read(wire, reader, column, schema),
                None => Err(no_branch(branch)),
            };
        }
        (Reader::Impossible(why), _) => return Err(Bad::new(why.clone())),
        _ => return read_nested(wire, reader, column, schema),
    }
    column.appended();
    Ok(())
}

fn read_nested(wire: &mut Wire, reader: &Reader, column: &mut Column, schema: &Schema) -> Fit {
    match (reader, &mut column.values) {
        (Reader::Record(reader), Values::Struct(record)) => {
            read_record(wire, reader, record, schema)?;
        }
        (Reader::Array(reader), Values::List { ends, item }) => {
            let start = item.len();
            read_blocks(wire, |wire| {
                let n = item.len() - start;
                read(wire, reader, item, schema).map_err(|bad| bad.inside(format_args!("[{n}]")))
            })?;
            ends.push(offset(item.len())?);
        }
        (Reader::Map(reader), Values::Map { ends, key, value }) => {
            read_blocks(wire, |wire| {
                let name = wire.prefixed()?;
                append_text(key, name)?;
                read(wire, reader, value, schema).map_err(|bad| {
                    bad.inside(format_args!("['{}']", String::from_utf8_lossy(name)))
                })
            })?;
            ends.push(offset(key.len())?);
        }
        _ => return Err(Bad::new("the plan was made for a column of another type")),
    }
    column.appended();
    Ok(())
}

fn read_blocks(wire: &mut Wire, mut item: impl FnMut(&mut Wire) -> Fit) -> Fit {
    loop {
        let count = wire.block()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            item(wire)?;
        }
    }
}

fn append_text(column: &mut Column, text: &[u8]) -> Fit {
    if !text.is_ascii() && std::str::from_utf8(text).is_err() {
        return Err(Bad::new("invalid UTF-8"));
    }
    column.append_bytes(text);
    Ok(())
}

/// A big-endian integer in two's complement, of any length.
fn append_decimal(column: &mut Column, bytes: &[u8], multiply: i128) -> Fit {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    let (front, digits) = bytes.split_at(bytes.len().saturating_sub(16));
    let fits = front.iter().all(|byte| *byte == filler)
        && (front.is_empty() || (digits[0] >= 0x80) == negative);
    let mut word = [filler; 16];
    word[16 - digits.len()..].copy_from_slice(digits);
    let value = Some(i128::from_be_bytes(word)).filter(|_| fits);
    let Values::Decimal { values, precision, .. } = &mut column.values else {
        return Err(Bad::new("the plan was made for a column of another type"));
    };
    let limit = 10u128.pow(u32::from(*precision).min(38));
    match value.and_then(|value| value.checked_mul(multiply)) {
        Some(value) if value.unsigned_abs() < limit => values.push(value),
        _ => return Err(column.mismatch("the number")),
    }
    column.appended();
    Ok(())
}

/// Passes over a value of type `of`, `depth` values deep.
fn skip(wire: &mut Wire, of: &Type, schema: &Schema, depth: usize) -> Fit {
    if depth == DEPTH_MAX {
        return Err(Bad::new(format!("values are nested more than {DEPTH_MAX} deep")));
    }
    match of {
        Type::Null => Ok(()),
        Type::Boolean => wire.take(1).map(drop),
        Type::Int(_) | Type::Long(_) => wire.long().map(drop),
        Type::Float => wire.take(4).map(drop),
        Type::Double => wire.take(8).map(drop),
        Type::Bytes(_) | Type::String => wire.prefixed().map(drop),
        Type::Array(item) => read_blocks(wire, |wire| skip(wire, item, schema, depth + 1)),
        Type::Map(value) => read_blocks(wire, |wire| {
            wire.prefixed()?;
            skip(wire, value, schema, depth + 1)
        }),
        Type::Union(branches) => {
            let branch = wire.long()?;
            match usize::try_from(branch).ok().and_then(|branch| branches.get(branch)) {
                Some(of) => skip(wire, of, schema, depth + 1),
                None => Err(no_branch(branch)),
            }
        }
        Type::Named(index) => match &schema.named(*index).kind {
            Kind::Record(fields) => {
                fields.iter().try_for_each(|f| skip(wire, &f.data_type, schema, depth + 1))
            }
            Kind::Enum(_) => wire.long().map(drop),
            Kind::Fixed { size, .. } => wire.take(*size).map(drop),
        },
    }
}

#[cold]
fn no_branch(branch: i64) -> Box<Bad> {
    Bad::new(format!("the union has no branch number {branch}"))
}

fn offset(len: usize) -> Fit<i32> {
    i32::try_from(len).map_err(|_| Bad::new("more elements than one batch can hold"))
}
