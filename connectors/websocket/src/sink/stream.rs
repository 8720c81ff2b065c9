//! One stream: from the job's inbox to the queues of its clients.
//!
//! Invariant: a client gets every row once, in the order in which rows came in: those before it connected
//! as a snapshot, those after as they come. Taking the snapshot and joining are one step under one lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use tidemill_core::Result;
use tidemill_formats::json::JsonFormat;
use tokio::sync::Notify;

use super::SlowClient;
use super::access::Origins;
use super::encode::Encodings;
use super::history::History;
use super::inbox::Inbox;
use super::parcel::{Form, Lane, Parcel, copy};
use super::queue::{End, Limits, Queue};
use crate::secret::Token;

/// What is fixed of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamSettings {
    pub schema: SchemaRef,
    /// For clients that do not ask for another.
    pub form: Form,
    pub json: JsonFormat,
    /// Columns that clients may filter by.
    pub key: Vec<usize>,
    /// Columns of which a snapshot holds the last row each; none: it holds the last rows.
    pub upsert: Vec<usize>,
    pub snapshot_rows: usize,
    pub limits: Limits,
    pub slow: SlowClient,
    pub ping_every: Duration,
    pub origins: Origins,
    pub token: Option<Token>,
    /// What was asked for.
    pub connections_max: usize,
}

/// See the module.
pub(crate) struct Stream {
    pub settings: StreamSettings,
    pub meters: Meters,
    inbox: Inbox,
    clients: Mutex<Clients>,
    connections: AtomicUsize,
    connections_max: usize,
    left: Notify,
}

/// What a stream counts.
pub(crate) struct Meters {
    pub connections: Gauge,
    pub sent: Counter,
    pub bytes: Counter,
    pub dropped: Counter,
    pub disconnected: Counter,
}

impl Meters {
    pub fn new(sink: &str) -> Self {
        let labels = [("sink", sink.to_owned())];
        Self {
            connections: gauge!("tidemill_websocket_connections", &labels),
            sent: counter!("tidemill_websocket_messages_sent_total", &labels),
            bytes: counter!("tidemill_websocket_bytes_sent_total", &labels),
            dropped: counter!("tidemill_websocket_messages_dropped_total", &labels),
            disconnected: counter!("tidemill_websocket_slow_clients_disconnected_total", &labels),
        }
    }
}

struct Clients {
    lanes: HashMap<Lane, Vec<Arc<Queue>>>,
    encodings: Encodings,
    history: History,
    /// The last snapshot that was made, until a row comes.
    snapshot: Option<(Lane, Parcel)>,
    is_over: bool,
}

/// A client's place among those that may be connected. Given back when dropped.
pub(crate) struct Seat(Arc<Stream>);

impl Stream {
    /// The stream of the sink called `sink`, with so many clients at most.
    ///
    /// # Errors
    /// A column that cannot be encoded.
    pub fn new(sink: &str, connections_max: usize, settings: StreamSettings) -> Result<Self> {
        let encodings = |key| Encodings::new(&settings.schema, settings.json, key);
        let upserts = match settings.upsert.is_empty() {
            true => None,
            false => Some(encodings(&settings.upsert)?),
        };
        let clients = Clients {
            lanes: HashMap::new(),
            encodings: encodings(&settings.key)?,
            history: History::new(settings.snapshot_rows, upserts),
            snapshot: None,
            is_over: false,
        };
        Ok(Self {
            meters: Meters::new(sink),
            inbox: Inbox::default(),
            clients: Mutex::new(clients),
            connections: AtomicUsize::new(0),
            connections_max,
            left: Notify::new(),
            settings,
        })
    }

    /// Takes rows from the job.
    pub fn send(&self, rows: &RecordBatch) {
        let dropped = self.inbox.push(rows) * self.connections.load(Ordering::Relaxed);
        if dropped > 0 {
            self.meters.dropped.increment(dropped as u64);
        }
    }

    /// Bytes of rows that wait to be encoded.
    pub fn waiting_bytes(&self) -> usize {
        self.inbox.bytes()
    }

    /// No rows come any more.
    pub fn close(&self) {
        self.inbox.close();
    }

