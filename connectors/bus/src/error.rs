//! What can go wrong on a bus, by what the caller can do about it.

use tidemill_core::{Error, ErrorKind};

/// An error of a bus. Addresses in it are without credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The address of the bus is none.
    #[error("'{address}' is no address of a bus: {reason}")]
    InvalidAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No bus answers there.
    #[error("no connection to the bus at {address}: {reason}")]
    ConnectionFailed {
        /// The address.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The bus does not let the client in, or does not let it do this.
    #[error("the bus at {address} refuses: {reason}")]
    Unauthorised {
        /// The address.
        address: String,
        /// In the bus's words.
        reason: String,
    },
    /// The topic is not there, or its name cannot be one.
    #[error("there is no topic '{topic}': {reason}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The topic has another number of partitions than this client was told.
    #[error(
        "topic '{topic}' has {found} partitions, and the address says {wanted}: use the same number \
         everywhere, or keys change their partitions"
    )]
    OtherPartitions {
        /// The topic.
        topic: String,
        /// What the address says.
        wanted: u32,
        /// How many it has.
        found: u32,
    },
    /// The event was not taken.
    #[error("the event was not published to '{topic}': {reason}")]
    PublishFailed {
        /// The topic.
        topic: String,
        /// Why not.
        reason: String,
        /// Whether it may work when it is tried again.
        may_pass: bool,
    },
    /// Events were gone before the group, or the replay, had seen them. What follows goes on behind them.
    #[error("{count} events of {topic}/{partition} are gone before they were read: {reason}")]
    EventsLost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// How many.
        count: u64,
        /// Why, and what keeps them longer.
        reason: String,
    },
    /// The subscriber has so much that it has not acknowledged that it is given no more of the partition
    /// before it does. What it will never acknowledge it gets again when it subscribes again.
    #[error(
        "{count} events of {topic}/{partition} are out and not acknowledged, from {offset} on: no more \
         come before that one is. Acknowledge what is skipped, too, or subscribe again"
    )]
    Unacknowledged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The oldest event that is not acknowledged.
        offset: String,
        /// How many were delivered from there on.
        count: u64,
    },
    /// A place to replay from that is none of this bus.
    #[error("'{offset}' is no offset of {topic}/{partition}: take one that this bus gave")]
    InvalidOffset {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset's text.
        offset: String,
    },
    /// An event that is not what the reader takes it for.
    #[error("not an event of that kind: {reason}")]
    InvalidEvent {
        /// What is wrong with it.
        reason: String,
    },
    /// The bus, or the subscription, was closed.
    #[error("the bus is closed")]
    Closed,
    /// Something else has failed in the bus.
    #[error("the bus at {address} has failed: {reason}")]
    Failed {
        /// The address.
        address: String,
        /// In the bus's words.
        reason: String,
    },
}

impl BusError {
    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidAddress { .. }
            | Self::Unauthorised { .. }
            | Self::UnknownTopic { .. }
            | Self::InvalidOffset { .. }
            | Self::OtherPartitions { .. } => ErrorKind::Configuration,
            Self::ConnectionFailed { .. } | Self::PublishFailed { may_pass: true, .. } => {
                ErrorKind::Transient
            }
            Self::PublishFailed { may_pass: false, .. } | Self::InvalidEvent { .. } => {
                ErrorKind::Permanent
            }
            Self::EventsLost { .. }
            | Self::Unacknowledged { .. }
            | Self::Closed
            | Self::Failed { .. } => ErrorKind::External,
        }
    }

    /// Whether it may work when it is tried again.
    pub fn may_pass(&self) -> bool {
        self.kind() == ErrorKind::Transient
    }
}

impl From<BusError> for Error {
    fn from(error: BusError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// The longest name that Kafka gives a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// Refuses names that not every bus can give a topic.
pub(crate) fn check_topic(topic: &str) -> Result<(), BusError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name =
        !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && topic.bytes().all(is_plain);
    if is_name && topic != "." && topic != ".." {
        return Ok(());
    }
    let reason = "a topic's name is of letters, digits, '.', '_' and '-', at most 249 of them";
    Err(BusError::UnknownTopic { topic: topic.to_owned(), reason: reason.to_owned() })
}

/// Refuses a subscription to nothing, or under no name.
pub(crate) fn check_subscription(topics: &[&str], group: &str) -> Result<(), BusError> {
    topics.iter().try_for_each(|topic| check_topic(topic))?;
    let reason = match (topics.is_empty(), group.is_empty()) {
        (true, _) => "a subscription names at least one topic",
        (_, true) => "a subscription names its group",
        _ => return Ok(()),
    };
    Err(BusError::UnknownTopic { topic: String::new(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_says_what_to_do() {
        let failed = |may_pass| BusError::PublishFailed {
            topic: "orders".into(),
            reason: "too large".into(),
            may_pass,
        };
        assert_eq!(failed(true).kind(), ErrorKind::Transient);
        assert_eq!(failed(false).kind(), ErrorKind::Permanent);
        assert!(!BusError::Closed.may_pass());
        assert_eq!(
            Error::from(failed(false)).to_string(),
            "the event was not published to 'orders': too large"
        );
    }

    #[test]
    fn names_that_one_bus_cannot_take_are_refused_by_all() {
        assert_eq!(check_topic("orders.v1_a-B"), Ok(()));
        for name in ["", ".", "..", "a;b", "a b", "ä", "{a}", "a:0", &"a".repeat(250)] {
            assert!(check_topic(name).is_err(), "{name}");
        }
    }
}
