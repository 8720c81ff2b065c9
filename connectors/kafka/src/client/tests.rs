//! Properties: what the Java client's names become, where values come from, what is refused.

use tidemill_core::Error;

use super::ClientProperties;

const BROKERS: (&str, &str) = ("bootstrap.servers", "kafka:9092");

/// Properties of a table, with nothing in the environment.
fn parse(properties: &[(&str, &str)]) -> Result<ClientProperties, Error> {
    parse_in(properties, &[])
}

fn parse_in(
    properties: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> Result<ClientProperties, Error> {
    let options = properties.iter().map(|(name, value)| (format!("properties.{name}"), *value));
    let variable = |name: &str| {
        let found = environment.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    ClientProperties::with_environment(&options.collect(), &variable)
}

#[track_caller]
fn refused(properties: &[(&str, &str)], expected: &[&str]) {
    let error = parse(&[&[BROKERS], properties].concat()).unwrap_err();
    let text = error.to_string();
    expected.iter().for_each(|part| assert!(text.contains(part), "{text}"));
    assert!(error.wrong_option().is_some_and(|option| option.starts_with("properties.")));
}

#[track_caller]
fn becomes(properties: &[(&str, &str)], expected: &[(&str, &str)]) {
    let client = parse(&[&[BROKERS], properties].concat()).unwrap();
    for (name, value) in expected {
        assert_eq!(client.get(name), Some(*value), "{name}");
    }
}

#[test]
fn names_of_the_java_client_become_librdkafkas() {
    becomes(&[("fetch.max.wait.ms", "7")], &[("fetch.wait.max.ms", "7")]);
    becomes(&[("fetch.min.bytes", "7")], &[("fetch.min.bytes", "7")]);
    becomes(&[("max.request.size", "5000")], &[("message.max.bytes", "5000")]);
    becomes(&[("buffer.memory", "33554432")], &[("queue.buffering.max.kbytes", "32768")]);
    becomes(&[("acks", "all"), ("enable.auto.commit", "false")], &[("acks", "all")]);
    becomes(
        &[("security.protocol", "SSL"), ("ssl.endpoint.identification.algorithm", "")],
        &[("security.protocol", "ssl"), ("ssl.endpoint.identification.algorithm", "none")],
    );
}

#[test]
fn a_login_module_gives_user_and_password() {
    let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required \
                username=\"al ice\"\n password='s=e\\'c;ret' ;";
    becomes(
        &[
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.jaas.config", jaas),
        ],
        &[
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "al ice"),
            ("sasl.password", "s=e'c;ret"),
        ],
    );
    let wrong = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.jaas.config", "com.sun.security.auth.module.Krb5LoginModule required;"),
    ];
    refused(&wrong, &["PlainLoginModule", "'properties.sasl.username'"]);
}

#[test]
fn stores_in_pem_are_understood_and_others_say_how_to_convert() {
    let ssl = ("security.protocol", "SSL");
    let pem = [
        ssl,
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", "ca.pem"),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", "me.pem"),
        ("ssl.keystore.password", "canary-1"),
    ];
    let expected = [
        ("ssl.ca.location", "ca.pem"),
        ("ssl.certificate.location", "me.pem"),
        ("ssl.key.location", "me.pem"),
        ("ssl.key.password", "canary-1"),
    ];
    becomes(&pem, &expected);
    refused(&[ssl, ("ssl.truststore.location", "ca.jks")], &["keytool", "'PEM'"]);
    refused(&[ssl, ("ssl.keystore.location", "me.jks")], &["keytool", "PKCS12"]);
}

#[test]
fn what_does_not_exist_is_refused_with_what_to_write() {
    refused(&[("fetch.max.bites", "1")], &["'properties.fetch.max.bytes'"]);
    refused(&[("sasl.mechanizm", "PLAIN")], &["'properties.sasl.mechanism'"]);
    refused(&[("key.deserializer", "x")], &["'key.format'"]);
    refused(&[("enable.auto.commit", "true")], &["checkpoint"]);
    refused(&[("transactional.id", "x")], &["'sink.transactional-id-prefix'"]);
    refused(&[("fetch.min.bytes", "many")], &["fetch.min.bytes"]);
    refused(&[("auto.offset.reset", "sometimes")], &["'earliest', 'latest', 'none'"]);
    let error = parse(&[]).unwrap_err();
    assert!(error.to_string().contains("KAFKA_BROKERS"), "{error}");
}

#[test]
fn credentials_that_would_not_be_used_are_an_error() {
    refused(&[("sasl.username", "u")], &["'SASL_SSL'"]);
    refused(&[("ssl.truststore.location", "ca.pem")], &["'SSL'"]);
    let tls = [("security.protocol", "SASL_PLAINTEXT"), ("ssl.ca.location", "ca.pem")];
    refused(&tls, &["'SASL_SSL'"]);
}

#[test]
fn the_environment_fills_in_what_a_table_does_not_say() {
    let environment = [
        ("KAFKA_BROKERS", "env:9092"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "env-user"),
        ("KAFKA_SASL_PASSWORD", "env-password"),
        // Nobody's business with this protocol.
        ("KAFKA_SSL_CA", "ca.pem"),
    ];
    let client = parse_in(&[], &environment).unwrap();
    assert_eq!(client.brokers(), "env:9092");
    assert_eq!(client.get("sasl.password"), Some("env-password"));
    assert_eq!(client.get("ssl.ca.location"), None);
    let client = parse_in(&[BROKERS, ("sasl.username", "mine")], &environment).unwrap();
    assert_eq!((client.brokers(), client.get("sasl.username")), ("kafka:9092", Some("mine")));
    let plain = [BROKERS, ("security.protocol", "PLAINTEXT")];
    assert_eq!(parse_in(&plain, &environment).unwrap().get("sasl.password"), None);
}

#[test]
fn secrets_come_from_files_and_show_nowhere() {
    let path = std::env::temp_dir().join(format!("tidemill-secret-{}", std::process::id()));
    std::fs::write(&path, "canary-5d\n").unwrap();
    let file = path.to_str().unwrap();
    let sasl = [BROKERS, ("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN")];
    let of_table = [&sasl[..], &[("sasl.password.file", file)]].concat();
    let client = parse(&of_table).unwrap();
    assert_eq!(client.get("sasl.password"), Some("canary-5d"));
    assert!(!format!("{client:?}").contains("canary"));
    let client = parse_in(&sasl, &[("KAFKA_SASL_PASSWORD_FILE", file)]).unwrap();
    assert_eq!(client.get("sasl.password"), Some("canary-5d"));
    std::fs::remove_file(&path).unwrap();
    let error = parse(&of_table).unwrap_err();
    assert!(error.to_string().contains(file), "{error}");
    let twice = [&of_table[..], &[("sasl.password", "canary-6e")]].concat();
    assert!(!parse(&twice).unwrap_err().to_string().contains("canary"));
    let bad = [("ssl.key.pem", "canary-7f"), ("security.protocol", "SSL")];
    if let Err(error) = parse(&[&[BROKERS], &bad[..]].concat()) {
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
