//! Avro schemas: read from their JSON.

use std::collections::HashMap;

use arrow::datatypes::TimeUnit;
use serde_json::{Map, Value};

/// A schema with the types that it names.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) root: Type,
    named: Vec<Named>,
}

/// A type; records, enums and fixed are named, so that types can hold themselves.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Logical),
    Long(Logical),
    Float,
    Double,
    Bytes(Logical),
    String,
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Named(usize),
}

/// What the values of a type mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Logical {
    /// Nothing in particular, or nothing that is known here.
    Plain,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
    Decimal {
        precision: u32,
        scale: u32,
    },
}

/// A type with a name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Kind {
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed { size: usize, logical: Logical },
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) data_type: Type,
    pub(super) default: Option<Value>,
}

impl Schema {
    /// Reads a schema; `references` hold types that it names without declaring them, each after
    /// those that it needs itself.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.parse(&json(reference)?, "")?;
        }
        let root = parser.parse(&json(text)?, "")?;
        Ok(Self { root, named: parser.named })
    }

    pub(super) fn named(&self, index: usize) -> &Named {
        &self.named[index]
    }

    /// The fields of `of`, where it is a record or may be one.
    pub(super) fn fields<'a>(&'a self, of: &'a Type) -> Option<&'a [Field]> {
        match of {
            Type::Named(index) => match &self.named[*index].kind {
                Kind::Record(fields) => Some(fields),
                _ => None,
            },
            Type::Union(branches) => branches.iter().find_map(|branch| self.fields(branch)),
            _ => None,
        }
    }

    /// The type in words, for errors.
    pub(super) fn describe(&self, of: &Type) -> String {
        let plain = |name: &str, logical: &Logical| match logical {
            Logical::Plain => name.to_owned(),
            Logical::Date => "date".to_owned(),
            Logical::Time(_) => "time".to_owned(),
            Logical::Timestamp(_) => "timestamp".to_owned(),
            Logical::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        };
        match of {
            Type::Null => "null".to_owned(),
            Type::Boolean => "boolean".to_owned(),
            Type::Int(logical) => plain("int", logical),
            Type::Long(logical) => plain("long", logical),
            Type::Float => "float".to_owned(),
            Type::Double => "double".to_owned(),
            Type::Bytes(logical) => plain("bytes", logical),
            Type::String => "string".to_owned(),
            Type::Array(item) => format!("array of {}", self.describe(item)),
            Type::Map(value) => format!("map of {}", self.describe(value)),
            Type::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|b| self.describe(b)).collect();
                format!("union of {}", branches.join(", "))
            }
            Type::Named(index) => match &self.named[*index] {
                Named { name, kind: Kind::Record(_) } => format!("record {name}"),
                Named { name, kind: Kind::Enum(_) } => format!("enum {name}"),
                Named { name, kind: Kind::Fixed { logical, .. } } => {
                    plain(&format!("fixed {name}"), logical)
                }
            },
        }
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the Avro schema is no JSON: {error}"))
}

/// Names are known from where they are declared on.
#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    names: HashMap<String, usize>,
}

impl Parser {
    fn parse(&mut self, value: &Value, namespace: &str) -> Result<Type, String> {
        match value {
            Value::String(name) => self.named_type(name, namespace, Logical::Plain),
            Value::Array(branches) => {
                let branches: Result<Vec<_>, _> =
                    branches.iter().map(|branch| self.parse(branch, namespace)).collect();
                self.union(branches?)
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("{other} is no Avro type")),
        }
    }

    fn union(&self, branches: Vec<Type>) -> Result<Type, String> {
        if branches.iter().any(|branch| matches!(branch, Type::Union(_))) {
            return Err("a union stands directly in a union".to_owned());
        }
        Ok(Type::Union(branches))
    }

