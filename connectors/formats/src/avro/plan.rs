//! How a datum of one schema becomes a row of one table: resolved once per writer's schema.
//!
//! Fields are matched with columns by name (or by an alias, where the reader's schema has some).
//! What a type can be read as follows the specification's rules of resolution; a table's types say
//! less than a schema's, so an `INT` column is read from an `int` of any logical type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as Column, Fields, TimeUnit};

use super::default::default_bytes;
use super::schema::{Field, Kind, Logical, Schema, Type};
use crate::column::{Bad, Fit, type_name};
use crate::temporal::per_second;

/// How to read data of one schema.
pub(super) struct Plan {
    pub(super) schema: Arc<Schema>,
    pub(super) root: Root,
}

/// What a datum is.
pub(super) enum Root {
    Record(RecordReader),
    /// A union: of each branch its record, or why it is no row.
    Union(Vec<Result<RecordReader, String>>),
}

/// The fields of a record, as they are written one after the other.
pub(super) struct RecordReader {
    pub(super) fields: Vec<FieldReader>,
    /// Columns that no field fills.
    pub(super) absent: Vec<Absent>,
}

/// A field and where it goes.
pub(super) struct FieldReader {
    pub(super) name: String,
    pub(super) target: Target,
}

/// Where a field goes.
pub(super) enum Target {
    Column(usize, Reader),
    Skip(Type),
}

/// A column that no field fills: null, or the default of the reader's schema.
pub(super) struct Absent {
    pub(super) column: usize,
    pub(super) default: Option<Default>,
}

/// A default, encoded, and how it is read.
pub(super) struct Default {
    pub(super) bytes: Vec<u8>,
    pub(super) reader: Reader,
    pub(super) schema: Arc<Schema>,
}

/// How a value is read into its column.
pub(super) enum Reader {
    Null,
    Boolean,
    /// `int` or `long`; the column checks the range.
    Integer,
    /// `int` or `long` into a column of time, times `multiply`, divided by `divide`.
    Temporal {
        multiply: i64,
        divide: i64,
    },
    Float,
    Double,
    /// `int` or `long` into a float.
    IntegerAsFloat,
    /// `string` or `bytes`, which text must be valid UTF-8.
    Prefixed,
    Fixed(usize),
    Symbol(Vec<String>),
    /// A big-endian integer, of a fixed size or prefixed; times `multiply`.
    Decimal {
        size: Option<usize>,
        multiply: i128,
    },
    Record(RecordReader),
    Array(Box<Reader>),
    Map(Box<Reader>),
    /// A union of null and one type; `null` is the number of the null branch.
    Optional {
        null: i64,
        value: Box<Reader>,
    },
    Union(Vec<Reader>),
    /// A branch that the column cannot hold, and why.
    Impossible(String),
}

impl Plan {
    /// A plan to read data of `writer` into `columns`. `reader` may give aliases and defaults.
    ///
    /// # Errors
    /// Why it is not possible, with the path of the column.
    pub(super) fn new(
        writer: Arc<Schema>,
        columns: &Fields,
        reader: Option<&Arc<Schema>>,
    ) -> Result<Self, String> {
        let hints = reader.and_then(|reader| Some((reader, reader.fields(&reader.root)?)));
        let resolver = Resolver { writer: &writer };
        let branch = |of: &Type| match writer.fields(of) {
            Some(fields) => resolver.record(fields, columns, hints).map_err(|bad| bad.reason("")),
            None => Err(format!("{} is no record, which a row is", writer.describe(of))),
        };
        let root = match &writer.root {
            Type::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(branch).collect();
                if let [Err(why), ..] = branches.as_slice()
                    && branches.iter().all(Result::is_err)
                {
                    return Err(why.clone());
                }
                Root::Union(branches)
            }
            other => Root::Record(branch(other)?),
        };
        Ok(Self { schema: writer, root })
    }
}

/// A record's fields in the reader's schema, and that schema.
type Hints<'a> = Option<(&'a Arc<Schema>, &'a [Field])>;

/// What the reader's schema says about a value.
type Hint<'a> = Option<(&'a Arc<Schema>, &'a Type)>;

