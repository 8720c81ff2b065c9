//! Input that changes while it is read: the cells of the table in `docs/schema-evolution.md`, one after the
//! other. Each mixes records of an old and a new shape in one stream, and says what becomes of each.

mod avro;
mod fields;
mod protobuf;
mod text;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_core::table::Options;

use crate::{Decoder, Format};

/// A table of columns; `!` behind a name makes it NOT NULL.
fn table(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, of): &(&str, DataType)| {
        Field::new(name.trim_end_matches('!'), of.clone(), !name.ends_with('!'))
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A format by its name and options.
fn format(name: &str, options: &[(&str, &str)]) -> Format {
    Format::parse(name, &options.iter().copied().collect::<Options>()).unwrap()
}

/// What becomes of each payload: its row, values with commas between them, or `✗` and why not.
fn outcomes<P: AsRef<[u8]>>(decoder: &mut dyn Decoder, payloads: &[P]) -> Vec<String> {
    let decoded = payloads.iter().map(|payload| decoder.decode(payload.as_ref())).collect();
    shown(decoded, &decoder.finish().unwrap())
}

fn shown(decoded: Vec<Result<(), String>>, rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<ArrayFormatter<'_>> =
        rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    let mut row = 0..rows.num_rows();
    let outcome = |decoded: Result<(), String>| match decoded {
        Ok(()) => {
            let row = row.next().unwrap();
            columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(", ")
        }
        Err(reason) => format!("✗ {reason}"),
    };
    decoded.into_iter().map(outcome).collect()
}
