//! One CSV record into columns.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use memchr::{memchr, memchr_iter};
use tidemill_core::need::Need;
use tidemill_core::{Error, Result};

use super::CsvFormat;
use super::lines::LineReader;
use crate::Decoder;
use crate::column::{Bad, Column, Fit, Record, Values, type_name};

/// Decodes CSV records. See the [module](super).
pub struct CsvDecoder {
    fields: FieldReader,
    lines: LineReader,
    schema: SchemaRef,
    rows: usize,
}

/// Where the fields of a record go.
pub(super) struct FieldReader {
    pub(super) format: CsvFormat,
    pub(super) record: Record,
    /// For each field of a record its column, if it has one.
    pub(super) targets: Vec<Option<usize>>,
    /// Columns that no field fills.
    pub(super) absent: Vec<usize>,
    /// A quoted field without its doubled quotes.
    unquoted: Vec<u8>,
}

impl CsvDecoder {
    pub(super) fn new(format: CsvFormat, schema: SchemaRef) -> Result<Self> {
        let targets = (0..schema.fields().len()).map(Some).collect();
        Self::with_targets(format, schema, targets)
    }

    pub(super) fn with_header(format: CsvFormat, schema: SchemaRef, header: &[u8]) -> Result<Self> {
        let names = split(&format, trim_line_end(header)).map_err(|bad| {
            Error::configuration(format!("the header line is no CSV: {}", bad.reason("")))
        })?;
        let targets: Vec<_> = names.iter().map(|name| schema.index_of(name.trim()).ok()).collect();
        check_header(&schema, &names, &targets)?;
        Self::with_targets(format, schema, targets)
    }

    fn with_targets(
        format: CsvFormat,
        schema: SchemaRef,
        targets: Vec<Option<usize>>,
    ) -> Result<Self> {
        for field in schema.fields() {
            super::encode::check_column(field.name(), field.data_type())?;
        }
        let record = Record::new(schema.fields())?;
        let absent = absent(&record, &targets);
        let lines = LineReader::new(&format, targets.len());
        let fields = FieldReader { format, record, targets, absent, unquoted: Vec::new() };
        Ok(Self { fields, lines, schema, rows: 0 })
    }

    /// The same decoder, which has no rows yet, for a job that looks at no more than this of the columns: fields of the
    /// rest are counted and not read, and are null.
    ///
    /// # Errors
    /// A defect: the decoder could be made.
    pub fn reading(mut self, needs: &[Need]) -> Result<Self> {
        let fields = &mut self.fields;
        let record = Record::reading(self.schema.fields(), needs)?;
        for target in &mut fields.targets {
            *target = target.and_then(|place| record.column_of(place));
        }
        fields.absent = absent(&record, &fields.targets);
        fields.record = record;
        Ok(self)
    }

    /// The columns that are looked at and null in every row, as the header does not name them.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let fields = &self.fields;
        fields.absent.iter().map(|column| fields.record.columns[*column].field().name().as_str())
    }
}

/// Columns that no field fills.
fn absent(record: &Record, targets: &[Option<usize>]) -> Vec<usize> {
    (0..record.columns.len()).filter(|column| !targets.contains(&Some(*column))).collect()
}

