//! The properties of a client: `properties.*` of a table, defaults from the environment, secrets from
//! files; in the end librdkafka's own names, each of them known to librdkafka.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::bindings as ffi;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

use super::java::{self, Translation};
use super::token::TokenSource;

/// What every Kafka table takes to reach its cluster.
pub const OPTIONS: [OptionSpec; 2] = [
    OptionSpec::new(
        "properties.bootstrap.servers",
        "The brokers, host:port, separated by commas; else KAFKA_BROKERS of the environment.",
    ),
    OptionSpec::new(
        "properties.*",
        "A property of the Kafka client, by the name that the Java client gives it or by \
         librdkafka's; with '.file' behind the name, the file that holds the value.",
    ),
];

/// Environment variables and the properties that they are the default of. With `_FILE` behind its
/// name a variable names a file that holds the value.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("KAFKA_BROKERS", "bootstrap.servers"),
    ("KAFKA_SECURITY_PROTOCOL", "security.protocol"),
    ("KAFKA_SASL_MECHANISM", "sasl.mechanism"),
    ("KAFKA_SASL_USERNAME", "sasl.username"),
    ("KAFKA_SASL_PASSWORD", "sasl.password"),
    ("KAFKA_SASL_OAUTHBEARER_TOKEN", "sasl.oauthbearer.token"),
    ("KAFKA_SSL_CA", "ssl.ca.location"),
    ("KAFKA_SSL_CERTIFICATE", "ssl.certificate.location"),
    ("KAFKA_SSL_KEY", "ssl.key.location"),
    ("KAFKA_SSL_KEY_PASSWORD", "ssl.key.password"),
];

/// Properties whose values never appear anywhere.
const SECRETS: [&str; 12] = [
    "sasl.password",
    "sasl.jaas.config",
    "sasl.oauthbearer.token",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.keystore.key",
    "ssl.keystore.password",
    "ssl.truststore.password",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
];

/// What to do where a group has no offset of its own to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// Start with the oldest record.
    Earliest,
    /// Start with what comes from now on.
    Latest,
    /// Say so and end.
    None,
}

/// How to reach a cluster and be let in. Its `Debug` text names the properties without their values.
#[derive(Clone)]
pub struct ClientProperties {
    /// By librdkafka's names.
    properties: BTreeMap<String, String>,
    token: Option<Arc<TokenSource>>,
    group: Option<String>,
    reset: Option<OffsetReset>,
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("ClientProperties")
            .field("brokers", &self.brokers())
            .field("names", &names)
            .finish()
    }
}

impl ClientProperties {
    /// The `properties.*` among `options`, on top of the environment's.
    ///
    /// # Errors
    /// A configuration error that names the option: a property that neither the Java client nor
    /// librdkafka has, a value that is not valid, a file that cannot be read, or security that this
    /// build cannot do.
    pub fn parse(options: &Options) -> Result<Self> {
        Self::with_environment(options, &|name| std::env::var(name).ok())
    }

    /// As [`ClientProperties::parse`], with another environment.
    ///
    /// # Errors
    /// As for [`ClientProperties::parse`].
    pub fn with_environment(
        options: &Options,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut given = given(options)?;
        let said: Vec<String> = given.keys().cloned().collect();
        add_environment(&mut given, variable)?;
        java::check_security(&given)?;
        let mut client =
            Self { properties: BTreeMap::new(), token: None, group: None, reset: None };
        for (name, value) in &given {
            let by_table = said.iter().any(|said| said == name);
            client.add(name, value, &given, by_table)?;
        }
        client.token = TokenSource::of(&given)?.map(Arc::new);
        if client.brokers().is_empty() {
            let message = "no brokers: set option 'properties.bootstrap.servers', or KAFKA_BROKERS \
                           in the environment";
            return Err(Error::option("properties.bootstrap.servers", message));
        }
        client.check_build()?;
        Ok(client)
    }

