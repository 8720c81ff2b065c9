//! Flink's functions of text that DataFusion lacks, or has with another meaning.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, StringViewBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{DataFusionError, Result, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use regex::Regex;

/// Which function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    SplitIndex,
    RegexpExtract,
    Regexp,
    Substring,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    kind: Kind,
    name: &'static str,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let kinds = [
        ("split_index", Kind::SplitIndex),
        ("regexp_extract", Kind::RegexpExtract),
        ("regexp", Kind::Regexp),
        ("substr", Kind::Substring),
        ("substring", Kind::Substring),
    ];
    let function = |(name, kind)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(TextFunction { kind, name, signature }))
    };
    kinds.into_iter().map(function).collect()
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let text = DataType::Utf8;
        let wanted = match (self.kind, arguments.len()) {
            (Kind::SplitIndex | Kind::RegexpExtract, 3) => {
                vec![text.clone(), text, DataType::Int64]
            }
            (Kind::Substring, 2) => vec![text, DataType::Int64],
            (Kind::Substring, 3) => vec![text, DataType::Int64, DataType::Int64],
            (Kind::RegexpExtract | Kind::Regexp, 2) => vec![text.clone(), text],
            (kind, given) => {
                let usage = match kind {
                    Kind::SplitIndex => "SPLIT_INDEX(text, delimiter, index)",
                    Kind::RegexpExtract => "REGEXP_EXTRACT(text, pattern, group)",
                    Kind::Regexp => "REGEXP(text, pattern)",
                    Kind::Substring => "SUBSTRING(text, start, length)",
                };
                return plan_err!("wrong number of arguments ({given}): write {usage}");
            }
        };
        Ok(wanted)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.kind == Kind::Regexp { DataType::Boolean } else { DataType::Utf8View })
    }

    fn return_field_from_args(
        &self,
        args: ReturnFieldArgs<'_>,
    ) -> Result<arrow::datatypes::FieldRef> {
        if matches!(self.kind, Kind::Regexp | Kind::RegexpExtract)
            && let Some(Some(pattern)) = args.scalar_arguments.get(1)
            && let Some(Some(pattern)) = pattern.try_as_str()
        {
            compile(pattern)?;
        }
        let data_type = self.return_type(&[])?;
        Ok(Arc::new(arrow::datatypes::Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts: &StringArray = arrays[0].as_string();
        let patterns = || arrays[1].as_string::<i32>();
        let result: ArrayRef = match self.kind {
            Kind::SplitIndex => split_index(texts, patterns(), &arrays[2]),
            Kind::RegexpExtract => extract(texts, patterns(), arrays.get(2))?,
            Kind::Substring => substrings(texts, &arrays[1], arrays.get(2)),
            Kind::Regexp => {
                let mut compiled = Compiled::default();
                let matches = texts.iter().zip(patterns().iter()).map(|(text, pattern)| {
                    let (Some(text), Some(pattern)) = (text, pattern) else { return Ok(None) };
                    Ok(Some(compiled.get(pattern)?.is_match(text)))
                });
                Arc::new(matches.collect::<Result<BooleanArray>>()?)
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

/// Part `index` (from 0) of a text cut at a delimiter; null where there is none.
fn split_index(texts: &StringArray, delimiters: &StringArray, indices: &ArrayRef) -> ArrayRef {
    let indices = indices.as_primitive::<Int64Type>();
    let mut parts = StringViewBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        let missing = texts.is_null(row) || delimiters.is_null(row) || indices.is_null(row);
        let index = usize::try_from(indices.value(row)).ok().filter(|_| !missing);
        let part = index.and_then(|index| texts.value(row).split(delimiters.value(row)).nth(index));
        parts.append_option(part);
    }
    Arc::new(parts.finish())
}

/// Parts of texts: see [`substring`].
fn substrings(texts: &StringArray, starts: &ArrayRef, lengths: Option<&ArrayRef>) -> ArrayRef {
    let starts = starts.as_primitive::<Int64Type>();
    let lengths = lengths.map(|lengths| lengths.as_primitive::<Int64Type>());
    let mut parts = StringViewBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        let length = lengths
            .map_or(Some(i64::MAX), |lengths| lengths.is_valid(row).then(|| lengths.value(row)));
        let is_missing = texts.is_null(row) || starts.is_null(row);
        let length = length.filter(|length| !is_missing && *length >= 0);
        let part = length.map(|length| substring(texts.value(row), starts.value(row), length));
        parts.append_option(part);
    }
    Arc::new(parts.finish())
}

/// `length` characters from position `start`: counted from 1, from the end where it is negative,
/// and 0 is the first as well. Nothing where it lies before the text, as in Flink.
fn substring(text: &str, start: i64, length: i64) -> &str {
    let skipped = match start {
        0 => Some(0),
        1.. => usize::try_from(start - 1).ok(),
        _ => usize::try_from(start.unsigned_abs())
            .ok()
            .and_then(|back| text.chars().count().checked_sub(back)),
    };
    let from = skipped.and_then(|skipped| text.char_indices().nth(skipped));
    let Some((from, _)) = from else { return "" };
    let rest = &text[from..];
    let end = usize::try_from(length).ok().and_then(|length| rest.char_indices().nth(length));
    end.map_or(rest, |(end, _)| &rest[..end])
}

fn extract(
    texts: &StringArray,
    patterns: &StringArray,
    groups: Option<&ArrayRef>,
) -> Result<ArrayRef> {
    let groups = groups.map(|groups| groups.as_primitive::<Int64Type>());
    let mut compiled = Compiled::default();
    let mut found = StringViewBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        // Without a group the whole match is meant.
        let group = match groups {
            None => Some(0),
            Some(groups) if groups.is_valid(row) => usize::try_from(groups.value(row)).ok(),
            Some(_) => None,
        };
        let (Some(group), false) = (group, texts.is_null(row) || patterns.is_null(row)) else {
            found.append_null();
            continue;
        };
        let captures = compiled.get(patterns.value(row))?.captures(texts.value(row));
        found.append_option(captures.and_then(|c| c.get(group).map(|m| m.as_str())));
    }
    Ok(Arc::new(found.finish()))
}

fn compile(pattern: &str) -> Result<Regex> {
    Regex::new(pattern)
        .map_err(|_| DataFusionError::Plan(format!("'{pattern}' is not a regular expression")))
}

/// The last pattern, compiled: nearly always the same for all rows.
#[derive(Default)]
struct Compiled(Option<(String, Regex)>);

impl Compiled {
    fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if self.0.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.0 = None;
        }
        match &mut self.0 {
            Some((_, regex)) => Ok(regex),
            empty => Ok(&empty.insert((pattern.to_owned(), compile(pattern)?)).1),
        }
    }
}
