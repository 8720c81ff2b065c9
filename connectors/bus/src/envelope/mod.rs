//! What an event says about itself: what kind it is, where it comes from, which event has caused it. It travels
//! as headers, so that whoever passes it on need not read its body, and a table has it as metadata columns
//! (`METADATA FROM 'header.event-type'`).
//!
//! | header | what |
//! |---|---|
//! | `event-type` | `OrderPlaced.v1` |
//! | `message-id` | its own id, a UUID that sorts by time |
//! | `source` | the service that publishes it |
//! | `correlation-id` | the event that all of this began with |
//! | `causation-id` | the event that has caused this one |
//! | `conversation-id` | the business transaction that it belongs to |
//! | `event-time` | when it happened, RFC 3339, UTC |
//! | `content-type` | `application/json` or `application/x-protobuf` |
//! | `schema-id` | the schema of its body |
//!
//! The names of ids are those of the interceptor `headers`, so that chains of causes go on through jobs.

mod event_type;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::record::Header;
use tidemill_core::time::{Clock as _, EventTime, SystemClock};
use uuid::Uuid;

pub use self::event_type::EventType;
use crate::{BusError, Event};

const TYPE: &str = "event-type";
const ID: &str = "message-id";
const SOURCE: &str = "source";
const CORRELATION: &str = "correlation-id";
const CAUSATION: &str = "causation-id";
const CONVERSATION: &str = "conversation-id";
const TIME: &str = "event-time";
const CONTENT: &str = "content-type";
const SCHEMA: &str = "schema-id";

/// The id of an event as `tidemill generate` writes it.
const OTHER_ID: &str = "event-id";

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// What an event says about itself. See the [module](self).
///
/// ```
/// use tidemill_bus::Envelope;
///
/// let placed = Envelope::of("OrderPlaced.v1")?.source("shop");
/// let paid = Envelope::of("PaymentAuthorised.v1")?.source("payments").caused_by(&placed);
/// assert_eq!(paid.correlation(), placed.id());
///
/// let event = paid.json("order-1", &serde_json::json!({ "amount": 30 }))?;
/// assert_eq!(event.header("event-type"), Some("PaymentAuthorised.v1"));
/// let read = Envelope::read(&event)?;
/// assert_eq!(read.causation(), Some(placed.id()));
/// # Ok::<(), tidemill_bus::BusError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    event_type: EventType,
    id: String,
    source: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
    conversation: Option<String>,
    time: EventTime,
    content: Option<String>,
    schema: Option<String>,
}

impl Envelope {
    /// The envelope of a new event, which happens now and has no cause.
    ///
    /// # Errors
    /// [`BusError::InvalidEvent`] where that is no type of an event.
    pub fn of(event_type: &str) -> Result<Self, BusError> {
        Ok(Self {
            event_type: event_type.parse()?,
            id: Uuid::now_v7().to_string(),
            source: None,
            correlation: None,
            causation: None,
            conversation: None,
            time: SystemClock::default().now(),
            content: None,
            schema: None,
        })
    }

    /// The service that publishes it.
    #[must_use]
    pub fn source(self, service: impl Into<String>) -> Self {
        Self { source: Some(service.into()), ..self }
    }

    /// Another id than a new one: who answers the same event twice may give both answers the same, so that
    /// whoever reads them can tell.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// When it happened, if not now: microseconds since 1970, UTC.
    #[must_use]
    pub fn at(self, time: EventTime) -> Self {
        Self { time, ..self }
    }

    /// The event that has caused this one. Correlation and conversation go on.
    #[must_use]
    pub fn caused_by(self, cause: &Self) -> Self {
        Self {
            correlation: Some(cause.correlation().to_owned()),
            causation: Some(cause.id.clone()),
            conversation: cause.conversation.clone(),
            ..self
        }
    }

    /// The business transaction that it belongs to.
    #[must_use]
    pub fn conversation_id(self, id: impl Into<String>) -> Self {
        Self { conversation: Some(id.into()), ..self }
    }

    /// The schema of its body, as a registry knows it.
    #[must_use]
    pub fn schema_id(self, id: impl Into<String>) -> Self {
        Self { schema: Some(id.into()), ..self }
    }