    fn add(
        &mut self,
        name: &str,
        value: &str,
        given: &BTreeMap<String, String>,
        by_table: bool,
    ) -> Result<()> {
        let option = format!("properties.{name}");
        match name {
            "group.id" => self.group = Some(value.to_owned()),
            "auto.offset.reset" => self.reset = Some(parse_reset(&option, value)?),
            _ => match java::translate(name, value, given) {
                Translation::Keep => self.put(&option, name, value, by_table)?,
                Translation::Instead(pairs) => {
                    for (name, value) in pairs {
                        self.put(&option, &name, &value, by_table)?;
                    }
                }
                Translation::Nothing => {}
                Translation::Refused(why) => {
                    return Err(Error::option(&option, format!("option '{option}': {why}")));
                }
            },
        }
        Ok(())
    }

    /// Keeps a property that librdkafka accepts.
    fn put(&mut self, option: &str, name: &str, value: &str, by_table: bool) -> Result<()> {
        let mut probe = ClientConfig::new();
        probe.set(name, value);
        match probe.create_native_config() {
            Ok(_) => {
                self.properties.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                Err(unknown(option, name))
            }
            Err(KafkaError::ClientConfig(_, why, ..)) => {
                let place = if by_table { "" } else { " (from the environment)" };
                let why = if is_secret(name) { "its value is not valid" } else { why.as_str() };
                Err(Error::option(option, format!("option '{option}'{place}: {why}")))
            }
            Err(error) => Err(Error::option(option, format!("option '{option}': {error}"))),
        }
    }

    /// Refuses security that librdkafka was built without.
    fn check_build(&self) -> Result<()> {
        let protocol = self.protocol();
        let mechanism = self.get("sasl.mechanism").unwrap_or("").to_ascii_uppercase();
        let features = built_in();
        let missing = if protocol.contains("ssl") && !features.contains("ssl") {
            format!("'properties.security.protocol' = '{}'", protocol.to_ascii_uppercase())
        } else if mechanism.starts_with("SCRAM") && !features.contains("sasl_scram")
            || mechanism == "OAUTHBEARER" && !features.contains("sasl_oauthbearer")
        {
            format!("'properties.sasl.mechanism' = '{mechanism}'")
        } else {
            return Ok(());
        };
        let message = format!(
            "{missing} needs OpenSSL, and this program was built without: build it with \
             `--features tls`, or use the release binary"
        );
        Err(Error::option("properties.security.protocol", message))
    }

    /// The brokers to ask first, as they were given.
    pub fn brokers(&self) -> &str {
        self.get("bootstrap.servers").unwrap_or("")
    }

    /// The consumer group that the table names.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// What the table says to do where the group has no offset.
    pub fn offset_reset(&self) -> Option<OffsetReset> {
        self.reset
    }

    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub fn protocol(&self) -> String {
        self.get("security.protocol").unwrap_or("plaintext").to_ascii_lowercase()
    }

    /// Where OAUTHBEARER tokens come from.
    pub(crate) fn token_source(&self) -> Option<Arc<TokenSource>> {
        self.token.clone()
    }

    /// A property by librdkafka's name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// A librdkafka configuration with these properties on top of `defaults`.
    pub fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "tidemill");
        // The Java client's; librdkafka's own is ten seconds, and so long a broker that is back would
        // wait.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        let is_debugged = self.get("debug").is_some();
        let level = if is_debugged { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info };
        config.set_log_level(level);
        config
    }
}

/// `properties.*`, files read.
fn given(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut given = BTreeMap::new();
    for (option, value) in options.iter() {
        let Some(name) = option.strip_prefix("properties.") else { continue };
        let (name, value) = match name.strip_suffix(".file") {
            // A token is read whenever one is needed.
            Some("sasl.oauthbearer.token") => (name, value.to_owned()),
            Some(name) => (name, read_file(value, &format!("option '{option}'"), option)?),
            None => (name, value.to_owned()),
        };
        if given.insert(name.to_owned(), value).is_some() {
            let message = format!("'properties.{name}' is given twice, as text and as a file");
            return Err(Error::option(option, message));
        }
    }
    Ok(given)
}

