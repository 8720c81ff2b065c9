//! Rows into messages. Nothing here is done twice for the same rows and form, however many clients there
//! are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use tidemill_core::{Error, Result};
use tidemill_formats::Encoder;
use tidemill_formats::json::{JsonEncoder, JsonFormat};

use super::parcel::{Form, Parcel};

/// Makes messages of rows, and texts of their keys.
pub(crate) struct Encodings {
    /// Without views and dictionaries: what every reader of Arrow understands, and what holds no memory
    /// but its own rows'.
    schema: SchemaRef,
    rows: JsonEncoder,
    key: Vec<KeyColumn>,
}

struct KeyColumn {
    column: usize,
    /// Of objects with nothing but this column.
    encoder: JsonEncoder,
    schema: SchemaRef,
    is_quoted: bool,
}

/// The name of the only field of an object whose value is wanted; stands before it as `{"k":`.
const KEY_NAME: &str = "k";
const BEFORE_KEY: usize = "{\"k\":".len();

impl Encodings {
    /// Of rows of `schema`, whose key is these columns.
    ///
    /// # Errors
    /// A column of a type that JSON does not hold.
    pub fn new(schema: &SchemaRef, json: JsonFormat, key: &[usize]) -> Result<Self> {
        let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let key = key.iter().map(|column| KeyColumn::new(&schema, json, *column));
        let key = key.collect::<Result<_>>()?;
        Ok(Self { rows: json.encoder(schema.clone())?, schema, key })
    }

    /// The same rows, in columns of plain types.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn plain(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = rows.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            cast(column, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// The messages of plain rows in one form.
    ///
    /// # Errors
    /// A defect: the schema has been checked.
    pub fn parcel(&mut self, rows: &RecordBatch, form: Form) -> Result<Parcel> {
        if rows.num_rows() == 0 {
            return Ok(Parcel::from([]));
        }
        match form {
            Form::Rows => self.objects(rows),
            Form::Arrays => self.array(rows),
            Form::Arrow => arrow(rows),
        }
    }

    /// A message for each row; all of them lie in one piece of memory.
    fn objects(&mut self, rows: &RecordBatch) -> Result<Parcel> {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(rows.num_rows()));
        self.rows.encode(rows, &mut |object| {
            text.extend_from_slice(object);
            ends.push(text.len());
        })?;
        let text = Bytes::from(text);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, end)| utf8(text.slice(start..*end))).collect()
    }

    fn array(&mut self, rows: &RecordBatch) -> Result<Parcel> {
        let mut text = vec![b'['];
        self.rows.encode(rows, &mut |object| {
            if text.len() > 1 {
                text.push(b',');
            }
            text.extend_from_slice(object);
        })?;
        text.push(b']');
        Ok(Parcel::from([utf8(text.into())?]))
    }

    /// Each row's key.
    ///
    /// # Errors
    /// A defect: the schema has been checked.
    pub fn keys(&mut self, rows: &RecordBatch) -> Result<Vec<String>> {
        let mut keys = vec![String::new(); rows.num_rows()];
        for key in &mut self.key {
            key.append(rows, &mut keys)?;
        }
        Ok(keys)
    }

    /// The key whose columns have these values, as text.
    ///
    /// # Errors
    /// A defect.
    pub fn key(&self, json: JsonFormat, values: &[String]) -> Result<String> {
        let mut key = String::new();
        for (column, value) in self.key.iter().zip(values) {
            if column.is_quoted {
                let text: ArrayRef = Arc::new(StringArray::from(vec![value.as_str()]));
                let rows = RecordBatch::try_from_iter([(KEY_NAME, text)])?;
                let mut encoder = json.encoder(rows.schema())?;
                encode_values(&mut encoder, &rows, |_, text| key.push_str(text))?;
            } else {
                key.push_str(value);
            }
            key.push(',');
        }
        Ok(key)
    }
}

impl KeyColumn {
    fn new(schema: &SchemaRef, json: JsonFormat, column: usize) -> Result<Self> {
        let field = schema.field(column).clone().with_name(KEY_NAME);
        let is_quoted =
            !(field.data_type().is_numeric() || *field.data_type() == DataType::Boolean);
        let schema = Arc::new(Schema::new(vec![field]));
        // A null has to be seen, or the value would not be where it is looked for.
        let json = JsonFormat { omits_nulls: false, ..json };
        Ok(Self { column, encoder: json.encoder(schema.clone())?, schema, is_quoted })
    }

    fn append(&mut self, rows: &RecordBatch, keys: &mut [String]) -> Result<()> {
        let column = vec![rows.column(self.column).clone()];
        let rows = RecordBatch::try_new(self.schema.clone(), column)?;
        encode_values(&mut self.encoder, &rows, |row, text| {
            keys[row].push_str(text);
            keys[row].push(',');
        })
    }
}

/// Calls `each` with the number of each row and the JSON text of its only column.
fn encode_values(
    encoder: &mut JsonEncoder,
    rows: &RecordBatch,
    mut each: impl FnMut(usize, &str),
) -> Result<()> {
    let mut row = 0;
    encoder.encode(rows, &mut |object| {
        let value = object.get(BEFORE_KEY..object.len().saturating_sub(1)).unwrap_or_default();
        each(row, &String::from_utf8_lossy(value));
        row += 1;
    })
}

fn utf8(text: Bytes) -> Result<Message> {
    let text = Utf8Bytes::try_from(text);
    text.map(Message::Text).map_err(|_| Error::internal("JSON is UTF-8"))
}

fn arrow(rows: &RecordBatch) -> Result<Parcel> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    Ok(Parcel::from([Message::Binary(writer.into_inner()?.into())]))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = plain_type(field.data_type());
    Arc::new(Field::new(field.name(), plain, field.is_nullable()))
}

/// The type with the same values that has neither views nor dictionaries in it.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}
