//! Dead letters through a real broker and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_core::dead_letter::{self, DeadLetter, Provenance};
use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::{Sink, SinkContext, SinkWriter, Staged};
use tidemill_core::source::SplitId;
use tidemill_core::time::SystemClock;
use tidemill_core::{Batch, Epoch, ErrorClass};

use super::{Address, DeadLetterSink, HeaderNames, Letter, LetterTopic, Progress, Stored};

fn address() -> Address {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let brokers = std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: run scripts/test, or scripts/services up");
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Address { brokers, topic: Some(format!("letters-{nanos:x}-{count}")) }
}

fn context(checkpointed: bool) -> SinkContext {
    SinkContext {
        job: "totals".to_owned(),
        node: "dead-letters".to_owned(),
        shard: 0,
        first_epoch: 1,
        schema: dead_letter::schema(),
        waker: Waker::noop().clone(),
        checkpointed,
        clock: Arc::new(SystemClock::default()),
        machine_output: false,
        retry: RetrySettings::default(),
    }
}

/// Letter `n` with this payload.
fn letter(n: i64, payload: Option<Vec<u8>>) -> DeadLetter {
    let record = SourceRecord {
        position: format!("offset {n}"),
        payload,
        key: (n % 2 == 0).then(|| vec![0xff, n as u8]),
        headers: vec![
            Header::new("correlation-id", n.to_string()),
            Header { name: "nothing".to_owned(), value: None },
            Header::new("tidemill.class", "of an earlier life"),
        ],
        timestamp: Some(1_700_000_000_000_000 + n * 1_000),
    };
    DeadLetter {
        class: if n % 3 == 0 { ErrorClass::Transient } else { ErrorClass::Permanent },
        attempts: 1 + (n % 3) as u32,
        first_failed_at: Some(n),
        ..DeadLetter::new(SplitId::new("orders/0"), record, format!("wrong in {n}"))
    }
}

fn rows(letters: &[DeadLetter]) -> Batch {
    let (job, source, operator) = ("totals", "orders", "book");
    let provenance =
        Provenance { job, source, operator, epoch: 7, failed_at: 1_700_000_001_000_000 };
    Batch::new(dead_letter::rows(provenance, letters).unwrap())
}

fn bytes(n: i64) -> Option<Vec<u8>> {
    (n % 5 != 0).then(|| format!("\u{0}{n}").into_bytes())
}

/// Asks until it is ready.
fn wait<T>(mut poll: impl FnMut() -> Poll<T>) -> T {
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = poll() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never ready");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn write(writer: &mut dyn SinkWriter, epoch: Epoch, batch: &Batch) -> Staged {
    wait(|| writer.poll_ready().unwrap());
    writer.write(batch).unwrap();
    wait(|| writer.poll_stage(epoch).unwrap())
}

fn all(topic: &LetterTopic) -> Vec<Stored> {
    let mut found = Vec::new();
    for partition in 0..topic.partitions() {
        let mut each = |stored| {
            found.push(stored);
            Ok(true)
        };
        topic.read(partition, 0, &mut each).unwrap();
    }
    found
}

#[test]
fn letters_arrive_as_they_were_in_a_topic_that_is_made_for_them() {
    let letters: Vec<_> = (0..20).map(|n| letter(n, bytes(n))).collect();
    let batch = rows(&letters);
    let expected = Letter::from_rows(&batch.rows).unwrap();
    for names in [HeaderNames::Connect, HeaderNames::Streams, HeaderNames::Spring] {
        let address = address();
        let sink = DeadLetterSink::new(&address).unwrap().headers(names);
        let mut writer = sink.writer(&context(false)).unwrap();
        assert_eq!(write(writer.as_mut(), 1, &batch), Staged::default());
        let topic = LetterTopic::open(&address, "reader").unwrap();
        assert_eq!(topic.partitions(), 1);
        let found: Vec<Letter> = all(&topic).into_iter().map(|stored| stored.letter).collect();
        assert_eq!(found, expected, "{names:?}");
    }
}