    /// Sends what comes in to the clients; returns when the stream is closed and all have gone.
    pub async fn run(&self) {
        while let Some(rows) = self.inbox.next().await {
            if let Err(error) = self.deliver(&rows) {
                let lost = rows.num_rows() * self.connections.load(Ordering::Relaxed);
                self.meters.dropped.increment(lost as u64);
                tracing::error!("rows of a WebSocket stream could not be encoded: {error}");
            }
            // Clients that keep up take what they got before there is more.
            tokio::task::yield_now().await;
        }
        self.finish();
        while self.connections.load(Ordering::Acquire) > 0 {
            self.left.notified().await;
        }
    }

    fn deliver(&self, rows: &RecordBatch) -> Result<()> {
        let mut clients = self.clients.lock();
        let clients = &mut *clients;
        let rows = clients.encodings.plain(rows)?;
        let mut parcels = Parcels::new(&rows, clients.lanes.keys(), &mut clients.encodings)?;
        let mut dropped = 0;
        for (lane, queues) in &clients.lanes {
            let parcel = parcels.of(lane, &mut clients.encodings)?;
            dropped += queues.iter().map(|queue| queue.offer(&parcel)).sum::<usize>();
        }
        self.meters.dropped.increment(dropped as u64);
        clients.snapshot = None;
        clients.history.add(&rows)
    }

    fn finish(&self) {
        let mut clients = self.clients.lock();
        clients.is_over = true;
        clients.lanes.values().flatten().for_each(|queue| queue.end(End::Job));
    }

    /// The last rows, and a queue that gets all that follow.
    ///
    /// # Errors
    /// A defect.
    pub fn join(&self, lane: &Lane) -> Result<(Parcel, Arc<Queue>)> {
        let mut clients = self.clients.lock();
        let snapshot = clients.snapshot(lane)?;
        let queue = Arc::new(Queue::new(self.settings.limits, self.settings.slow));
        if clients.is_over {
            queue.end(End::Job);
        }
        clients.lanes.entry(lane.clone()).or_default().push(queue.clone());
        Ok((snapshot, queue))
    }

    /// A client has gone.
    pub fn leave(&self, lane: &Lane, queue: &Arc<Queue>) {
        let mut clients = self.clients.lock();
        if let Some(queues) = clients.lanes.get_mut(lane) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                clients.lanes.remove(lane);
            }
        }
    }

    /// A seat for one more client, where there is one.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let max = self.connections_max;
        let more = |taken: usize| (taken < max).then_some(taken + 1);
        self.connections.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        self.meters.connections.increment(1);
        Some(Seat(self.clone()))
    }

    /// How many columns make up the key.
    pub fn key_columns(&self) -> usize {
        self.settings.key.len()
    }

    /// The key whose columns have these values.
    ///
    /// # Errors
    /// A defect.
    pub fn key(&self, values: &[String]) -> Result<String> {
        self.clients.lock().encodings.key(self.settings.json, values)
    }
}

impl Seat {
    /// The stream that the client is connected to.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.meters.connections.decrement(1);
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_one();
    }
}

impl Clients {
    fn snapshot(&mut self, lane: &Lane) -> Result<Parcel> {
        if let Some((of, parcel)) = &self.snapshot
            && of == lane
        {
            return Ok(parcel.clone());
        }
        let Some(rows) = self.history.rows()? else { return Ok(Parcel::from([])) };
        let mut parcels = Parcels::new(&rows, std::iter::once(lane), &mut self.encodings)?;
        let parcel = parcels.of(lane, &mut self.encodings)?;
        self.snapshot = Some((lane.clone(), parcel.clone()));
        Ok(parcel)
    }
}

/// The messages of a batch, made when the first lane asks for them.
struct Parcels<'a> {
    rows: &'a RecordBatch,
    whole: [Option<Parcel>; 3],
    /// The rows of each key, where some lane asks for one.
    by_key: HashMap<String, Vec<u32>>,
}

