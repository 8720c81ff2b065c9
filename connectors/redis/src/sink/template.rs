//! Templates of keys, members and channels: `revenue:{user_id}:{window_start}`.
//!
//! `{name}` stands for the text of a column; `{{` and `}}` are braces, which Redis Cluster reads as a hash
//! tag.
//!
//! Invariant: a template is resolved against its columns once, before the first row; a row renders in full
//! or not at all.

use std::ops::Range;

use arrow::datatypes::Schema;
use tidemill_core::{Error, Result};

use super::text::{self, Columns};

/// A template whose columns are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Column(usize, String),
}

/// A piece of a template as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

impl Template {
    /// The template `text` of the option `option`, over the columns of `schema`.
    ///
    /// # Errors
    /// A configuration error that names the option: braces that do not pair up, no such column, or one
    /// whose type has no text.
    pub fn parse(option: &str, text: &str, schema: &Schema) -> Result<Self> {
        let pieces = pieces(text)
            .map_err(|why| Error::option(option, format!("'{option}' = '{text}': {why}")))?;
        let resolve = |piece| {
            Ok(match piece {
                Piece::Text(text) => Part::Text(text.into_bytes()),
                Piece::Name(name) => Part::Column(column(option, &name, schema)?, name),
            })
        };
        Ok(Self { parts: pieces.into_iter().map(resolve).collect::<Result<_>>()? })
    }

    /// As [`Template::parse`], for a key: it begins with text of its own, so that keys of different
    /// tables cannot meet whatever stands in their columns.
    ///
    /// # Errors
    /// As for [`Template::parse`], and where there is no such beginning.
    pub fn parse_key(option: &str, text: &str, schema: &Schema) -> Result<Self> {
        let template = Self::parse(option, text, schema)?;
        let begins = template.parts.first().is_some_and(|part| match part {
            Part::Text(text) => text.iter().any(|byte| !b"{}".contains(byte)),
            Part::Column(..) => false,
        });
        if begins {
            return Ok(template);
        }
        let message = format!(
            "'{option}' = '{text}' must begin with text of its own, such as 'revenue:', so that its keys \
             meet no others"
        );
        Err(Error::option(option, message))
    }

    /// The columns that stand in it.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(column, _) => Some(*column),
            Part::Text(_) => None,
        })
    }

    /// Appends the text of a row.
    ///
    /// # Errors
    /// Which column is null.
    pub fn render(&self, columns: &Columns, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Column(column, name) => match columns.get(*column, row) {
                    Some(text) => out.extend_from_slice(text),
                    None => return Err(format!("column '{name}' is NULL, and stands in the key")),
                },
            }
        }
        Ok(())
    }

    /// A key in the same slot of a cluster as all its keys, where they share one: by a hash tag that no
    /// column can change, or because there is only one key.
    pub fn slot_key(&self) -> Option<Vec<u8>> {
        let mut fixed = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => fixed.extend_from_slice(text),
                Part::Column(..) => return tag(&fixed).map(|_| fixed),
            }
        }
        Some(fixed)
    }
}

/// Where the hash tag of a key stands: between the first `{` and the next `}`, unless that is nothing.
pub(crate) fn tag(key: &[u8]) -> Option<Range<usize>> {
    let start = key.iter().position(|byte| *byte == b'{')? + 1;
    let length = key[start..].iter().position(|byte| *byte == b'}')?;
    (length > 0).then(|| start..start + length)
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut fixed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        fixed.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            fixed.push_str(brace);
            rest = behind;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let Some(end) = end else {
            let message = format!("a '{brace}' stands alone: write '{brace}{brace}' for a brace");
            return Err(message);
        };
        if !fixed.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut fixed)));
        }
        pieces.push(Piece::Name(rest[..end].to_owned()));
        rest = &rest[end + 1..];
    }
    fixed.push_str(rest);
    if !fixed.is_empty() {
        pieces.push(Piece::Text(fixed));
    }
    Ok(pieces)
}

/// The column `name`, which `option` speaks of.
///
/// # Errors
/// A configuration error where there is none, or where its type has no text.
pub(crate) fn column(option: &str, name: &str, schema: &Schema) -> Result<usize> {
    if let Ok(index) = schema.index_of(name) {
        text::check(schema.field(index)).map_err(|e| Error::option(option, e.message()))?;
        return Ok(index);
    }
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let close = names().min_by_key(|close| strsim::damerau_levenshtein(close, name));
    let close =
        close.filter(|close| strsim::damerau_levenshtein(close, name) <= 1 + name.len() / 3);
    let hint = match close {
        Some(close) => format!("did you mean '{close}'?"),
        None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("'{option}' names '{name}', which is no column of the table: {hint}");
    Err(Error::option(option, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn rows() -> RecordBatch {
        let fields = [("user", DataType::Utf8), ("n", DataType::Int64)];
        let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
        let users = StringArray::from(vec![Some("ann"), None, Some("a:{b}")]);
        let n = Int64Array::from(vec![1, 2, 3]);
        let schema = Arc::new(Schema::new(fields.to_vec()));
        RecordBatch::try_new(schema, vec![Arc::new(users), Arc::new(n)]).unwrap()
    }

    fn render(text: &str) -> Vec<Result<String, String>> {
        let rows = rows();
        let template = Template::parse_key("key", text, &rows.schema()).unwrap();
        let columns = Columns::of(&rows, &template.columns().collect::<Vec<_>>()).unwrap();
        let render = |row| {
            let mut out = Vec::new();
            template.render(&columns, row, &mut out)?;
            Ok(String::from_utf8(out).unwrap())
        };
        (0..3).map(render).collect()
    }

    fn refusal(text: &str) -> String {
        let error = Template::parse_key("key", text, &rows().schema()).unwrap_err();
        assert_eq!(error.wrong_option(), Some("key"));
        error.to_string()
    }

    #[test]
    fn columns_stand_in_keys_and_a_null_makes_none() {
        let keys = render("k:{user}:{n}");
        assert_eq!(keys[0].as_deref(), Ok("k:ann:1"));
        assert!(keys[1].as_ref().unwrap_err().contains("'user' is NULL"));
        assert_eq!(keys[2].as_deref(), Ok("k:a:{b}:3"), "braces in values are values");
        assert_eq!(render("k:{{{n}}}:x}}")[0].as_deref(), Ok("k:{1}:x}"));
        assert_eq!(render("totals")[2].as_deref(), Ok("totals"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_may_be() {
        assert!(refusal("k:{usr}").contains("did you mean 'user'?"));
        assert!(refusal("k:{completely_else}").contains("there are user, n"));
        assert!(refusal("{user}:{n}").contains("must begin with text"));
        assert!(refusal("{{{user}}}").contains("must begin with text"));
        assert!(refusal("").contains("must begin with text"));
        assert!(refusal("k:{user").contains("'{' stands alone"));
        assert!(refusal("k:user}").contains("'}' stands alone"));
    }

    #[test]
    fn a_slot_of_all_keys_is_found_where_no_column_has_a_say() {
        let slot_key = |text: &str| {
            let template = Template::parse_key("key", text, &rows().schema()).unwrap();
            template.slot_key().map(|key| String::from_utf8(key).unwrap())
        };
        assert_eq!(slot_key("{{eu}}:{user}"), Some("{eu}:".into()));
        assert_eq!(slot_key("k:{user}:{{eu}}"), None, "a brace in a value would come first");
        assert_eq!(slot_key("k:{{{user}}}"), None);
        assert_eq!(slot_key("k:{{}}:{user}"), None, "an empty tag is none");
        assert_eq!(slot_key("board"), Some("board".into()));
    }
}
