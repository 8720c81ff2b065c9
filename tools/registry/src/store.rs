//! Subjects, their versions, and the schemas behind ids. In memory: it is gone with the process.
//!
//! Invariant: a schema never changes under its id, and equal schemas have one id in all subjects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a subject must not break, as Confluent's registry names it. Stored, and not enforced.
const LEVELS: [&str; 7] = [
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
];

/// A schema as clients send it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Definition {
    #[serde(rename = "schema")]
    pub(crate) text: String,
    #[serde(rename = "schemaType", default = "avro", skip_serializing_if = "is_avro")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) references: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Reference {
    name: String,
    subject: String,
    version: u32,
}

/// A schema in a subject.
#[derive(Debug, Serialize)]
pub(crate) struct Registered<'a> {
    subject: &'a str,
    pub(crate) id: u32,
    version: u32,
    #[serde(flatten)]
    definition: &'a Definition,
}

/// A no, as Confluent's registry says it: the first three digits of the code are the HTTP status.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Refusal {
    #[serde(rename = "error_code")]
    pub(crate) code: u32,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn avro() -> String {
    "AVRO".into()
}

fn is_avro(kind: &str) -> bool {
    kind == "AVRO"
}

pub(crate) struct Store {
    /// The schema with id `n` is at `n - 1`.
    schemas: Vec<Definition>,
    /// For each subject the ids of its versions, 1 being the first.
    subjects: BTreeMap<String, Vec<u32>>,
    level: String,
    levels: BTreeMap<String, String>,
}

impl Default for Store {
    fn default() -> Self {
        let (schemas, subjects, levels) = Default::default();
        Self { schemas, subjects, level: "BACKWARD".into(), levels }
    }
}

impl Store {
    /// Adds a schema to a subject, where it is not there yet; its id.
    pub(crate) fn register(
        &mut self,
        subject: &str,
        definition: Definition,
    ) -> Result<u32, Refusal> {
        self.check(&definition)?;
        let same = self.schemas.iter().position(|known| is_same(known, &definition));
        let index = same.unwrap_or_else(|| {
            self.schemas.push(definition);
            self.schemas.len() - 1
        });
        let id = index as u32 + 1;
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
        Ok(id)
    }

    fn check(&self, definition: &Definition) -> Result<(), Refusal> {
        let invalid = |why: String| Err(Refusal::new(42_201, format!("Invalid schema: {why}")));
        match definition.kind.as_str() {
            "AVRO" | "JSON" => {
                if let Err(error) = serde_json::from_str::<Value>(&definition.text) {
                    return invalid(error.to_string());
                }
            }
            "PROTOBUF" if definition.text.trim().is_empty() => {
                return invalid("it is empty".into());
            }
            "PROTOBUF" => {}
            other => return invalid(format!("unknown type {other}")),
        }
        for reference in &definition.references {
            if self.version(&reference.subject, &reference.version.to_string()).is_err() {
                let Reference { name, subject, version } = reference;
                return invalid(format!("no version {version} of {subject} for reference {name}"));
            }
        }
        Ok(())
    }