#[test]
fn with_checkpoints_letters_arrive_once_and_only_when_their_epoch_exists() {
    let address = address();
    let sink = DeadLetterSink::new(&address).unwrap();
    let context = context(true);
    let letters: Vec<_> = (0..10).map(|n| letter(n, bytes(n))).collect();
    let mut writer = sink.writer(&context).unwrap();
    let staged = write(writer.as_mut(), 1, &rows(&letters));
    let topic = LetterTopic::open(&address, "reader").unwrap();
    assert!(all(&topic).is_empty(), "its checkpoint does not exist yet");
    sink.committer(&context).unwrap().commit(1, std::slice::from_ref(&staged)).unwrap();
    // The job crashed before it knew: it asks, and commits again where it must.
    let mut again = sink.committer(&context).unwrap();
    assert_eq!(again.committed().unwrap(), Some(1));
    let found = all(&topic);
    assert_eq!(found.len(), 10);
    for (stored, sent) in found.iter().zip(&letters) {
        assert_eq!(
            &stored.letter.letter, sent,
            "no header of the transaction is taken for its own"
        );
    }
}

#[test]
fn a_letter_too_large_for_its_topic_says_where_its_record_is() {
    for checkpointed in [false, true] {
        let address = address();
        let sink = DeadLetterSink::new(&address).unwrap();
        let context = context(checkpointed);
        let mut writer = sink.writer(&context).unwrap();
        let letters = [letter(1, Some(vec![b'x'; 3 << 20])), letter(2, bytes(2))];
        let staged = write(writer.as_mut(), 1, &rows(&letters));
        sink.committer(&context).unwrap().commit(1, &[staged]).unwrap();
        let found = all(&LetterTopic::open(&address, "reader").unwrap());
        let sizes: Vec<_> = found.iter().map(|stored| stored.omitted_bytes).collect();
        assert_eq!(sizes, [Some(3 << 20), None]);
        let first = &found[0].letter;
        assert_eq!(first.letter.record.payload, None);
        assert_eq!(first.coordinates().unwrap().offset, 1);
        assert_eq!(first.letter.record.headers, letters[0].record.headers);
    }
}

#[test]
fn what_was_replayed_is_remembered_by_a_group() {
    let address = address();
    let sink = DeadLetterSink::new(&address).unwrap();
    let mut writer = sink.writer(&context(false)).unwrap();
    write(writer.as_mut(), 1, &rows(&(0..9).map(|n| letter(n, bytes(n))).collect::<Vec<_>>()));
    let group = address.topic().unwrap().to_owned();
    let topic = LetterTopic::open(&address, &group).unwrap();
    assert_eq!(topic.progress(0).unwrap(), None);
    let mut progress = Progress::default();
    assert_eq!(progress.offset(), 0);
    [0, 1, 4, 5, 8].into_iter().for_each(|offset| progress.add(offset));
    progress.advance(2);
    topic.save(0, &progress).unwrap();
    let again = LetterTopic::open(&address, &group).unwrap().progress(0).unwrap().unwrap();
    assert_eq!(again, progress);
    let mut seen = Vec::new();
    let mut each = |stored: Stored| {
        seen.push((stored.offset, again.contains(stored.offset)));
        Ok(stored.offset < 5)
    };
    topic.read(0, again.offset(), &mut each).unwrap();
    assert_eq!(seen, [(2, false), (3, false), (4, true), (5, true)]);
    assert_eq!(all(&topic).len(), 9, "reading again from the beginning is no matter");
}

#[test]
fn a_topic_that_is_not_there_is_said_and_not_made_by_reading() {
    let address = address();
    let error = LetterTopic::open(&address, "reader").err().unwrap().to_string();
    assert!(error.contains("there is no topic"), "{error}");
}
