//! Addresses of buses: `memory://orders`, `kafka://host:9092`, `redis://host:6379`.
//!
//! Invariant: credentials in an address are in no message.

use std::fmt;
use std::sync::Arc;

use tidemill_redis::client::Config;

use crate::kafka::KafkaBus;
use crate::memory::MemoryBus;
use crate::redis::RedisBus;
use crate::{BusError, Replay};

/// Where a bus is.
///
/// | address | bus |
/// |---|---|
/// | `memory://NAME[?partitions=4&capacity=65536]` | in this process |
/// | `kafka://HOST:PORT[,HOST:PORT…][?PROPERTY=VALUE&…]` | the topics of a cluster, with properties of its client |
/// | `redis://[[USER]:PASSWORD@]HOST:PORT[/DB][?partitions=4&cluster=true]` | streams `TOPIC:0` …; `rediss://` with TLS |
#[derive(Clone, PartialEq, Eq)]
pub struct BusAddress {
    pub(crate) kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory {
        name: String,
        partitions: Option<u32>,
        capacity: Option<usize>,
    },
    Kafka {
        brokers: String,
        /// Without the prefix `properties.`.
        properties: Vec<(String, String)>,
    },
    Redis {
        /// With credentials, without what is the bus's own.
        url: String,
        partitions: Option<u32>,
        is_cluster: bool,
    },
}

impl BusAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// Text that is none.
    pub fn parse(text: &str) -> Result<Self, BusError> {
        let wrong = |reason: &str| BusError::InvalidAddress {
            address: without_credentials(text),
            reason: reason.to_owned(),
        };
        let forms = "write memory://NAME, kafka://HOST:PORT or redis://HOST:PORT";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(forms))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = pairs(query).ok_or_else(|| wrong("behind '?' stand NAME=VALUE pairs"))?;
        if place.is_empty() {
            return Err(wrong(forms));
        }
        let kind = match scheme {
            "memory" => {
                check_known(&query, &["partitions", "capacity"]).map_err(|why| wrong(&why))?;
                let capacity = number(&query, "capacity").map_err(|why| wrong(&why))?;
                let partitions = number(&query, "partitions").map_err(|why| wrong(&why))?;
                Kind::Memory { name: place.to_owned(), partitions, capacity }
            }
            "kafka" if place.contains(['@', '/']) => {
                return Err(wrong("credentials and topics are no part of a Kafka address"));
            }
            "kafka" => Kind::Kafka { brokers: place.to_owned(), properties: query },
            "redis" | "rediss" => {
                check_known(&query, &["partitions", "cluster"]).map_err(|why| wrong(&why))?;
                let partitions = number(&query, "partitions").map_err(|why| wrong(&why))?;
                let is_cluster =
                    query.iter().any(|(name, value)| name == "cluster" && value == "true");
                Kind::Redis { url: format!("{scheme}://{place}"), partitions, is_cluster }
            }
            _ => return Err(wrong(forms)),
        };
        Ok(Self { kind })
    }
}

/// `a=1&b=2`
fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
}

fn check_known(query: &[(String, String)], known: &[&str]) -> Result<(), String> {
    match query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => Err(format!("'{name}' is not known, only {}", known.join(" and "))),
    }
}

/// A number above 0.
fn number<T: std::str::FromStr + Default + PartialOrd>(
    query: &[(String, String)],
    name: &str,
) -> Result<Option<T>, String> {
    let Some((_, text)) = query.iter().find(|(found, _)| found == name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number > T::default());
    number.map(Some).ok_or_else(|| format!("'{name}' is a number above 0"))
}

/// The address as far as it may be shown.
fn without_credentials(text: &str) -> String {
    let (text, _) = text.split_once('?').unwrap_or((text, ""));
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            format!("{scheme}://{place}")
        }
        None => text.rsplit_once('@').map_or(text, |(_, place)| place).to_owned(),
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Memory { name, .. } => write!(f, "memory://{name}"),
            Kind::Kafka { brokers, .. } => write!(f, "kafka://{brokers}"),
            Kind::Redis { url, .. } => f.write_str(&without_credentials(url)),
        }
    }
}

impl fmt::Debug for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusAddress({self})")
    }
}

/// The bus at an address. What is in memory is made; servers are asked when something is published or
/// subscribed to.
///
/// # Errors
/// An address that is none, or with dimensions that the bus in memory does not have; a property that
/// the client does not have.
pub fn connect(address: &str) -> Result<Arc<dyn Replay>, BusError> {
    let parsed = BusAddress::parse(address)?;
    match &parsed.kind {
        Kind::Memory { .. } => Ok(Arc::new(memory_bus(&parsed)?)),
        Kind::Kafka { brokers, properties } => {
            let bus = KafkaBus::connect(brokers, properties.iter().cloned())?;
            Ok(Arc::new(bus))
        }
        Kind::Redis { url, partitions, is_cluster } => {
            let cluster = if *is_cluster { "true" } else { "false" };
            let options = [("url", url.as_str()), ("cluster", cluster)].into_iter().collect();
            let config = Config::parse(&options).map_err(|error| BusError::InvalidAddress {
                address: parsed.to_string(),
                reason: error.to_string(),
            })?;
            Ok(Arc::new(RedisBus::connect(config, *partitions)))
        }
    }
}

/// The bus in memory at an address, made where it is not there yet.
///
/// # Errors
/// It is there, with other dimensions; or the address is of another bus.
pub(crate) fn memory_bus(address: &BusAddress) -> Result<MemoryBus, BusError> {
    let wrong = |reason: String| BusError::InvalidAddress { address: address.to_string(), reason };
    let Kind::Memory { name, partitions, capacity } = &address.kind else {
        return Err(wrong("this is no bus in memory".to_owned()));
    };
    let bus = MemoryBus::named_with(name, *partitions, *capacity);
    let (has_partitions, has_capacity) = bus.dimensions();
    let is_other = partitions.is_some_and(|wanted| wanted != has_partitions)
        || capacity.is_some_and(|wanted| wanted != has_capacity);
    if is_other {
        return Err(wrong(format!(
            "the bus is there already, with partitions={has_partitions} and capacity={has_capacity}"
        )));
    }
    Ok(bus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_secrets() {
        for (text, shown) in [
            ("memory://orders?partitions=8", "memory://orders"),
            ("kafka://a:9092,b:9092?linger.ms=5", "kafka://a:9092,b:9092"),
            ("redis://me:canary@h:6379/2?partitions=8", "redis://h:6379/2"),
            ("rediss://:can@ary@h:6379", "rediss://h:6379"),
        ] {
            let address = BusAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("can"), "{address:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for text in [
            "orders",
            "memory://",
            "amqp://me:canary@h",
            "me:canary@h",
            "redis://me:canary@h?partitions=0",
            "redis://me:canary@h?x=1",
            "kafka://me:canary@h:9092",
            "kafka://h:9092/orders",
            "memory://a?b",
        ] {
            let error = BusAddress::parse(text).unwrap_err();
            assert!(matches!(error, BusError::InvalidAddress { .. }), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_bus_in_memory_keeps_its_dimensions() {
        connect("memory://dimensions?partitions=2").unwrap();
        connect("memory://dimensions").unwrap();
        let error = connect("memory://dimensions?partitions=3").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("partitions=2"), "{error}");
    }
}