struct Resolver<'a> {
    writer: &'a Schema,
}

impl Resolver<'_> {
    fn record(&self, fields: &[Field], columns: &Fields, hints: Hints) -> Fit<RecordReader> {
        let hint = |column: &Column| {
            let (_, fields) = hints?;
            fields.iter().find(|field| field.name == *column.name())
        };
        let source = |column: &Column| {
            let named = |name: &str| fields.iter().position(|field| field.name == name);
            let by_alias = || hint(column)?.aliases.iter().find_map(|alias| named(alias));
            named(column.name()).or_else(by_alias)
        };
        let mut targets: Vec<_> = fields.iter().map(|_| None).collect();
        let mut absent = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let at = |bad: Box<Bad>| bad.inside(format_args!(".{}", column.name()));
            let schema = hints.map(|(schema, _)| schema);
            let hint = hint(column);
            match source(column) {
                Some(field) => {
                    let hint = schema.zip(hint.map(|field| &field.data_type));
                    let reader = self.value(&fields[field].data_type, column, hint).map_err(at)?;
                    targets[field] = Some(Target::Column(index, reader));
                }
                None => {
                    let default =
                        schema.zip(hint).map(|(s, field)| absent_default(s, field, column));
                    let default = default.transpose().map_err(at)?.flatten();
                    if default.is_none() && !column.is_nullable() {
                        return Err(at(Bad::new(
                            "the column is NOT NULL, and the writer's schema has no such field",
                        )));
                    }
                    absent.push(Absent { column: index, default });
                }
            }
        }
        let field = |(field, target): (&Field, Option<Target>)| FieldReader {
            name: field.name.clone(),
            target: target.unwrap_or_else(|| Target::Skip(field.data_type.clone())),
        };
        Ok(RecordReader { fields: fields.iter().zip(targets).map(field).collect(), absent })
    }

    fn value(&self, from: &Type, column: &Column, hint: Hint) -> Fit<Reader> {
        if let Type::Union(branches) = from {
            return self.union(branches, column, hint);
        }
        let reader = match (from, column.data_type()) {
            (Type::Null, _) => Some(Reader::Null),
            (Type::Boolean, DataType::Boolean) => Some(Reader::Boolean),
            (Type::Int(_) | Type::Long(_), to) => number(from, to),
            (Type::Float, DataType::Float32 | DataType::Float64) => Some(Reader::Float),
            (Type::Double, DataType::Float64) => Some(Reader::Double),
            (Type::Bytes(logical), DataType::Decimal128(_, scale)) => {
                decimal(*logical, None, *scale)
            }
            (Type::String | Type::Bytes(_), to) if is_text(to) || is_bytes(to) => {
                Some(Reader::Prefixed)
            }
            (Type::Array(item), DataType::List(to)) => {
                let item = self.value(item, to, item_hint(hint));
                Some(Reader::Array(Box::new(item.map_err(|bad| bad.inside("[]"))?)))
            }
            (Type::Map(value), DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(entry) if entry.len() == 2 => {
                    let value = self.value(value, &entry[1], item_hint(hint));
                    Some(Reader::Map(Box::new(value.map_err(|bad| bad.inside("{}"))?)))
                }
                _ => None,
            },
            (Type::Named(index), to) => self.named(*index, to, hint)?,
            _ => None,
        };
        reader.ok_or_else(|| Bad::new(self.mismatch(from, column)))
    }

    fn named(&self, index: usize, to: &DataType, hint: Hint) -> Fit<Option<Reader>> {
        Ok(match (&self.writer.named(index).kind, to) {
            (Kind::Record(fields), DataType::Struct(columns)) => {
                let hints = hint.and_then(|(schema, of)| Some((schema, schema.fields(of)?)));
                Some(Reader::Record(self.record(fields, columns, hints)?))
            }
            (Kind::Enum(symbols), to) if is_text(to) => Some(Reader::Symbol(symbols.clone())),
            (Kind::Fixed { size, logical }, DataType::Decimal128(_, scale)) => {
                decimal(*logical, Some(*size), *scale)
            }
            (Kind::Fixed { size, .. }, to) if is_bytes(to) => Some(Reader::Fixed(*size)),
            _ => None,
        })
    }

    /// A branch that the column cannot hold costs only the records that use it, as long as there
    /// is one that it can.
    fn union(&self, branches: &[Type], column: &Column, hint: Hint) -> Fit<Reader> {
        let readers: Vec<_> =
            branches.iter().map(|branch| self.value(branch, column, hint)).collect();
        let possible =
            |(branch, reader): (&Type, &Fit<Reader>)| *branch != Type::Null && reader.is_ok();
        let any = branches.iter().zip(&readers).any(possible);
        if !any && branches.iter().any(|branch| *branch != Type::Null) {
            let first = readers.into_iter().find_map(Result::err);
            return Err(first.unwrap_or_else(|| Bad::new("a union of nothing")));
        }
        let mut readers: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.unwrap_or_else(|bad| Reader::Impossible(bad.reason(""))))
            .collect();
        match branches.iter().position(|branch| *branch == Type::Null) {
            Some(null) if readers.len() == 2 => {
                let value = Box::new(readers.swap_remove(1 - null));
                Ok(Reader::Optional { null: null as i64, value })
            }
            _ => Ok(Reader::Union(readers)),
        }
    }

    fn mismatch(&self, from: &Type, column: &Column) -> String {
        let (from, to) = (self.writer.describe(from), type_name(column.data_type()));
        format!("the writer's schema has {from}, which cannot be read as {to}")
    }
}