impl<'a> Parcels<'a> {
    fn new<'l>(
        rows: &'a RecordBatch,
        mut lanes: impl Iterator<Item = &'l Lane>,
        encodings: &mut Encodings,
    ) -> Result<Self> {
        let mut by_key: HashMap<String, Vec<u32>> = HashMap::new();
        if lanes.any(|lane| lane.key.is_some()) {
            for (row, key) in (0..).zip(encodings.keys(rows)?) {
                by_key.entry(key).or_default().push(row);
            }
        }
        Ok(Self { rows, whole: [None, None, None], by_key })
    }

    fn of(&mut self, lane: &Lane, encodings: &mut Encodings) -> Result<Parcel> {
        let Some(key) = &lane.key else { return self.whole(lane.form, encodings) };
        let Some(rows) = self.by_key.get(key) else { return Ok(Parcel::from([])) };
        if lane.form == Form::Rows {
            let rows = rows.clone();
            let whole = self.whole(Form::Rows, encodings)?;
            // A few messages that wait must not keep the memory of all.
            return Ok(rows.iter().map(|row| copy(&whole[*row as usize])).collect());
        }
        let rows = take_record_batch(self.rows, &UInt32Array::from(rows.clone()))?;
        encodings.parcel(&rows, lane.form)
    }

    fn whole(&mut self, form: Form, encodings: &mut Encodings) -> Result<Parcel> {
        let parcel = &mut self.whole[form as usize];
        if let Some(parcel) = parcel {
            return Ok(parcel.clone());
        }
        Ok(parcel.insert(encodings.parcel(self.rows, form)?).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use arrow::array::{ArrayRef, Int64Array};
    use axum::extract::ws::Message;

    use super::super::parcel::size;
    use super::super::queue::Next;
    use super::*;

    const KEYS: i64 = 256;
    const ROWS: i64 = 8192;

    fn rows(numbers: Range<i64>) -> RecordBatch {
        let keys = Int64Array::from_iter_values(numbers.clone().map(|n| n % KEYS));
        let columns: [ArrayRef; 2] =
            [Arc::new(keys), Arc::new(Int64Array::from_iter_values(numbers))];
        RecordBatch::try_from_iter(["key", "n"].into_iter().zip(columns)).unwrap()
    }

    fn stream(limits: Limits, slow: SlowClient) -> Stream {
        let settings = StreamSettings {
            schema: rows(0..1).schema(),
            form: Form::Rows,
            json: JsonFormat::default(),
            key: vec![0],
            upsert: Vec::new(),
            snapshot_rows: 0,
            limits,
            slow,
            ping_every: Duration::from_secs(1),
            origins: Origins::Loopback,
            token: None,
            connections_max: 1,
        };
        Stream::new("s", 1, settings).unwrap()
    }

    fn join(stream: &Stream, key: Option<&str>) -> Arc<Queue> {
        let key = key.map(|key| stream.key(&[key.to_owned()]).unwrap());
        stream.join(&Lane { form: Form::Rows, key }).unwrap().1
    }

    fn waiting(queue: &Queue) -> Vec<Message> {
        let next = || match queue.next() {
            Next::Message(message) => Some(message),
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    /// How much memory messages, and nobody else, keep from being freed: the last of a shared block counts it.
    fn held(messages: Vec<Message>) -> usize {
        let memory = |message: Message| message.into_data().try_into_mut().ok();
        messages.into_iter().rev().filter_map(memory).map(|memory| memory.capacity()).sum()
    }

    #[test]
    fn a_stalled_client_of_one_key_holds_its_own_rows_and_not_those_of_all_keys() {
        let stream = stream(Limits::default(), SlowClient::DropOldest);
        let queue = join(&stream, Some("7"));
        for batch in 0..4 {
            stream.deliver(&rows(batch * ROWS..(batch + 1) * ROWS)).unwrap();
        }
        let messages = waiting(&queue);
        assert_eq!(messages.len() as i64, 4 * ROWS / KEYS);
        let bytes: usize = messages.iter().map(size).sum();
        assert_eq!(held(messages), bytes);
    }

    #[test]
    fn what_a_full_queue_keeps_of_a_batch_does_not_hold_the_rest_of_it() {
        let stream = stream(Limits { messages: 4, bytes: 1 << 20 }, SlowClient::DropNewest);
        let queue = join(&stream, None);
        stream.deliver(&rows(0..4)).unwrap();
        for batch in 1..5 {
            assert!(matches!(queue.next(), Next::Message(_)));
            stream.deliver(&rows(batch * ROWS..(batch + 1) * ROWS)).unwrap();
        }
        let messages = waiting(&queue);
        let bytes: usize = messages.iter().map(size).sum();
        assert_eq!((messages.len(), held(messages)), (4, bytes));
    }
}