fn check_header(schema: &SchemaRef, names: &[String], targets: &[Option<usize>]) -> Result<()> {
    let listed = || names.join(", ");
    if targets.iter().all(Option::is_none) {
        let wanted: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Error::configuration(format!(
            "the header line has none of the table's columns ({}): it says {}",
            wanted.join(", "),
            listed()
        )));
    }
    for (column, field) in schema.fields().iter().enumerate() {
        let times = targets.iter().filter(|target| **target == Some(column)).count();
        if times > 1 {
            let message = format!("the header line names column '{}' twice", field.name());
            return Err(Error::configuration(message));
        }
        if times == 0 && !field.is_nullable() {
            return Err(Error::configuration(format!(
                "the header line lacks column '{}', which is NOT NULL: it says {}",
                field.name(),
                listed()
            )));
        }
    }
    Ok(())
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        let payload = trim_line_end(payload);
        if self.lines.read_payload(payload, &mut self.fields) {
            self.rows += 1;
            return Ok(());
        }
        self.fields.record.truncate(self.rows);
        match self.fields.read(payload) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(bad) => {
                self.fields.record.truncate(self.rows);
                Err(bad.reason(""))
            }
        }
    }

    fn decode_lines(&mut self, text: &[u8], max: usize, ends: &mut Vec<u32>) {
        let mut at = 0;
        for _ in 0..max {
            let Some(next) = self.lines.read(text, at, &mut self.fields) else {
                self.fields.record.truncate(self.rows);
                break;
            };
            self.rows += 1;
            at = next;
            ends.push(next as u32);
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        Ok(RecordBatch::try_new(self.schema.clone(), self.fields.record.finish(rows)?)?)
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl FieldReader {
    fn read(&mut self, line: &[u8]) -> Fit {
        let seen = if memchr(self.format.quote, line).is_none() {
            self.read_plain(line)?
        } else {
            self.read_quoted(line)?
        };
        if seen != self.targets.len() {
            return Err(self.wrong_count(seen));
        }
        for column in &self.absent {
            self.record.columns[*column].append_null()?;
        }
        Ok(())
    }

    /// A record without any quote. Returns how many fields it has.
    fn read_plain(&mut self, line: &[u8]) -> Fit<usize> {
        let (mut start, mut field) = (0, 0);
        for end in memchr_iter(self.format.delimiter, line).chain([line.len()]) {
            self.put(field, &line[start..end], false)?;
            (start, field) = (end + 1, field + 1);
        }
        Ok(field)
    }

    fn read_quoted(&mut self, line: &[u8]) -> Fit<usize> {
        let (mut at, mut field) = (0, 0);
        let mut unquoted = std::mem::take(&mut self.unquoted);
        loop {
            unquoted.clear();
            let (piece, end, quoted) = next_field(&self.format, line, at, &mut unquoted)?;
            self.put(field, piece, quoted)?;
            field += 1;
            if end >= line.len() {
                break;
            }
            at = end + 1;
        }
        self.unquoted = unquoted;
        Ok(field)
    }

    fn put(&mut self, field: usize, text: &[u8], quoted: bool) -> Fit {
        // Fields too many are counted, and reported with their number.
        let Some(Some(target)) = self.targets.get(field) else { return Ok(()) };
        let column = &mut self.record.columns[*target];
        put_text(column, text, quoted, &self.format)
            .map_err(|bad| bad.inside(format_args!(".{}", column_name(&self.record, *target))))
    }

    #[cold]
    fn wrong_count(&self, seen: usize) -> Box<Bad> {
        let expected = self.targets.len();
        let fields = if seen == 1 { "field" } else { "fields" };
        Bad::new(format!("{seen} {fields} where {expected} are expected"))
    }
}

fn column_name(record: &Record, column: usize) -> &str {
    &record.names[column]
}

pub(super) fn put_text(column: &mut Column, text: &[u8], quoted: bool, format: &CsvFormat) -> Fit {
    let literal = format.null_literal.as_bytes();
    if let Values::Text(_) = column.values {
        return if quoted || text != literal || (text.is_empty() && !column.field().is_nullable()) {
            column.append_text(text)
        } else {
            column.append_null()
        };
    }
    let text = text.trim_ascii();
    if text.is_empty() || (!quoted && text == literal) {
        return column.append_null();
    }
    let Values::List { item, .. } = &mut column.values else { return column.append_text(text) };
    for (n, element) in text.split(|byte| *byte == format.array_delimiter).enumerate() {
        put_text(item, element, false, format).map_err(|bad| bad.inside(format_args!("[{n}]")))?;
    }
    let end = item_end(item)?;
    if let Values::List { ends, .. } = &mut column.values {
        ends.push(end);
    }
    column.appended();
    Ok(())
}

fn item_end(item: &Column) -> Fit<i32> {
    i32::try_from(item.len()).map_err(|_| {
        let of = type_name(&DataType::List(item.field().clone()));
        Bad::new(format!("more elements than an {of} column of one batch can hold"))
    })
}

/// The field that starts at `at`: its text, where it ends (at a delimiter, or the line's end), and
/// whether it was quoted. `unquoted` is room for a field with doubled quotes.
fn next_field<'a>(
    format: &CsvFormat,
    line: &'a [u8],
    at: usize,
    unquoted: &'a mut Vec<u8>,
) -> Fit<(&'a [u8], usize, bool)> {
    if line.get(at) != Some(&format.quote) {
        let end = memchr(format.delimiter, &line[at..]).map_or(line.len(), |n| at + n);
        return Ok((&line[at..end], end, false));
    }
    let start = at + 1;
    let mut from = start;
    loop {
        let Some(n) = memchr(format.quote, &line[from..]) else {
            return Err(Bad::new("a quoted field is not closed"));
        };
        let close = from + n;
        if line.get(close + 1) == Some(&format.quote) {
            unquoted.extend_from_slice(&line[from..=close]);
            from = close + 2;
            continue;
        }
        if close + 1 < line.len() && line[close + 1] != format.delimiter {
            return Err(Bad::new("text behind the closing quote of a field"));
        }
        let piece = if from == start {
            &line[start..close]
        } else {
            unquoted.extend_from_slice(&line[from..close]);
            unquoted.as_slice()
        };
        return Ok((piece, close + 1, true));
    }
}

/// The fields of a line as text.
fn split(format: &CsvFormat, line: &[u8]) -> Fit<Vec<String>> {
    let (mut names, mut at) = (Vec::new(), 0);
    loop {
        let mut unquoted = Vec::new();
        let (piece, end, _) = next_field(format, line, at, &mut unquoted)?;
        names.push(String::from_utf8_lossy(piece).into_owned());
        if end >= line.len() {
            return Ok(names);
        }
        at = end + 1;
    }
}