/// Adds what the environment says and the table does not. A variable of a protocol that is not in use
/// is nobody's business.
fn add_environment(
    given: &mut BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    for (name, property) in ENVIRONMENT {
        let protocol = given.get("security.protocol").map_or("", String::as_str);
        let protocol = protocol.to_ascii_lowercase();
        let is_used = (!property.starts_with("sasl.") || protocol.starts_with("sasl"))
            && (!property.starts_with("ssl.") || protocol.ends_with("ssl"));
        let jaas = property.starts_with("sasl.") && given.contains_key("sasl.jaas.config");
        if !is_used || jaas || java::is_said(property, given) {
            continue;
        }
        let file = || variable(&format!("{name}_FILE"));
        let value = match variable(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => match file().filter(|path| !path.is_empty()) {
                Some(path) if property == "sasl.oauthbearer.token" => {
                    given.insert(format!("{property}.file"), path);
                    continue;
                }
                Some(path) => {
                    let option = format!("properties.{property}");
                    read_file(&path, &format!("{name}_FILE of the environment"), &option)?
                }
                None => continue,
            },
        };
        given.insert(property.to_owned(), value);
    }
    Ok(())
}

fn read_file(path: &str, place: &str, option: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::option(option, format!("{place}: the file {path} cannot be read")).caused_by(error)
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn parse_reset(option: &str, value: &str) -> Result<OffsetReset> {
    match value {
        "earliest" | "smallest" | "beginning" => Ok(OffsetReset::Earliest),
        "latest" | "largest" | "end" => Ok(OffsetReset::Latest),
        "none" | "error" => Ok(OffsetReset::None),
        _ => {
            let message = format!("option '{option}' must be one of 'earliest', 'latest', 'none'");
            Err(Error::option(option, message))
        }
    }
}

/// Whether the value of a property must not be shown.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// What librdkafka was built with.
pub(crate) fn built_in() -> String {
    let config = ClientConfig::new().create_native_config();
    config.and_then(|config| config.get("builtin.features")).unwrap_or_default()
}

fn unknown(option: &str, name: &str) -> Error {
    let names = known_names();
    let java: Vec<&str> = java::names().collect();
    let close = names
        .iter()
        .map(String::as_str)
        .chain(java)
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 3.max(name.len() / 4));
    let help = match close {
        Some((_, close)) => format!("did you mean 'properties.{close}'?"),
        None => "see the book's page on Kafka for the names".to_owned(),
    };
    let message = format!("neither the Java client nor librdkafka has a property '{name}': {help}");
    Error::option(option, message)
}

/// The names of librdkafka's properties.
fn known_names() -> Vec<String> {
    let Ok(config) = ClientConfig::new().create_native_config() else { return Vec::new() };
    let mut names = Vec::new();
    // SAFETY: both dumps are arrays of `count` pointers to C strings, name and value by turns, that
    // live until they are freed below; the two configurations outlive their dumps.
    unsafe {
        let topic = ffi::rd_kafka_topic_conf_new();
        let mut count = 0;
        let dump = ffi::rd_kafka_conf_dump(config.ptr(), &raw mut count);
        names.extend(names_of(dump, count));
        ffi::rd_kafka_conf_dump_free(dump, count);
        let dump = ffi::rd_kafka_topic_conf_dump(topic, &raw mut count);
        names.extend(names_of(dump, count));
        ffi::rd_kafka_conf_dump_free(dump, count);
        ffi::rd_kafka_topic_conf_destroy(topic);
    }
    names
}

/// The names in a dump.
///
/// # Safety
/// `dump` points to `count` pointers to C strings.
unsafe fn names_of(dump: *mut *const std::ffi::c_char, count: usize) -> Vec<String> {
    // SAFETY: as the caller promises.
    let entries = unsafe { std::slice::from_raw_parts(dump, count) };
    let name = |entry: &*const _| {
        // SAFETY: as the caller promises.
        unsafe { CStr::from_ptr(*entry) }.to_string_lossy().into_owned()
    };
    entries.iter().step_by(2).map(name).collect()
}
