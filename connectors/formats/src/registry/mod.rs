//! Client of a schema registry that speaks Confluent's REST API.
//!
//! Decoders ask it for the schema that a payload was written with, encoders register theirs. It
//! blocks the shard that asks, once per schema: answers are remembered for as long as the client
//! lives, for a schema never changes under its id.
//!
//! Three things can go wrong, and each has its own kind: what the registry does not know is
//! [`Permanent`](tidemill_core::ErrorKind::Permanent) (the record becomes a dead letter), an outage
//! is nobody's fault, and who may not ask is a
//! [`Configuration`](tidemill_core::ErrorKind::Configuration) error. An outage that outlasts the
//! deadline is [`External`](tidemill_core::ErrorKind::External), and ends the job. A decoder does not
//! wait for so long, for its shard has other things to do: to it an outage is
//! [`Transient`](tidemill_core::ErrorKind::Transient) after 2 s, and its reader comes back.
//!
//! Invariant: of all who need the same schema one asks; see `flight`.

mod client;
mod config;
mod flight;
pub mod framing;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_core::{Error, Result};

use self::client::{Asker, Client, Pace, RealPace, Refusal};
pub use self::config::{AVRO_OPTIONS, PROTOBUF_OPTIONS, RegistryConfig};
use self::flight::Flights;

/// How long nobody asks again after a failure.
const FAILURE_MEMORY: Duration = Duration::from_secs(10);

/// How often an id that is not known is asked for, in case its registration is just under way.
const UNKNOWN_ATTEMPTS: u32 = 4;

/// After so many unknown ids in a row they are garbage, and asked for once.
const UNKNOWN_STREAK_MAX: u32 = 5;

/// So long after the last of them has been asked for patiently, the next is no garbage any more.
const UNKNOWN_MEMORY: Duration = Duration::from_secs(60);

/// Imports of imports are followed so far.
const IMPORT_DEPTH_MAX: usize = 32;

/// The registry's code for an id it does not know.
const SCHEMA_NOT_FOUND: u32 = 40_403;

/// What a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// Avro's JSON.
    Avro,
    /// JSON Schema.
    Json,
    /// A `.proto` file.
    Protobuf,
}

/// Another schema that one refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Reference {
    /// As the schema calls it: an import path of Protobuf, a full name of Avro.
    pub name: String,
    /// The subject it is registered under.
    pub subject: String,
    /// Which version of it.
    pub version: u32,
}

/// A schema as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Definition {
    /// What it is written in.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// What it refers to.
    pub references: Vec<Reference>,
}

/// A schema of the registry with all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The id in front of the payloads.
    pub id: u32,
    /// The schema.
    pub definition: Definition,
    /// What it refers to, directly or not; each after what it refers to itself.
    pub imports: Vec<Import>,
}

/// A schema that another refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// As the other calls it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A registry. Clones share what they remember.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    asker: Asker,
}

struct Shared {
    client: Client,
    schemas: Flights<u32, Arc<Schema>>,
    ids: Flights<(String, Definition), u32>,
    unknown: Mutex<Unknown>,
}

/// Unknown ids in a row that were asked for patiently.
#[derive(Default)]
struct Unknown {
    count: u32,
    /// When the last of them was given up.
    last: Duration,
}

impl Unknown {
    fn is_garbage(&self, now: Duration) -> bool {
        self.count >= UNKNOWN_STREAK_MAX && now - self.last < UNKNOWN_MEMORY
    }
}

/// Two are equal where they are configured alike.
impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.config() == other.config()
    }
}

impl Eq for Registry {}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config().fmt(f)
    }
}

