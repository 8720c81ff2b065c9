//! Rows as lines of an aligned table.
//!
//! Rows come batch by batch for as long as the job runs, so the layout cannot look at all of them
//! first: it starts with what the first batch needs and only ever grows. A column therefore never
//! jumps to and fro.

use arrow::array::RecordBatch;
use tidemill_core::Result;

use crate::cell::Style;

/// A cell longer than this sticks out of its column instead of widening it for good.
const WIDTH_MAX: usize = 48;

/// Between two columns.
const GAP: &str = "  ";

/// The layout of one sink's table, shared by its shards.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    prefix: String,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    style: Style,
    right: bool,
    width: usize,
}

impl Layout {
    pub(crate) fn set_prefix(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    /// The batch as lines; before them the header, where the table has not been shown yet or
    /// another one came in between.
    pub(crate) fn lines(
        &mut self,
        batch: &RecordBatch,
        interrupted: Option<bool>,
    ) -> Result<Vec<u8>> {
        let first = self.columns.is_empty();
        if first {
            self.columns = batch.schema().fields().iter().map(|f| Column::new(f)).collect();
        }
        let mut cells = Vec::with_capacity(self.columns.len());
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.style.learn(array)?;
            let texts = column.style.texts(array)?;
            column.widen(texts.iter().map(String::as_str));
            cells.push(texts);
        }
        let mut lines = String::new();
        if first || interrupted == Some(true) {
            if interrupted == Some(true) {
                lines.push('\n');
            }
            self.header(&mut lines);
        }
        for row in 0..batch.num_rows() {
            self.line(&mut lines, cells.iter().map(|texts| texts[row].as_str()), ' ');
        }
        Ok(lines.into_bytes())
    }

    fn header(&self, lines: &mut String) {
        self.line(lines, self.columns.iter().map(|column| column.name.as_str()), ' ');
        self.line(lines, self.columns.iter().map(|_| ""), '─');
    }

    fn line<'a>(&self, lines: &mut String, cells: impl Iterator<Item = &'a str>, fill: char) {
        lines.push_str(&self.prefix);
        for (number, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            if number > 0 {
                lines.push_str(GAP);
            }
            let padding = column.width.saturating_sub(cell.chars().count());
            let pad = |lines: &mut String| lines.extend(std::iter::repeat_n(fill, padding));
            if column.right {
                pad(lines);
            }
            lines.push_str(cell);
            if !column.right {
                pad(lines);
            }
        }
        lines.truncate(lines.trim_end_matches(' ').len());
        lines.push('\n');
    }
}

impl Column {
    fn new(field: &arrow::datatypes::Field) -> Self {
        let mut column = Self {
            name: field.name().clone(),
            style: Style::of(field.data_type()),
            right: field.data_type().is_numeric(),
            width: 1,
        };
        column.widen([field.name().as_str()]);
        column
    }

    fn widen<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        for text in texts {
            self.width = self.width.max(text.chars().count().min(WIDTH_MAX));
        }
    }
}