fn item_hint(hint: Hint) -> Hint {
    let (schema, of) = hint?;
    let of = match of {
        Type::Union(branches) => branches.iter().find(|branch| **branch != Type::Null)?,
        of => of,
    };
    match of {
        Type::Array(item) | Type::Map(item) => Some((schema, item)),
        _ => None,
    }
}

fn absent_default(schema: &Arc<Schema>, field: &Field, column: &Column) -> Fit<Option<Default>> {
    let Some(value) = &field.default else { return Ok(None) };
    let bytes = default_bytes(schema, &field.data_type, value).map_err(Bad::new)?;
    let reader = Resolver { writer: schema }.value(&field.data_type, column, None)?;
    Ok(Some(Default { bytes, reader, schema: schema.clone() }))
}

/// An `int` or `long` as a value of `to`. Where the schema does not say what it means, time is in
/// the unit that a schema made from the table has.
fn number(from: &Type, to: &DataType) -> Option<Reader> {
    use DataType::*;
    let (is_int, logical) = match from {
        Type::Int(logical) => (true, *logical),
        Type::Long(logical) => (false, *logical),
        _ => return None,
    };
    match (to, logical) {
        (Int8 | Int16 | Int32, _) if is_int => Some(Reader::Integer),
        (Int64, _) => Some(Reader::Integer),
        (Float32 | Float64, _) => Some(Reader::IntegerAsFloat),
        (Date32, Logical::Date | Logical::Plain) if is_int => temporal(1, 1),
        (Time32(to) | Time64(to), Logical::Time(from)) => between(from, *to),
        (Time32(to) | Time64(to), Logical::Plain) if is_int => between(TimeUnit::Millisecond, *to),
        (Timestamp(to, _), Logical::Timestamp(from)) => between(from, *to),
        (Timestamp(to, _), Logical::Plain) if !is_int => between(TimeUnit::Millisecond, *to),
        _ => None,
    }
}

fn between(from: TimeUnit, to: TimeUnit) -> Option<Reader> {
    let (from, to) = (per_second(from), per_second(to));
    if to >= from { temporal(to / from, 1) } else { temporal(1, from / to) }
}

fn temporal(multiply: i64, divide: i64) -> Option<Reader> {
    Some(Reader::Temporal { multiply, divide })
}

/// A decimal of the writer's scale as one of the column's, which must have as many digits behind
/// the point.
fn decimal(logical: Logical, size: Option<usize>, scale: i8) -> Option<Reader> {
    let Logical::Decimal { scale: from, .. } = logical else { return None };
    let more = u32::try_from(scale).ok()?.checked_sub(from)?;
    Some(Reader::Decimal { size, multiply: 10i128.checked_pow(more)? })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}