    /// The version of a subject that is this very schema.
    pub(crate) fn lookup(
        &self,
        subject: &str,
        wanted: &Definition,
    ) -> Result<Registered<'_>, Refusal> {
        let versions = self.versions(subject)?;
        let found = versions
            .iter()
            .position(|id| self.schema(*id).is_ok_and(|definition| is_same(definition, wanted)));
        match found {
            Some(index) => self.version(subject, &(index + 1).to_string()),
            None => Err(Refusal::new(40_403, "Schema not found")),
        }
    }

    pub(crate) fn subjects(&self) -> Vec<&str> {
        self.subjects.keys().map(String::as_str).collect()
    }

    /// Ids of a subject's versions.
    pub(crate) fn versions(&self, subject: &str) -> Result<&[u32], Refusal> {
        let missing = || Refusal::new(40_401, format!("Subject '{subject}' not found."));
        self.subjects.get(subject).map(Vec::as_slice).ok_or_else(missing)
    }

    /// A version, by its number or as `latest`.
    pub(crate) fn version(&self, subject: &str, version: &str) -> Result<Registered<'_>, Refusal> {
        let Some((subject, versions)) = self.subjects.get_key_value(subject) else {
            return Err(Refusal::new(40_401, format!("Subject '{subject}' not found.")));
        };
        let number = match version {
            "latest" | "-1" => versions.len(),
            number => number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
                Refusal::new(42_202, format!("'{version}' is no version: a number, or latest"))
            })?,
        };
        let Some(id) = versions.get(number - 1) else {
            return Err(Refusal::new(40_402, format!("Version {number} not found.")));
        };
        let definition = self.schema(*id)?;
        Ok(Registered { subject, id: *id, version: number as u32, definition })
    }

    pub(crate) fn schema(&self, id: u32) -> Result<&Definition, Refusal> {
        let found = (id as usize).checked_sub(1).and_then(|index| self.schemas.get(index));
        found.ok_or_else(|| Refusal::new(40_403, format!("Schema {id} not found")))
    }

    /// The compatibility level of a subject, or of all.
    pub(crate) fn level(&self, subject: Option<&str>) -> &str {
        subject.and_then(|subject| self.levels.get(subject)).unwrap_or(&self.level)
    }

    pub(crate) fn set_level(&mut self, subject: Option<&str>, level: &str) -> Result<(), Refusal> {
        if !LEVELS.contains(&level) {
            let message = format!("'{level}' is no compatibility level: {}", LEVELS.join(", "));
            return Err(Refusal::new(42_203, message));
        }
        match subject {
            Some(subject) => self.levels.insert(subject.to_owned(), level.to_owned()),
            None => Some(std::mem::replace(&mut self.level, level.to_owned())),
        };
        Ok(())
    }
}

/// Whether two schemas say the same; white space in JSON does not count.
fn is_same(a: &Definition, b: &Definition) -> bool {
    let same_text = a.text == b.text || {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
        parsed(&a.text).is_some_and(|value| Some(value) == parsed(&b.text))
    };
    a.kind == b.kind && a.references == b.references && same_text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: &str, text: &str) -> Definition {
        Definition { text: text.into(), kind: kind.into(), references: Vec::new() }
    }

    #[test]
    fn equal_schemas_have_one_id_and_a_subject_holds_each_once() {
        let mut store = Store::default();
        let avro = definition("AVRO", r#"{"type": "string"}"#);
        assert_eq!(store.register("a", avro.clone()), Ok(1));
        assert_eq!(store.register("b", definition("AVRO", r#"{"type":"string"}"#)), Ok(1));
        assert_eq!(store.register("a", definition("PROTOBUF", "message A {}")), Ok(2));
        assert_eq!(store.register("a", avro.clone()), Ok(1));
        assert_eq!(store.versions("a").unwrap(), [1, 2]);
        assert_eq!(store.version("a", "latest").unwrap().id, 2);
        assert_eq!(store.lookup("b", &avro).unwrap().id, 1);
        assert_eq!(store.subjects(), ["a", "b"]);
    }

    #[test]
    fn refusals_have_the_codes_of_the_original() {
        let mut store = Store::default();
        store.register("a", definition("AVRO", "\"int\"")).unwrap();
        let code = |refused: Result<Registered<'_>, Refusal>| refused.unwrap_err().code;
        assert_eq!(code(store.version("b", "1")), 40_401);
        assert_eq!(code(store.version("a", "2")), 40_402);
        assert_eq!(code(store.version("a", "0")), 42_202);
        assert_eq!(code(store.lookup("a", &definition("AVRO", "\"long\""))), 40_403);
        assert_eq!(store.schema(0).unwrap_err().code, 40_403);
        assert_eq!(store.register("a", definition("AVRO", "{")).unwrap_err().code, 42_201);
        assert_eq!(store.set_level(None, "SOME").unwrap_err().code, 42_203);
        store.set_level(Some("a"), "FULL").unwrap();
        assert_eq!((store.level(Some("a")), store.level(None)), ("FULL", "BACKWARD"));
    }
}
