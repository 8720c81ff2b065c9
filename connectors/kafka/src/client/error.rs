//! librdkafka's and the brokers' error codes, by what to do about them. Source and sink judge by this
//! table alone.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_core::{Error, ErrorKind};

/// What an error code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A broker or the way to it is in trouble: it may pass.
    Transient,
    /// This one record is refused, now and for ever.
    Record,
    /// Another instance has taken over.
    Fenced,
    /// Certificates or credentials are wrong.
    Authentication,
    /// The user may not do this.
    Authorisation,
    /// The topic or the partition is not there.
    UnknownTopic,
    /// The offset is not there any more, or not yet.
    OutOfRange,
    /// Configuration that the brokers do not accept.
    Configuration,
    /// Anything else: the job ends.
    Fatal,
}

impl Failure {
    /// What `code` asks for.
    pub fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode::*;
        match code {
            BrokerTransportFailure
            | Resolve
            | AllBrokersDown
            | OperationTimedOut
            | TimedOutQueue
            | MessageTimedOut
            | WaitingForCoordinator
            | InProgress
            | PreviousInProgress
            | NodeUpdate
            | Interrupted
            | Partial
            | Retry
            | WaitCache
            | BrokerDestroy
            | DestroyBroker
            | QueueFull
            | LeaderNotAvailable
            | NotLeaderForPartition
            | RequestTimedOut
            | BrokerNotAvailable
            | ReplicaNotAvailable
            | NetworkException
            | CoordinatorLoadInProgress
            | CoordinatorNotAvailable
            | NotCoordinator
            | RebalanceInProgress
            | NotEnoughReplicas
            | NotEnoughReplicasAfterAppend
            | ISRInsufficient
            | NotController
            | ConcurrentTransactions
            | KafkaStorageError
            | FetchSessionIdNotFound
            | InvalidFetchSessionEpoch
            | ListenerNotFound
            | FencedLeaderEpoch
            | UnknownLeaderEpoch
            | StaleBrokerEpoch
            | StaleControllerEpoch
            | BadMessage
            | InvalidMessage
            | UnknownBroker => Self::Transient,
            MessageSizeTooLarge
            | MessageBatchTooLarge
            | InvalidMessageSize
            | InvalidTimestamp
            | KeySerialization
            | ValueSerialization
            | UnsupportedCompressionType => Self::Record,
            Fenced | InvalidProducerEpoch | TransactionCoordinatorFenced => Self::Fenced,
            Authentication | SSL | SaslAuthenticationFailed => Self::Authentication,
            TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
            | DelegationTokenAuthorizationFailed => Self::Authorisation,
            UnknownTopic | UnknownPartition | UnknownTopicOrPartition | InvalidTopic => {
                Self::UnknownTopic
            }
            OffsetOutOfRange | AutoOffsetReset | LogTruncation | NoOffset => Self::OutOfRange,
            InvalidArgument
            | UnsupportedFeature
            | UnsupportedVersion
            | UnsupportedSASLMechanism
            | IllegalSASLState
            | InvalidConfig
            | InvalidGroupId
            | InvalidRequiredAcks
            | InvalidTransactionTimeout
            | PolicyViolation
            | UnsupportedForMessageFormat => Self::Configuration,
            _ => Self::Fatal,
        }
    }

    /// What the engine does about it.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Transient => ErrorKind::Transient,
            Self::Record => ErrorKind::Permanent,
            Self::Fenced => ErrorKind::Fenced,
            Self::Authentication | Self::Configuration => ErrorKind::Configuration,
            Self::Authorisation | Self::UnknownTopic | Self::OutOfRange | Self::Fatal => {
                ErrorKind::External
            }
        }
    }

    /// What the user can do about it, where that can be told.
    fn advice(self) -> &'static str {
        match self {
            Self::Authentication => {
                ": check 'properties.security.protocol', 'properties.sasl.*' and \
                 'properties.ssl.*'"
            }
            Self::Authorisation => ": ask for the permission, or use another user",
            Self::Fenced => ": another instance of this job has taken over",
            _ => "",
        }
    }
}

/// An error of the engine for a code: `what` says what was being done, to which topic and where.
pub fn from_code(code: RDKafkaErrorCode, what: impl std::fmt::Display) -> Error {
    let failure = Failure::of(code);
    Error::new(failure.kind(), format!("{what}: {}{}", describe(code), failure.advice()))
}

/// An error of the engine for whatever rdkafka returned.
pub fn from_kafka(error: &KafkaError, what: impl std::fmt::Display) -> Error {
    match error {
        KafkaError::AdminOp(code) => from_code(*code, what),
        // These carry the value of a property.
        KafkaError::ClientConfig(_, _, property, _) => {
            Error::configuration(format!("{what}: property '{property}' has no valid value"))
        }
        KafkaError::ClientCreation(why) => Error::configuration(format!("{what}: {why}")),
        _ => match error.rdkafka_error_code() {
            Some(code) => from_code(code, what),
            None => Error::external(format!("{what}: {error}")),
        },
    }
}

/// The code in words.
pub fn describe(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    // rdkafka's text is "Name (what the C library says)".
    match text.split_once(" (") {
        Some((name, said)) => format!("{} ({name})", said.strip_suffix(')').unwrap_or(said)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_never_will() {
        use RDKafkaErrorCode::*;
        let of = Failure::of;
        assert_eq!(of(BrokerTransportFailure), Failure::Transient);
        assert_eq!(of(NotLeaderForPartition), Failure::Transient);
        assert_eq!(of(MessageSizeTooLarge), Failure::Record);
        assert_eq!(of(InvalidProducerEpoch), Failure::Fenced);
        assert_eq!(of(TopicAuthorizationFailed), Failure::Authorisation);
        assert_eq!(of(AutoOffsetReset), Failure::OutOfRange);
        assert_eq!(of(Fatal), Failure::Fatal);
        assert_eq!(Failure::Fenced.kind(), ErrorKind::Fenced);
    }
}
