//! The Java client's properties, as users of Flink write them, in librdkafka's terms.

use std::collections::BTreeMap;

use tidemill_core::{Error, Result};

/// What becomes of a property.
pub(super) enum Translation {
    /// It goes to librdkafka as it is, if librdkafka has it.
    Keep,
    /// These go instead.
    Instead(Vec<(String, String)>),
    /// It is used elsewhere, or says what is the case anyway.
    Nothing,
    /// It cannot be had: what to write instead.
    Refused(String),
}

/// Names that differ, and nothing else does.
const RENAMED: [(&str, &str); 8] = [
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("max.request.size", "message.max.bytes"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("sasl.mechanism", "sasl.mechanism"),
];

/// What only the Java client has, or what Tidemill decides, and what to do about it.
const REFUSED: [(&str, &str); 33] = [
    ("key.deserializer", "formats decode: use 'key.format'"),
    ("value.deserializer", "formats decode: use 'value.format'"),
    ("key.serializer", "formats encode: use 'key.format'"),
    ("value.serializer", "formats encode: use 'value.format'"),
    ("max.poll.records", "batches have the size that the engine gives them; remove it"),
    ("max.poll.interval.ms", "partitions are assigned by Tidemill, not by the group; remove it"),
    ("session.timeout.ms", "partitions are assigned by Tidemill, not by the group; remove it"),
    ("heartbeat.interval.ms", "partitions are assigned by Tidemill, not by the group; remove it"),
    ("group.instance.id", "partitions are assigned by Tidemill, not by the group; remove it"),
    ("group.protocol", "partitions are assigned by Tidemill, not by the group; remove it"),
    ("partition.assignment.strategy", "Tidemill assigns partitions to shards; remove it"),
    ("partition.discovery.interval.ms", "use 'scan.topic-partition-discovery.interval'"),
    ("flink.partition-discovery.interval-millis", "use 'scan.topic-partition-discovery.interval'"),
    ("enable.auto.offset.store", "offsets are committed after each checkpoint; remove it"),
    ("enable.partition.eof", "the source relies on it; remove it"),
    ("auto.commit.interval.ms", "offsets are committed after each checkpoint; remove it"),
    ("interceptor.classes", "Java classes cannot run here; see the book on interceptors"),
    ("metric.reporters", "Java classes cannot run here; Tidemill has metrics of its own"),
    ("partitioner.class", "Java classes cannot run here; use 'sink.partitioner'"),
    ("partitioner", "use 'sink.partitioner'"),
    ("transactional.id", "use 'sink.transactional-id-prefix'"),
    ("max.block.ms", "a full queue holds the job back, for as long as it takes; remove it"),
    ("default.api.timeout.ms", "the Java client alone has it; remove it"),
    ("ssl.protocol", "OpenSSL negotiates the newest protocol; remove it"),
    ("ssl.enabled.protocols", "OpenSSL negotiates the newest protocol; remove it"),
    ("ssl.provider", "Java classes cannot run here; remove it"),
    ("ssl.engine.factory.class", "Java classes cannot run here; remove it"),
    ("security.providers", "Java classes cannot run here; remove it"),
    (
        "sasl.login.callback.handler.class",
        "Java classes cannot run here; give the token: 'properties.sasl.oauthbearer.token.file'",
    ),
    (
        "sasl.client.callback.handler.class",
        "Java classes cannot run here; give the token: 'properties.sasl.oauthbearer.token.file'",
    ),
    ("sasl.login.class", "Java classes cannot run here; remove it"),
    (
        "sasl.oauthbearer.token.endpoint.url",
        "tokens are not fetched from a server here; put the token into a file and name it in \
         'properties.sasl.oauthbearer.token.file'; it is read again whenever one is needed",
    ),
    ("sasl.oauthbearer.method", "use 'properties.sasl.oauthbearer.token.file'"),
];

/// The names that have a meaning here beside librdkafka's own.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let others = [
        "group.id",
        "auto.offset.reset",
        "buffer.memory",
        "sasl.jaas.config",
        "sasl.oauthbearer.token",
        "ssl.truststore.location",
        "ssl.truststore.type",
        "ssl.keystore.type",
        "enable.auto.commit",
    ];
    RENAMED.iter().map(|(java, _)| *java).chain(others)
}

