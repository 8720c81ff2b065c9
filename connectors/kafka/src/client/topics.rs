//! Topics as the brokers describe them: their partitions, and the id that tells a topic from another
//! that had the name before it. The admin call of librdkafka, which rdkafka does not wrap.

use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use rdkafka::bindings as ffi;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use tidemill_core::{Error, Result};

use super::connection::{Connection, PATIENCE};
use super::error::{self, Failure};

/// How long the answer is waited for at a time.
const SLICE_MS: i32 = 100;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub name: String,
    /// What brokers since Kafka 2.8 tell topics of the same name apart by; `None` from others.
    pub id: Option<String>,
    /// Its partitions are numbered from 0.
    pub partitions: i32,
}

/// The topics called `names`, in this order; `None` where there is none.
///
/// # Errors
/// Brokers that do not answer, do not let the client in, or may not tell.
pub(crate) fn describe(connection: &Connection, names: &[String]) -> Result<Vec<Option<Topic>>> {
    let start = Instant::now();
    loop {
        let code = match request(connection, names)? {
            Ok(topics) => {
                connection.events().answered();
                return Ok(topics);
            }
            Err(code) => code,
        };
        if let Some(refusal) = connection.events().refusal() {
            return Err(refusal);
        }
        if Failure::of(code) != Failure::Transient {
            let place = connection.events().name();
            return Err(error::from_code(code, format!("{place}: topics cannot be described")));
        }
        if start.elapsed() >= PATIENCE {
            return Err(connection.silence(start.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(SLICE_MS as u64));
    }
}

/// What is freed when it is not needed any more.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is what the library made, is freed by the function that the library
        // names for it, and by nobody else.
        unsafe { (self.1)(self.0) }
    }
}

/// One request: the topics, or the code of what went wrong.
fn request(
    connection: &Connection,
    names: &[String],
) -> Result<Result<Vec<Option<Topic>>, RDKafkaErrorCode>> {
    let names = names.iter().map(|name| CString::new(name.as_str()));
    let names: Vec<CString> = names
        .collect::<Result<_, _>>()
        .map_err(|_| Error::option("topic", "a topic's name holds no zero byte"))?;
    let client = connection.consumer().client().native_ptr();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client lives as long as `connection`; the names are copied by the collection;
    // queue, options and collection are freed when this function ends, which is when the request is
    // answered, or abandoned together with its queue.
    let queue = unsafe {
        let queue = Owned(ffi::rd_kafka_queue_new(client), ffi::rd_kafka_queue_destroy);
        let options = Owned(
            ffi::rd_kafka_AdminOptions_new(
                client,
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            ffi::rd_kafka_AdminOptions_destroy,
        );
        let topics = Owned(
            ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            ffi::rd_kafka_TopicCollection_destroy,
        );
        let mut reason = [0; 256];
        let timeout_ms = PATIENCE.as_millis() as i32;
        ffi::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            timeout_ms,
            reason.as_mut_ptr(),
            reason.len(),
        );
        ffi::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        queue
    };
    let start = Instant::now();
    loop {
        // SAFETY: the queue lives; an event that it gives is freed once, by `Owned`.
        let event = unsafe { ffi::rd_kafka_queue_poll(queue.0, SLICE_MS) };
        if event.is_null() {
            let is_over = start.elapsed() > PATIENCE;
            if is_over || connection.events().refusal().is_some() {
                return Ok(Err(RDKafkaErrorCode::OperationTimedOut));
            }
            continue;
        }
        let event = Owned(event, ffi::rd_kafka_event_destroy);
        // SAFETY: the event lives until the end of this scope, and what is read of it no longer.
        return Ok(unsafe { answer(event.0) });
    }
}

/// # Safety
/// `event` is a living event.
unsafe fn answer(
    event: *mut ffi::rd_kafka_event_t,
) -> Result<Vec<Option<Topic>>, RDKafkaErrorCode> {
    // SAFETY: as the caller promises; the arrays have the lengths that the library says.
    unsafe {
        let code: RDKafkaErrorCode = ffi::rd_kafka_event_error(event).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(code);
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Inconsistent);
        }
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            return Ok(Vec::new());
        }
        std::slice::from_raw_parts(topics, count).iter().map(|topic| described(*topic)).collect()
    }
}

/// # Safety
/// `topic` is part of a living event.
unsafe fn described(
    topic: *const ffi::rd_kafka_TopicDescription_t,
) -> Result<Option<Topic>, RDKafkaErrorCode> {
    // SAFETY: as the caller promises.
    unsafe {
        let error = ffi::rd_kafka_TopicDescription_error(topic);
        let code: RDKafkaErrorCode = ffi::rd_kafka_error_code(error).into();
        match Failure::of(code) {
            _ if code == RDKafkaErrorCode::NoError => {}
            Failure::UnknownTopic => return Ok(None),
            _ => return Err(code),
        }
        let name = CStr::from_ptr(ffi::rd_kafka_TopicDescription_name(topic));
        let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
        let is_zero = id.is_null()
            || ffi::rd_kafka_Uuid_most_significant_bits(id) == 0
                && ffi::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = |id| CStr::from_ptr(ffi::rd_kafka_Uuid_base64str(id)).to_string_lossy();
        let mut partitions = 0;
        ffi::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok(Some(Topic {
            name: name.to_string_lossy().into_owned(),
            id: (!is_zero).then(|| text(id).into_owned()),
            partitions: partitions as i32,
        }))
    }
}
