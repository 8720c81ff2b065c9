//! Columns as the text that stands in keys, fields and members: the first step of encoding a batch.
//!
//! Strings and bytes stand as they are, everything else as JSON writes it, without quotes: numbers so that
//! they read back exactly, timestamps in ISO 8601, rows and arrays as JSON.
//!
//! Invariant: the text of a value is a function of the value and its type alone, so that a row that is
//! written again goes to the same key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use tidemill_core::Result;
use tidemill_formats::Encoder as _;
use tidemill_formats::json::{JsonFormat, TimestampStyle};

/// What stands around the value of the one column `c`.
const BEFORE: usize = r#"{"c":"#.len();
const BEHIND: usize = "}".len();

/// The texts of one column.
pub(crate) enum Texts {
    /// Strings.
    Text(StringViewArray),
    /// Bytes.
    Bytes(BinaryViewArray),
    /// Everything else, written down one behind the other.
    Written {
        /// All of it.
        bytes: Vec<u8>,
        /// Where each ends.
        ends: Vec<usize>,
        /// Which are null.
        nulls: Option<NullBuffer>,
    },
}

fn json() -> JsonFormat {
    JsonFormat { timestamps: TimestampStyle::Iso8601, ..JsonFormat::default() }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Whether values of this column can be written as text.
///
/// # Errors
/// A configuration error for a type that no text holds.
pub(crate) fn check(field: &Field) -> Result<()> {
    if is_text(field.data_type()) || is_bytes(field.data_type()) {
        return Ok(());
    }
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    json()
        .encoder(schema)
        .map(|_| ())
        .map_err(|error| error.at(format!("column '{}'", field.name())))
}

impl Texts {
    /// # Errors
    /// As for [`check`].
    pub fn of(column: &ArrayRef) -> Result<Self> {
        let column = match column.data_type() {
            DataType::Dictionary(_, values) => &cast(column, values)?,
            _ => column,
        };
        if is_text(column.data_type()) {
            let texts = cast(column, &DataType::Utf8View)?;
            return Ok(Self::Text(texts.as_string_view().clone()));
        }
        if is_bytes(column.data_type()) {
            let bytes = cast(column, &DataType::BinaryView)?;
            return Ok(Self::Bytes(bytes.as_binary_view().clone()));
        }
        Self::write(column)
    }

    fn write(column: &ArrayRef) -> Result<Self> {
        let schema = Schema::new(vec![Field::new("c", column.data_type().clone(), true)]);
        let schema = Arc::new(schema);
        let mut encoder = json().encoder(schema.clone())?;
        let rows = RecordBatch::try_new(schema, vec![column.clone()])?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(column.len()));
        encoder.encode(&rows, &mut |object| {
            let value = &object[BEFORE..object.len() - BEHIND];
            // Of what is no text only names and times have quotes, and nothing in them is escaped.
            let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            bytes.extend_from_slice(bare.unwrap_or(value));
            ends.push(bytes.len());
        })?;
        Ok(Self::Written { bytes, ends, nulls: column.logical_nulls() })
    }

    /// The text of a row; `None` for a null.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Bytes(bytes) => bytes.is_valid(row).then(|| bytes.value(row)),
            Self::Written { bytes, ends, nulls } => {
                let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                (!is_null).then(|| &bytes[start..ends[row]])
            }
        }
    }
}

/// The texts of those columns of a batch that are needed.
pub(crate) struct Columns(Vec<Option<Texts>>);

impl Columns {
    /// # Errors
    /// As for [`check`].
    pub fn of(rows: &RecordBatch, needed: &[usize]) -> Result<Self> {
        let mut columns: Vec<Option<Texts>> = Vec::new();
        columns.resize_with(rows.num_columns(), || None);
        for column in needed {
            if columns[*column].is_none() {
                columns[*column] = Some(Texts::of(rows.column(*column))?);
            }
        }
        Ok(Self(columns))
    }

    /// The text of a cell of a column that was needed; `None` for a null.
    pub fn get(&self, column: usize, row: usize) -> Option<&[u8]> {
        let texts = self.0[column].as_ref();
        texts.expect("an encoder names every column that it reads").get(row)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        ListArray, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn texts(column: impl Array + 'static) -> Vec<Option<String>> {
        let column: ArrayRef = Arc::new(column);
        check(&Field::new("x", column.data_type().clone(), true)).unwrap();
        let texts = Texts::of(&column).unwrap();
        let text = |row| texts.get(row).map(|text| String::from_utf8_lossy(text).into_owned());
        (0..column.len()).map(text).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn values_stand_as_people_and_redis_read_them() {
        let quoted = StringArray::from(vec!["plain", "with \"quotes\"\n", ""]);
        assert_eq!(texts(quoted), some(&["plain", "with \"quotes\"\n", ""]));
        assert_eq!(texts(BinaryArray::from(vec![&b"a\"b"[..]])), some(&["a\"b"]));
        assert_eq!(
            texts(Int64Array::from(vec![i64::MIN, 0])),
            some(&["-9223372036854775808", "0"])
        );
        let floats = Float64Array::from(vec![0.1, 2.0, f64::NAN, f64::NEG_INFINITY]);
        assert_eq!(texts(floats), some(&["0.1", "2.0", "NaN", "-Infinity"]));
        assert_eq!(texts(BooleanArray::from(vec![true])), some(&["true"]));
        let price = Decimal128Array::from(vec![-1_205]).with_precision_and_scale(6, 2).unwrap();
        assert_eq!(texts(price), some(&["-12.05"]));
        assert_eq!(texts(Date32Array::from(vec![-1])), some(&["1969-12-31"]));
        let list = vec![Some(vec![Some(1), None])];
        assert_eq!(
            texts(ListArray::from_iter_primitive::<Int32Type, _, _>(list)),
            some(&["[1,null]"])
        );
    }

    #[test]
    fn timestamps_are_iso_and_instants_say_so() {
        let times = || TimestampMicrosecondArray::from(vec![0, 1_500_000, -1]);
        let expected =
            ["1970-01-01T00:00:00", "1970-01-01T00:00:01.500", "1969-12-31T23:59:59.999999"];
        assert_eq!(texts(times()), some(&expected));
        let zulu = expected.map(|time| format!("{time}Z"));
        let zulu = zulu.each_ref().map(String::as_str);
        assert_eq!(texts(times().with_timezone("UTC")), some(&zulu));
    }

    #[test]
    fn null_is_no_text_whatever_the_type() {
        assert_eq!(texts(StringArray::from(vec![None, Some("null")])), [None, Some("null".into())]);
        assert_eq!(texts(Int64Array::from(vec![None, Some(7)])), [None, Some("7".into())]);
    }
}