/// Whether a property is given, by whichever of its names.
pub(super) fn is_said(property: &str, given: &BTreeMap<String, String>) -> bool {
    let others: &[&str] = match property {
        "bootstrap.servers" => &["metadata.broker.list"],
        "sasl.mechanism" => &["sasl.mechanisms"],
        "sasl.oauthbearer.token" => {
            &["sasl.oauthbearer.token.file", "enable.sasl.oauthbearer.unsecure.jwt"]
        }
        "ssl.ca.location" => {
            &["ssl.truststore.location", "ssl.truststore.certificates", "ssl.ca.pem"]
        }
        "ssl.certificate.location" => {
            &["ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.certificate.pem"]
        }
        "ssl.key.location" => &["ssl.keystore.location", "ssl.keystore.key", "ssl.key.pem"],
        _ => &[],
    };
    given.contains_key(property) || others.iter().any(|other| given.contains_key(*other))
}

/// What becomes of property `name`; `given` is all of them.
pub(super) fn translate(name: &str, value: &str, given: &BTreeMap<String, String>) -> Translation {
    if let Some((_, new)) = RENAMED.iter().find(|(java, _)| *java == name) {
        return instead(new, value);
    }
    if let Some((_, why)) = REFUSED.iter().find(|(java, _)| *java == name) {
        return Translation::Refused((*why).to_owned());
    }
    match name {
        "metadata.broker.list" => instead("bootstrap.servers", value),
        "security.protocol" => instead(name, &value.to_ascii_lowercase()),
        "enable.auto.commit" if value == "false" => Translation::Nothing,
        "enable.auto.commit" => {
            let why = "offsets are committed after each checkpoint; remove it";
            Translation::Refused(why.to_owned())
        }
        "buffer.memory" => match value.trim().parse::<u64>() {
            Ok(bytes) => instead("queue.buffering.max.kbytes", &(bytes / 1024).max(1).to_string()),
            Err(_) => Translation::Refused(format!("'{value}' is not a number of bytes")),
        },
        "sasl.jaas.config" => jaas(value),
        "sasl.oauthbearer.token" | "sasl.oauthbearer.token.file" => Translation::Nothing,
        "ssl.endpoint.identification.algorithm" if value.is_empty() => instead(name, "none"),
        _ if name.starts_with("ssl.truststore.") => truststore(name, value, given),
        _ if name.starts_with("ssl.keystore.") => keystore(name, value, given),
        _ => Translation::Keep,
    }
}

fn instead(name: &str, value: &str) -> Translation {
    Translation::Instead(vec![(name.to_owned(), value.to_owned())])
}

fn store_type(kind: &str, given: &BTreeMap<String, String>) -> String {
    given.get(kind).map_or_else(|| "JKS".to_owned(), |value| value.to_ascii_uppercase())
}

fn truststore(name: &str, value: &str, given: &BTreeMap<String, String>) -> Translation {
    match (name, store_type("ssl.truststore.type", given).as_str()) {
        ("ssl.truststore.type", "PEM") => Translation::Nothing,
        ("ssl.truststore.location", "PEM") => instead("ssl.ca.location", value),
        (_, "PEM") => Translation::Refused("PEM needs no password; remove it".to_owned()),
        (_, other) => Translation::Refused(format!(
            "certificates are read as PEM here, not as {other}: export them with `keytool \
             -exportcert -rfc` and set 'properties.ssl.truststore.type' = 'PEM' and \
             'properties.ssl.truststore.location'"
        )),
    }
}

