//! The queue of one partition, and the messages in it, as librdkafka holds them: the shard takes what is
//! there in one call and decodes it where it lies. rdkafka's own way makes an event and a reference
//! count for every message.
//!
//! Invariant: a message is freed once, and before the client that it came from.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use rdkafka::bindings as ffi;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use tidemill_core::record::Header;
use tidemill_core::{Error, Result};

use crate::client::connection::Consumer;

/// See the module.
pub(crate) struct PartitionQueue {
    queue: *mut ffi::rd_kafka_queue_t,
    /// Where the library's callback finds it. Owned, and freed in `drop`.
    waker: *mut Waker,
    consumer: Arc<Consumer>,
    taken: Vec<*mut ffi::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues may be used from any thread; the waker is owned, and only ever woken
// through a shared reference; the rest is `Send`.
unsafe impl Send for PartitionQueue {}

/// Called by librdkafka's threads when something has come into an empty queue.
unsafe extern "C" fn wake(_: *mut ffi::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: the pointer is to the waker of a `PartitionQueue`, which takes the callback back before
    // it frees the waker.
    let waker = unsafe { &*waker.cast::<Waker>() };
    waker.wake_by_ref();
}

impl PartitionQueue {
    /// The queue of a partition, split off from the consumer's. Must come before the partition is
    /// assigned, so that no message goes astray.
    ///
    /// # Errors
    /// A topic that cannot be one.
    pub fn open(
        consumer: &Arc<Consumer>,
        topic: &str,
        partition: i32,
        waker: Waker,
    ) -> Result<Self> {
        let wrong = || Error::external(format!("partition {topic}/{partition} has no queue"));
        let name = CString::new(topic).map_err(|_| wrong())?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client outlives the queue, which holds on to it; the name lives for the call.
        let queue = unsafe { ffi::rd_kafka_queue_get_partition(client, name.as_ptr(), partition) };
        if queue.is_null() {
            return Err(wrong());
        }
        let waker = Box::into_raw(Box::new(waker));
        // SAFETY: the queue was just made. The waker lives until the callback is taken back in `drop`.
        unsafe {
            ffi::rd_kafka_queue_forward(queue, ptr::null_mut());
            ffi::rd_kafka_queue_cb_event_enable(queue, Some(wake), waker.cast());
        }
        Ok(Self { queue, waker, consumer: consumer.clone(), taken: Vec::new() })
    }

    /// What is there, at most `max` messages; does not wait.
    pub fn take(&mut self, max: usize) -> Messages {
        self.taken.reserve(max);
        // SAFETY: there is room for `max` pointers, and the library says how many it has written.
        // Each is a message of its own, which nobody else frees.
        let list = unsafe {
            let taken = self.taken.as_mut_ptr();
            let count = ffi::rd_kafka_consume_batch_queue(self.queue, 0, taken, max);
            let count = usize::try_from(count).unwrap_or(0);
            std::slice::from_raw_parts(taken, count).iter().map(|m| Message(*m)).collect()
        };
        Messages { list, headers: Mutex::new(()), _consumer: self.consumer.clone() }
    }

    /// Wakes whom it was made to wake.
    pub fn wake(&self) {
        // SAFETY: it lives until `drop`.
        unsafe { &*self.waker }.wake_by_ref();
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: after the first call the library does not use the waker any more, which came out of
        // a box; after the second nobody uses the queue.
        unsafe {
            ffi::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(self.queue);
            drop(Box::from_raw(self.waker));
        }
    }
}

/// Messages of one partition, in order.
pub(crate) struct Messages {
    /// First, so that it is freed before the client may be.
    list: Vec<Message>,
    /// Headers are parsed when they are asked for, which changes the message.
    headers: Mutex<()>,
    _consumer: Arc<Consumer>,
}

impl Messages {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, index: usize) -> &Message {
        &self.list[index]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.list.iter()
    }

    /// Keeps those that `keep` says, in order.
    pub fn retain(&mut self, keep: impl FnMut(&Message) -> bool) {
        self.list.retain(keep);
    }

    /// Calls `each` with name and value of every header of message `index`, in order.
    pub fn headers(&self, index: usize, mut each: impl FnMut(&str, Option<&[u8]>)) {
        let _alone = self.headers.lock();
        let message = self.list[index].0;
        // SAFETY: the message lives; the headers belong to it and change under the lock alone; the
        // library says where name and value are and how long.
        unsafe {
            let mut headers = ptr::null_mut();
            let found = ffi::rd_kafka_message_headers(message, &raw mut headers);
            let none = ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if found != none {
                return;
            }
            for n in 0.. {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                let found = ffi::rd_kafka_header_get_all(
                    headers,
                    n,
                    &raw mut name,
                    &raw mut value,
                    &raw mut size,
                );
                if found != none {
                    return;
                }
                each(&CStr::from_ptr(name).to_string_lossy(), bytes(value, size));
            }
        }
    }

    /// The headers of message `index`, to keep.
    pub fn owned_headers(&self, index: usize) -> Vec<Header> {
        let mut headers = Vec::new();
        self.headers(index, |name, value| {
            headers.push(Header { name: name.to_owned(), value: value.map(<[u8]>::to_vec) });
        });
        headers
    }
}

/// A message, or what the library puts among messages: an error, the end of the partition.
pub(crate) struct Message(*mut ffi::rd_kafka_message_t);

// SAFETY: a message may be read and freed from any thread; nothing changes it but the parsing of
// headers, which `Messages` does one thread at a time.
unsafe impl Send for Message {}
// SAFETY: as above.
unsafe impl Sync for Message {}

/// Who has set a record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampType {
    None,
    Create,
    LogAppend,
}

/// # Safety
/// `start` is null or points to `len` bytes that live as long as the result is used.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

impl Message {
    fn native(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: the message lives until `drop`.
        unsafe { &*self.0 }
    }

    /// What it is instead of a record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code: RDKafkaErrorCode = self.native().err.into();
        (code != RDKafkaErrorCode::NoError).then_some(code)
    }

    /// What the library says about an error.
    pub fn text(&self) -> String {
        // SAFETY: the text of an error is a C string that lives as long as the message.
        let text = unsafe { CStr::from_ptr(ffi::rd_kafka_message_errstr(self.0)) };
        text.to_string_lossy().into_owned()
    }

    pub fn offset(&self) -> i64 {
        self.native().offset
    }

    pub fn payload(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: the payload lives as long as the message.
        unsafe { bytes(native.payload, native.len) }
    }

    pub fn key(&self) -> Option<&[u8]> {
        let native = self.native();
        // SAFETY: the key lives as long as the message.
        unsafe { bytes(native.key, native.key_len) }
    }

    /// In milliseconds since the epoch; `None` where there is none.
    pub fn timestamp(&self) -> (Option<i64>, TimestampType) {
        use ffi::rd_kafka_timestamp_type_t::*;
        let mut kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let millis = unsafe { ffi::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        match kind {
            RD_KAFKA_TIMESTAMP_CREATE_TIME if millis == -1 => (None, TimestampType::Create),
            RD_KAFKA_TIMESTAMP_CREATE_TIME => (Some(millis), TimestampType::Create),
            RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => (Some(millis), TimestampType::LogAppend),
            RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (None, TimestampType::None),
        }
    }

    /// Which leader of the partition has written it.
    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message lives.
        let epoch = unsafe { ffi::rd_kafka_message_leader_epoch(self.0) };
        (epoch >= 0).then_some(epoch)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it.
        unsafe { ffi::rd_kafka_message_destroy(self.0) }
    }
}
