//! Where a topic is, as a URL: `kafka://HOST:PORT,…/TOPIC`. Security comes from the environment
//! (`KAFKA_SECURITY_PROTOCOL` and the like), so that no secret stands in a URL.

use std::fmt;

use tidemill_core::table::Options;
use tidemill_core::{Error, Result};

use crate::client::ClientProperties;

/// What is said of a URL that is none; not the URL, which may hold a secret that belongs elsewhere.
const SHAPE: &str = "the address of a topic is kafka://HOST:PORT,…/TOPIC, and holds nothing else: passwords and \
                     the like stand in the environment (KAFKA_SASL_PASSWORD)";

/// A cluster, and perhaps a topic of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The brokers to ask first, with commas between; empty: those of `KAFKA_BROKERS`.
    pub brokers: String,
    /// The topic.
    pub topic: Option<String>,
}

impl Address {
    /// The address in a URL; `None` where it is none of Kafka's.
    ///
    /// # Errors
    /// A configuration error for a URL of Kafka that holds more, such as a password.
    pub fn parse(url: &str) -> Result<Option<Self>> {
        let Some(rest) = url.strip_prefix("kafka://") else { return Ok(None) };
        if rest.contains('@') {
            return Err(Error::configuration(
                "a kafka:// URL holds no user and no password: set KAFKA_SASL_USERNAME and \
                 KAFKA_SASL_PASSWORD in the environment",
            ));
        }
        let (brokers, topic) = rest.split_once('/').unwrap_or((rest, ""));
        if topic.contains('/') || rest.contains(['?', '#']) {
            return Err(Error::configuration(SHAPE));
        }
        let topic = (!topic.is_empty()).then(|| topic.to_owned());
        Ok(Some(Self { brokers: brokers.to_owned(), topic }))
    }

    /// The topic.
    ///
    /// # Errors
    /// A configuration error where there is none.
    pub fn topic(&self) -> Result<&str> {
        self.topic.as_deref().ok_or_else(|| {
            Error::configuration(format!("'{self}' names no topic: write kafka://HOST:PORT/TOPIC"))
        })
    }

    /// How the cluster is reached.
    ///
    /// # Errors
    /// As for [`ClientProperties::parse`].
    pub fn properties(&self) -> Result<ClientProperties> {
        let brokers = Some(("properties.bootstrap.servers", self.brokers.as_str()));
        let options: Options =
            brokers.filter(|(_, brokers)| !brokers.is_empty()).into_iter().collect();
        ClientProperties::parse(&options)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic.as_deref().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_and_topic_are_told_apart_and_secrets_refused() {
        let parse = |url| Address::parse(url).unwrap().unwrap();
        let both = parse("kafka://a:9092,b:9092/letters");
        assert_eq!((both.brokers.as_str(), both.topic().unwrap()), ("a:9092,b:9092", "letters"));
        assert_eq!(both.to_string(), "kafka://a:9092,b:9092/letters");
        assert_eq!(parse("kafka:///letters").brokers, "");
        assert!(parse("kafka://a:9092").topic().is_err());
        assert_eq!(Address::parse("/var/letters").unwrap(), None);
        let refused = Address::parse("kafka://me:secret@a:9092/letters").unwrap_err().to_string();
        assert!(
            refused.contains("KAFKA_SASL_PASSWORD") && !refused.contains("secret"),
            "{refused}"
        );
        for more in ["/t?sasl.password=secret", "?sasl.password=secret", "/t#secret", "/t/secret"] {
            let refused = Address::parse(&format!("kafka://a:9092{more}")).unwrap_err().to_string();
            assert!(
                refused.contains("KAFKA_SASL_PASSWORD") && !refused.contains("secret"),
                "{more}"
            );
        }
    }
}