    fn named_type(&self, name: &str, namespace: &str, logical: Logical) -> Result<Type, String> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(logical),
            "long" => Type::Long(logical),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(logical),
            "string" => Type::String,
            name => {
                let known = self.names.get(&full_name(name, namespace));
                let known = known.or_else(|| self.names.get(name));
                Type::Named(*known.ok_or_else(|| format!("type '{name}' is not declared"))?)
            }
        })
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, String> {
        let name = match object.get("type") {
            Some(Value::String(name)) => name.as_str(),
            Some(nested) => return self.parse(nested, namespace),
            None => return Err("a type lacks its \"type\"".to_owned()),
        };
        let part = |key: &str| object.get(key).ok_or_else(|| format!("'{name}' lacks \"{key}\""));
        match name {
            "array" => Ok(Type::Array(Box::new(self.parse(part("items")?, namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.parse(part("values")?, namespace)?))),
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let symbols = texts(part("symbols")?);
                self.declare(object, namespace, Kind::Enum(symbols)).map(Type::Named)
            }
            "fixed" => {
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| "a fixed's size must be a number".to_owned())?;
                let kind = Kind::Fixed { size, logical: logical(object, name) };
                self.declare(object, namespace, kind).map(Type::Named)
            }
            name => self.named_type(name, namespace, logical(object, name)),
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, String> {
        let index = self.declare(object, namespace, Kind::Record(Vec::new()))?;
        let name = self.named[index].name.clone();
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let Some(Value::Array(fields)) = object.get("fields") else {
            return Err(format!("record '{name}' lacks its \"fields\""));
        };
        let mut read = Vec::with_capacity(fields.len());
        for field in fields {
            let Some(field_name) = field.get("name").and_then(Value::as_str) else {
                return Err(format!("a field of record '{name}' lacks its name"));
            };
            let data_type = field
                .get("type")
                .ok_or_else(|| "it lacks its \"type\"".to_owned())
                .and_then(|value| self.parse(value, namespace))
                .map_err(|why| format!("field '{field_name}' of record '{name}': {why}"))?;
            read.push(Field {
                name: field_name.to_owned(),
                aliases: field.get("aliases").map(texts).unwrap_or_default(),
                data_type,
                default: field.get("default").cloned(),
            });
        }
        self.named[index].kind = Kind::Record(read);
        Ok(Type::Named(index))
    }

    fn declare(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        kind: Kind,
    ) -> Result<usize, String> {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return Err("a record, enum or fixed lacks its name".to_owned());
        };
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let name = full_name(name, namespace);
        let index = self.named.len();
        if self.names.insert(name.clone(), index).is_some() {
            return Err(format!("type '{name}' is declared twice"));
        }
        self.named.push(Named { name, kind });
        Ok(index)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    texts.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the object says about the meaning of its values. What is unknown, or does not fit the
/// type below, means nothing, as the specification has it.
fn logical(object: &Map<String, Value>, of: &str) -> Logical {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond};
    let name = object.get("logicalType").and_then(Value::as_str).unwrap_or_default();
    match (of, name) {
        ("int", "date") => Logical::Date,
        ("int", "time-millis") => Logical::Time(Millisecond),
        ("long", "time-micros") => Logical::Time(Microsecond),
        ("long", "timestamp-millis" | "local-timestamp-millis") => Logical::Timestamp(Millisecond),
        ("long", "timestamp-micros" | "local-timestamp-micros") => Logical::Timestamp(Microsecond),
        ("long", "timestamp-nanos" | "local-timestamp-nanos") => Logical::Timestamp(Nanosecond),
        ("bytes" | "fixed", "decimal") => {
            let number = |key: &str| object.get(key).and_then(Value::as_u64);
            let precision = number("precision").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            let scale = number("scale").unwrap_or(0);
            match u32::try_from(scale) {
                Ok(scale) if precision > 0 && scale <= precision => {
                    Logical::Decimal { precision, scale }
                }
                _ => Logical::Plain,
            }
        }
        _ => Logical::Plain,
    }
}
