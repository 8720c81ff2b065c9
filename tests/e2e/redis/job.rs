//! The job of [`crate::totals_job`] from streams to hashes, counters and streams.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::process::Output;
use std::sync::Arc;

use super::server::Space;
use super::streams::Streams;
use crate::job_folder::Running;
use crate::totals::{Expected, Found};
use crate::totals_job::{Sink, TotalsJob};

/// Options of a source that ends where the streams end.
pub const TO_THE_END: &str = "'scan.bounded.mode' = 'latest-offset'";

/// Options of a sink that transacts.
pub const EXACTLY_ONCE: &str = "'sink.delivery-guarantee' = 'exactly-once'";

/// Options of a sink that does not.
pub const AT_LEAST_ONCE: &str = "'sink.delivery-guarantee' = 'at-least-once'";

/// Streams of the output.
const OUTPUTS: usize = 4;

/// Totals per user and ten seconds, from streams to a hash and a counter for each result, and an entry of
/// a stream.
#[derive(Clone)]
pub struct StreamsJob {
    job: TotalsJob,
    pub input: Streams,
    pub output: Streams,
    space: Arc<Space>,
}

impl Deref for StreamsJob {
    type Target = TotalsJob;

    fn deref(&self) -> &TotalsJob {
        &self.job
    }
}

impl StreamsJob {
    /// The job over streams of a space, with more options of its source and its sinks.
    pub fn new(space: &Arc<Space>, input: &Streams, source: &str, sink: &str) -> Self {
        // Several jobs may stand in one space.
        let space = &space.server().space();
        let name = space.name("job");
        let output = Streams::new(space, "totals", OUTPUTS);
        let url = format!("'url' = '{}'", space.server().url());
        let comma = if source.is_empty() { "" } else { ", " };
        let source = format!(
            "'connector' = 'redis-stream', 'stream' = '{}', {url}, 'group' = '{name}',
             'scan.startup.mode' = 'earliest-offset'{comma}{source}",
            input.pattern()
        );
        let structure = |name: &str, structure: &str| {
            let key = space.name(name);
            format!(
                "'connector' = 'redis', 'structure' = '{structure}', {url},
                 'key' = '{key}:{{user_id}}:{{window_start}}', {sink}"
            )
        };
        let (hash, counter) = (structure("hash", "hash"), structure("counter", "counter"));
        let stream = format!(
            "'connector' = 'redis-stream', 'stream' = '{}', {url}, 'key.fields' = 'user_id',
             'format' = 'json', {sink}",
            output.pattern()
        );
        let sinks = [
            Sink::totals(&hash).named("hashes"),
            Sink::totals(&counter).named("counters").counts(),
            Sink::totals(&stream).named("entries"),
        ];
        let job = TotalsJob::new(&name, &source, &sinks);
        Self { job, input: input.clone(), output, space: space.clone() }
    }

    /// The same keys as another instance of the job sees them.
    #[must_use]
    pub fn of(self, job: TotalsJob) -> Self {
        Self { job, ..self }
    }

    /// Waits until a running job has put out so many results.
    pub fn until_results(&self, running: &mut Running, results: usize) {
        running.until("all results", || self.output.entries() as usize >= results);
    }

    /// The results in hashes: one key for each, so that what is there twice is not seen.
    pub fn hashes(&self) -> Found {
        let keys = self.space.keys(&format!("{}:*", self.space.name("hash")));
        let mut asked = redis::pipe();
        keys.iter().for_each(|key| {
            asked.cmd("HGETALL").arg(key);
        });
        let hashes: Vec<BTreeMap<String, i64>> = asked.query(&mut self.input.connect()).unwrap();
        let mut found = Found::default();
        for (key, mut hash) in keys.iter().zip(hashes) {
            let (user, start) = result_of(key);
            let totals = ["n", "total"]
                .map(|field| hash.remove(field).unwrap_or_else(|| panic!("{key}: no {field}")));
            assert!(hash.is_empty(), "{key}: {hash:?}");
            found.add(start, user, totals.into());
        }
        found
    }

    /// The results in counters: what was counted twice is twice as much.
    fn counters(&self) -> BTreeMap<(String, i64), i64> {
        let keys = self.space.keys(&format!("{}:*", self.space.name("counter")));
        let mut asked = redis::pipe();
        keys.iter().for_each(|key| {
            asked.cmd("GET").arg(key);
        });
        let counts: Vec<i64> = asked.query(&mut self.input.connect()).unwrap();
        let result = |key| {
            let (user, start) = result_of(key);
            (start.to_owned(), user)
        };
        keys.iter().map(|key| result(key)).zip(counts).collect()
    }

    /// That a run to the end ended well, that its counts over all runs are the oracle's, and that all
    /// three outputs hold exactly what they should.
    pub fn assert_exact(&self, ended: &Output, expected: &Expected, context: &str) {
        self.assert_counts(ended, expected, context);
        self.assert_outputs(expected, context);
    }

    /// The second half of [`StreamsJob::assert_exact`].
    pub fn assert_outputs(&self, expected: &Expected, context: &str) {
        Found::in_log(&self.output).assert_exact(expected, &format!("{context}: streams"));
        self.hashes().assert_exact(expected, &format!("{context}: hashes"));
        expected.assert_numbers(self.counters(), &format!("{context}: counters"));
    }
}

/// The user and the window of `hash-1a2b3c4d:USER:WINDOW`.
fn result_of(key: &str) -> (i64, &str) {
    let mut parts = key.splitn(3, ':').skip(1);
    let user = parts.next().and_then(|user| user.parse().ok());
    user.zip(parts.next()).unwrap_or_else(|| panic!("what is {key}?"))
}