    /// What kind of event it is.
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The service that has published it, where it says so.
    pub fn service(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The event that all of this began with: itself, where it has no cause.
    pub fn correlation(&self) -> &str {
        self.correlation.as_deref().unwrap_or(&self.id)
    }

    /// The event that has caused this one.
    pub fn causation(&self) -> Option<&str> {
        self.causation.as_deref()
    }

    /// The business transaction that it belongs to.
    pub fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// When it happened: microseconds since 1970, UTC.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// How its body is written down; `None` where nothing is said.
    pub fn content_type(&self) -> Option<&str> {
        self.content.as_deref()
    }

    /// The schema of its body.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The event about `key` with this envelope and a body in JSON.
    ///
    /// # Errors
    /// [`BusError::InvalidEvent`] where the body cannot be JSON.
    pub fn json(self, key: impl Into<Vec<u8>>, body: &impl Serialize) -> Result<Event, BusError> {
        let bytes = serde_json::to_vec(body).map_err(|error| BusError::InvalidEvent {
            reason: format!("the body of {} cannot be JSON: {error}", self.event_type),
        })?;
        Ok(self.sealed(JSON, key.into(), bytes))
    }

    /// The event about `key` with this envelope and a Protobuf message as its body.
    pub fn protobuf(self, key: impl Into<Vec<u8>>, message: impl Into<Vec<u8>>) -> Event {
        self.sealed(PROTOBUF, key.into(), message.into())
    }

    fn sealed(self, content: &str, key: Vec<u8>, body: Vec<u8>) -> Event {
        let micros = Timestamp::from_microsecond(self.time).unwrap_or(match self.time {
            ..0 => Timestamp::MIN,
            0.. => Timestamp::MAX,
        });
        let correlation = self.correlation().to_owned();
        let headers = [
            (TYPE, Some(self.event_type.to_string())),
            (ID, Some(self.id)),
            (SOURCE, self.source),
            (CORRELATION, Some(correlation)),
            (CAUSATION, self.causation),
            (CONVERSATION, self.conversation),
            (TIME, Some(format!("{micros:.6}"))),
            (CONTENT, Some(content.to_owned())),
            (SCHEMA, self.schema),
        ];
        let headers =
            headers.into_iter().filter_map(|(name, value)| Some(Header::new(name, value?)));
        let headers = headers.collect();
        Event { key: Some(key), headers, timestamp: Some(self.time), payload: Some(body) }
    }

    /// The envelope that an event came in. One that says neither id nor time has those of the event
    /// itself, as far as it has any.
    ///
    /// # Errors
    /// [`BusError::InvalidEvent`] where it has no type, or one that is none.
    pub fn read(event: &Event) -> Result<Self, BusError> {
        let text = |name: &str| event.header(name).map(str::to_owned);
        let missing = || BusError::InvalidEvent { reason: format!("it has no header '{TYPE}'") };
        let time = event.header(TIME).and_then(|time| time.parse::<Timestamp>().ok());
        Ok(Self {
            event_type: event.header(TYPE).ok_or_else(missing)?.parse()?,
            id: text(ID).or_else(|| text(OTHER_ID)).unwrap_or_default(),
            source: text(SOURCE),
            correlation: text(CORRELATION),
            causation: text(CAUSATION),
            conversation: text(CONVERSATION),
            time: time.map(Timestamp::as_microsecond).or(event.timestamp).unwrap_or_default(),
            content: text(CONTENT),
            schema: text(SCHEMA),
        })
    }
}

impl Event {
    /// The body, read from JSON.
    ///
    /// # Errors
    /// [`BusError::InvalidEvent`] where it is none, or says that it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BusError> {
        let invalid = |reason: String| BusError::InvalidEvent { reason };
        if let Some(other) = self.header(CONTENT).filter(|content| *content != JSON) {
            return Err(invalid(format!("its body is '{other}', not JSON")));
        }
        serde_json::from_slice(self.body()).map_err(|error| invalid(format!("its body: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_envelope_comes_back_from_its_headers() {
        let envelope = Envelope::of("shop.OrderPlaced.v2")
            .unwrap()
            .source("shop")
            .with_id("id-1")
            .at(1_700_000_000_123_456)
            .conversation_id("basket-7")
            .schema_id("42");
        let event = envelope.clone().json("order-1", &json!({"total": 30})).unwrap();
        let header = |name| event.header(name).unwrap();
        assert_eq!(header("event-time"), "2023-11-14T22:13:20.123456Z");
        assert_eq!((header("correlation-id"), header("message-id")), ("id-1", "id-1"));
        assert_eq!((header("source"), header("schema-id")), ("shop", "42"));
        assert_eq!(event.header("causation-id"), None);
        assert_eq!(event.timestamp, Some(1_700_000_000_123_456));
        assert_eq!(event.json::<Value>().unwrap(), json!({"total": 30}));
        let read = Envelope::read(&event).unwrap();
        assert_eq!((read.event_type(), read.time()), (envelope.event_type(), envelope.time()));
        assert_eq!((read.service(), read.schema()), (Some("shop"), Some("42")));
        assert_eq!(read.content_type(), Some("application/json"));
    }

    #[test]
    fn causes_make_a_chain_with_one_beginning() {
        let first = Envelope::of("A.v1").unwrap().conversation_id("c");
        let second = Envelope::of("B.v1").unwrap().caused_by(&first);
        let event = second.clone().protobuf("k", [1, 2]);
        let third = Envelope::of("C.v1").unwrap().caused_by(&Envelope::read(&event).unwrap());
        assert_eq!((third.causation(), third.correlation()), (Some(second.id()), first.id()));
        assert_eq!(third.conversation(), Some("c"));
        assert!(first.id() < second.id() && second.id() < third.id(), "ids sort by time");
        let error = event.json::<Value>().unwrap_err();
        assert!(error.to_string().contains("application/x-protobuf"), "{error}");
    }

    #[test]
    fn an_event_without_a_type_is_in_no_envelope() {
        let error = Envelope::read(&Event::new("{}")).unwrap_err();
        assert!(error.to_string().contains("event-type"), "{error}");
        let plain = Event::new("{}").with_header("event-type", "A.v1").at(5);
        let read = Envelope::read(&plain.with_header("event-id", "e")).unwrap();
        assert_eq!((read.id(), read.time(), read.correlation()), ("e", 5, "e"));
    }
}