fn keystore(name: &str, value: &str, given: &BTreeMap<String, String>) -> Translation {
    match (name, store_type("ssl.keystore.type", given).as_str()) {
        ("ssl.keystore.type", "PEM" | "PKCS12") => Translation::Nothing,
        ("ssl.keystore.location", "PEM") => Translation::Instead(vec![
            ("ssl.certificate.location".to_owned(), value.to_owned()),
            ("ssl.key.location".to_owned(), value.to_owned()),
        ]),
        ("ssl.keystore.password", "PEM") => instead("ssl.key.password", value),
        (_, "PKCS12") => Translation::Keep,
        (_, other) => Translation::Refused(format!(
            "a key store of type {other} cannot be read: convert it with `keytool \
             -importkeystore -deststoretype PKCS12` and set 'properties.ssl.keystore.type' = \
             'PKCS12', or use PEM"
        )),
    }
}

/// `…PlainLoginModule required username="u" password="p";`
fn jaas(value: &str) -> Translation {
    let mut words = value.trim().trim_end_matches(';').splitn(3, char::is_whitespace);
    let module = words.next().unwrap_or("");
    let fields = words.nth(1).unwrap_or("");
    let known = ["PlainLoginModule", "ScramLoginModule", "OAuthBearerLoginModule"];
    let Some(known) = known.iter().find(|known| module.ends_with(*known)) else {
        return Translation::Refused(
            "only PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule are understood; \
             or set 'properties.sasl.username' and 'properties.sasl.password'"
                .to_owned(),
        );
    };
    if *known == "OAuthBearerLoginModule" {
        return Translation::Nothing;
    }
    match (jaas_field(fields, "username"), jaas_field(fields, "password")) {
        (Some(user), Some(password)) => Translation::Instead(vec![
            ("sasl.username".to_owned(), user),
            ("sasl.password".to_owned(), password),
        ]),
        _ => Translation::Refused(
            "write <module> required username=\"…\" password=\"…\";".to_owned(),
        ),
    }
}

/// The value of `name` among `a="x" b='y' c=z`, with Java's escapes undone.
pub(super) fn jaas_field(text: &str, name: &str) -> Option<String> {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, left) = quoted(after.trim_start());
        if key.trim() == name {
            return Some(value);
        }
        rest = left.trim_start();
    }
    None
}

/// A value, in quotes or up to the next space, and what is behind it.
fn quoted(text: &str) -> (String, &str) {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c if c == quote => return (value, &text[1 + at + c.len_utf8()..]),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Refuses credentials that would not be used: a protocol without security must be meant.
pub(super) fn check_security(given: &BTreeMap<String, String>) -> Result<()> {
    let protocol = given.get("security.protocol").map_or("PLAINTEXT", String::as_str);
    let upper = protocol.to_ascii_uppercase();
    let sasl = ["sasl.username", "sasl.password", "sasl.jaas.config", "sasl.oauthbearer.token"];
    let said =
        |names: &[&'static str]| names.iter().find(|name| given.contains_key(**name)).copied();
    let unused = match upper.as_str() {
        "PLAINTEXT" | "SSL" => said(&sasl).map(|name| (name, "SASL_SSL")),
        _ => None,
    };
    let tls = ["ssl.truststore.location", "ssl.truststore.certificates", "ssl.ca.location"];
    let unused = unused.or_else(|| match upper.as_str() {
        "PLAINTEXT" => said(&tls).map(|name| (name, "SSL")),
        "SASL_PLAINTEXT" => said(&tls).map(|name| (name, "SASL_SSL")),
        _ => None,
    });
    match unused {
        None => Ok(()),
        Some((name, wanted)) => {
            let option = format!("properties.{name}");
            let message = format!(
                "option '{option}' has no effect with security protocol {upper}: set \
                 'properties.security.protocol' = '{wanted}', or remove it"
            );
            Err(Error::option(option, message))
        }
    }
}
