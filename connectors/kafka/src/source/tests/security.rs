//! Being let in and being refused: TLS, SASL, and brokers that are not there.

use std::time::{Duration, Instant};

use tidemill_core::source::Source;
use tidemill_core::{Error, ErrorKind};

use super::broker::{Sent, Topic, numbers, read_to_end, refused, table, variable};
use crate::source::KafkaSource;

/// A source at `brokers` with these properties.
fn source(topic: &str, brokers: &str, properties: &[(&str, &str)]) -> Result<KafkaSource, Error> {
    let named: Vec<_> =
        properties.iter().map(|(name, value)| (format!("properties.{name}"), *value)).collect();
    let mut options: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    options.extend([
        ("properties.bootstrap.servers", brokers),
        ("scan.bounded.mode", "latest-offset"),
    ]);
    KafkaSource::of_table(&table(numbers(), &[], topic, &options))
}

/// The error of a source that is not let in, which comes soon and says nothing secret.
fn refusal(brokers: &str, properties: &[(&str, &str)]) -> Error {
    let start = Instant::now();
    let error = refused(source("any", brokers, properties).and_then(|source| source.splits()));
    assert!(start.elapsed() < Duration::from_secs(20), "after {:?}: {error}", start.elapsed());
    let text = format!("{error:?}");
    for (_, secret) in properties.iter().filter(|(name, _)| name.ends_with("password")) {
        assert!(!text.contains(secret), "{text}");
    }
    error
}

fn sasl_ssl<'a>(mechanism: &'a str, ca: &'a str, password: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "tidemill"),
        ("sasl.password", password),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", ca),
    ]
}

#[test]
fn every_way_in_works() {
    let topic = Topic::new(1);
    topic.send([Sent::json("{\"n\": 1}")]);
    let (ca, password) = (variable("KAFKA_CA"), variable("KAFKA_TEST_PASSWORD"));
    let user = variable("KAFKA_TEST_USER");
    let sasl_ssl_brokers = variable("KAFKA_SASL_SSL_BROKERS");
    let jaas = format!(
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{user}\" \
         password=\"{password}\";"
    );
    let token = format!(
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"{user}\";"
    );
    let pem = std::fs::read_to_string(&ca).unwrap();
    let ways = [
        (
            variable("KAFKA_SSL_BROKERS"),
            vec![
                ("security.protocol", "SSL"),
                ("ssl.truststore.type", "PEM"),
                ("ssl.truststore.certificates", &pem),
            ],
        ),
        (sasl_ssl_brokers.clone(), sasl_ssl("PLAIN", &ca, &password)),
        (
            sasl_ssl_brokers.clone(),
            vec![
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "SCRAM-SHA-256"),
                ("sasl.jaas.config", &jaas),
                ("ssl.ca.location", &ca),
            ],
        ),
        (
            sasl_ssl_brokers,
            vec![
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "OAUTHBEARER"),
                ("sasl.jaas.config", &token),
                ("ssl.ca.location", &ca),
            ],
        ),
        (
            variable("KAFKA_SASL_PLAINTEXT_BROKERS"),
            vec![
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", &user),
                ("sasl.password", &password),
            ],
        ),
    ];
    for (brokers, properties) in ways {
        let source = source(&topic.name, &brokers, &properties).unwrap();
        let got = read_to_end(&source, &topic.split(0), None);
        let got = got.unwrap_or_else(|error| panic!("{:?}: {error}", properties[1]));
        assert_eq!(got.numbers(), [1]);
        assert!(!format!("{:?} {}", source.describe(), source.describe()).contains(&password));
    }
}

#[test]
fn a_broker_that_another_authority_vouches_for_is_not_talked_to() {
    let (ca, password) = (variable("KAFKA_WRONG_CA"), variable("KAFKA_TEST_PASSWORD"));
    let error = refusal(&variable("KAFKA_SASL_SSL_BROKERS"), &sasl_ssl("PLAIN", &ca, &password));
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn a_wrong_password_is_said_at_once_and_never_shown() {
    let ca = variable("KAFKA_CA");
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let properties = sasl_ssl(mechanism, &ca, "canary-7f3a");
        let error = refusal(&variable("KAFKA_SASL_SSL_BROKERS"), &properties);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("uthentication"), "{error}");
    }
}

#[test]
fn neither_side_goes_on_without_encryption_when_the_other_wants_it() {
    let (ca, password) = (variable("KAFKA_CA"), variable("KAFKA_TEST_PASSWORD"));
    // The client wants TLS and the broker has none: an attacker in between looks like that.
    let error = refusal(&variable("KAFKA_BROKERS"), &sasl_ssl("PLAIN", &ca, &password));
    assert!(error.to_string().contains("SSL"), "{error}");
    // The client has none and the broker wants it.
    let error = refusal(&variable("KAFKA_SASL_SSL_BROKERS"), &[]);
    assert!(error.to_string().contains("security.protocol"), "{error}");
    // Credentials are not sent in the clear because a protocol was forgotten.
    let error = refusal(
        &variable("KAFKA_BROKERS"),
        &[("sasl.username", "u"), ("sasl.password", "canary-1b")],
    );
    assert!(error.to_string().contains("'properties.security.protocol'"), "{error}");
}

#[test]
fn who_may_not_read_is_told_so() {
    let topic = Topic::new(1);
    let (ca, password) = (variable("KAFKA_CA"), variable("KAFKA_LIMITED_PASSWORD"));
    let mut properties = sasl_ssl("PLAIN", &ca, &password);
    let user = variable("KAFKA_LIMITED_USER");
    properties.iter_mut().find(|(name, _)| *name == "sasl.username").unwrap().1 = &user;
    let source = source(&topic.name, &variable("KAFKA_SASL_SSL_BROKERS"), &properties).unwrap();
    let error = refused(source.splits());
    assert_ne!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().to_lowercase().contains("authoriz"), "{error}");
}

#[test]
fn brokers_that_are_not_there_are_named() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let brokers = format!("127.0.0.1:{port}");
    let error = refusal(&brokers, &[]);
    assert!(error.to_string().contains(&brokers), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