impl Registry {
    /// A client. Nothing is asked yet.
    ///
    /// # Errors
    /// A configuration error where the file of authorities cannot be used.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        Self::paced(config, Arc::new(RealPace(Instant::now())))
    }

    fn paced(config: RegistryConfig, pace: Arc<dyn Pace>) -> Result<Self> {
        let shared = Shared {
            client: Client::new(config, pace)?,
            schemas: Flights::new(),
            ids: Flights::new(),
            unknown: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), asker: Asker::Job })
    }

    /// The same registry, for a decoder: outages are [`Transient`](tidemill_core::ErrorKind::Transient)
    /// and come soon.
    pub fn for_decoder(&self) -> Self {
        Self { shared: self.shared.clone(), asker: Asker::Decoder }
    }

    fn ask(&self, path: &[&str], body: Option<&Value>) -> Result<Result<Value, Refusal>> {
        self.shared.client.ask(self.asker, path, body)
    }

    fn config(&self) -> &RegistryConfig {
        self.shared.client.config()
    }

    /// The addresses, for `explain`; without credentials.
    pub fn describe(&self) -> String {
        format!("schema registry {}", self.config().addresses())
    }

    /// The schema under an id. An id that is not known is asked for a few times, and then not again
    /// for 10 s.
    ///
    /// # Errors
    /// As the [module](self) says.
    pub fn schema_by_id(&self, id: u32) -> Result<Arc<Schema>> {
        let shared = &self.shared;
        shared.schemas.get(&id, &|| shared.client.pace.elapsed(), FAILURE_MEMORY, || {
            let id_text = id.to_string();
            let answer = self
                .patiently(&["schemas", "ids", &id_text])?
                .map_err(|refusal| self.permanent(&format!("no schema with id {id}"), &refusal))?;
            self.schema(id, answer)
        })
    }

    /// Asks again where the registry does not know an id: it may be on its way between replicas.
    fn patiently(&self, path: &[&str]) -> Result<Result<Value, Refusal>> {
        let client = &self.shared.client;
        let unknown = || self.shared.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempts = 1;
        loop {
            let answer = self.ask(path, None)?;
            match &answer {
                Ok(_) => *unknown() = Unknown::default(),
                Err(refusal) if refusal.code != SCHEMA_NOT_FOUND => {}
                Err(_) if attempts == UNKNOWN_ATTEMPTS => {
                    let mut unknown = unknown();
                    let (now, old) = (client.pace.elapsed(), unknown.last);
                    let count = if now - old < UNKNOWN_MEMORY { unknown.count } else { 0 };
                    *unknown = Unknown { count: count + 1, last: now };
                }
                Err(_) if unknown().is_garbage(client.pace.elapsed()) => {}
                Err(_) => {
                    let jitter = client.pace.chance();
                    let wait = client.backoff().wait(attempts, Duration::ZERO, jitter);
                    client.pace.wait(wait.unwrap_or_default());
                    attempts += 1;
                    continue;
                }
            }
            return Ok(answer);
        }
    }

    /// The newest schema of a subject; `None` where there is none. Never from memory.
    ///
    /// # Errors
    /// As the [module](self) says.
    pub fn latest(&self, subject: &str) -> Result<Option<Arc<Schema>>> {
        let answer = self.ask(&["subjects", subject, "versions", "latest"], None)?;
        match answer {
            Ok(answer) => {
                let id = self.id_in(&answer)?;
                self.schema(id, answer).map(Some)
            }
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(self.permanent(&format!("subject '{subject}'"), &refusal)),
        }
    }

    /// The id under which a subject holds this very schema; `None` where it does not.
    ///
    /// # Errors
    /// As the [module](self) says.
    pub fn id_of(&self, subject: &str, definition: &Definition) -> Result<Option<u32>> {
        let body = definition.body();
        match self.ask(&["subjects", subject], Some(&body))? {
            Ok(answer) => self.id_in(&answer).map(Some),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(self.permanent(&format!("subject '{subject}'"), &refusal)),
        }
    }

    /// The id of this schema in a subject, which it is added to where it is not there yet. So a
    /// client that may not write can still use what others have registered.
    ///
    /// # Errors
    /// As the [module](self) says; a schema that is refused (no valid schema, or not compatible with
    /// the one before) is permanent.
    pub fn register(&self, subject: &str, definition: &Definition) -> Result<u32> {
        let shared = &self.shared;
        let key = (subject.to_owned(), definition.clone());
        shared.ids.get(&key, &|| shared.client.pace.elapsed(), FAILURE_MEMORY, || {
            if let Some(id) = self.id_of(subject, definition)? {
                return Ok(id);
            }
            let body = definition.body();
            let answer = self.ask(&["subjects", subject, "versions"], Some(&body))?;
            let answer = answer.map_err(|refusal| {
                self.permanent(&format!("subject '{subject}' refuses the schema"), &refusal)
            })?;
            self.id_in(&answer)
        })
    }

    fn permanent(&self, what: &str, refusal: &Refusal) -> Error {
        Error::permanent(format!("{}: {what} ({refusal})", self.describe()))
    }

    fn id_in(&self, answer: &Value) -> Result<u32> {
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.unexpected("an answer without 'id'"))
    }

    fn unexpected(&self, what: &str) -> Error {
        Error::external(format!("{}: {what}: is this a schema registry?", self.describe()))
    }

    /// A schema of an answer, with its imports.
    fn schema(&self, id: u32, answer: Value) -> Result<Arc<Schema>> {
        let definition = self.definition(answer)?;
        let (mut imports, mut seen) = (Vec::new(), HashSet::new());
        self.import(&definition.references, 0, &mut seen, &mut imports)?;
        Ok(Arc::new(Schema { id, definition, imports }))
    }

    fn import(
        &self,
        references: &[Reference],
        depth: usize,
        seen: &mut HashSet<String>,
        imports: &mut Vec<Import>,
    ) -> Result<()> {
        for reference in references {
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            let Reference { name, subject, version } = reference;
            let what = format!("'{name}' (subject '{subject}', version {version})");
            if depth == IMPORT_DEPTH_MAX {
                return Err(Error::permanent(format!("{what} is imported too deep: in a circle?")));
            }
            let version = version.to_string();
            let path = ["subjects", subject.as_str(), "versions", version.as_str()];
            let answer = self.ask(&path, None)?;
            let answer = answer.map_err(|refusal| self.permanent(&what, &refusal))?;
            let definition = self.definition(answer)?;
            self.import(&definition.references, depth + 1, seen, imports)?;
            imports.push(Import { name: name.clone(), text: definition.text });
        }
        Ok(())
    }

    fn definition(&self, answer: Value) -> Result<Definition> {
        #[derive(Deserialize)]
        struct Body {
            schema: String,
            #[serde(rename = "schemaType", default)]
            kind: Option<String>,
            #[serde(default)]
            references: Option<Vec<Reference>>,
        }
        let body: Body = serde_json::from_value(answer)
            .map_err(|error| self.unexpected("an answer without a schema").caused_by(error))?;
        let kind = match body.kind.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("JSON") => SchemaKind::Json,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some(other) => {
                let message = format!("{}: a schema in {other} cannot be used", self.describe());
                return Err(Error::permanent(message));
            }
        };
        Ok(Definition { kind, text: body.schema, references: body.references.unwrap_or_default() })
    }
}

impl SchemaKind {
    /// As the registry calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl Definition {
    /// A schema that refers to no other.
    pub fn new(kind: SchemaKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), references: Vec::new() }
    }

    fn body(&self) -> Value {
        let references: Vec<Value> = self
            .references
            .iter()
            .map(|r| json!({"name": r.name, "subject": r.subject, "version": r.version}))
            .collect();
        json!({"schema": self.text, "schemaType": self.kind.name(), "references": references})
    }
}
