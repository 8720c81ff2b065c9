//! The job of [`crate::totals_job`] from topic to topic.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::process::Output;
use std::sync::Arc;

use super::broker::{Group, Isolation, Topic};
use crate::job_folder::Running;
use crate::totals::{Expected, Found};
use crate::totals_job::{Sink, TotalsJob};

/// Options of a source that ends where the topic ends.
pub const TO_THE_END: &str = "'scan.bounded.mode' = 'latest-offset'";

/// Options of a sink that transacts.
pub const EXACTLY_ONCE: &str = "'sink.delivery-guarantee' = 'exactly-once'";

/// Options of a sink that does not.
pub const AT_LEAST_ONCE: &str = "'sink.delivery-guarantee' = 'at-least-once'";

/// Totals per user and ten seconds, from one topic to another. A clone is another instance of it in the
/// same folder.
#[derive(Clone)]
pub struct TopicJob {
    job: TotalsJob,
    pub input: Arc<Topic>,
    pub output: Arc<Topic>,
}

impl Deref for TopicJob {
    type Target = TotalsJob;

    fn deref(&self) -> &TotalsJob {
        &self.job
    }
}

impl TopicJob {
    /// The job over a topic, with more options of its source and its sink; its output is new.
    pub fn new(input: &Arc<Topic>, source: &str, sink: &str) -> Self {
        let output = input.broker().topic("totals", 4);
        let name = output.name().replacen("totals", "job", 1);
        let brokers = format!("'properties.bootstrap.servers' = '{}'", input.broker().addresses());
        let comma = if source.is_empty() { "" } else { ", " };
        let source = format!(
            "'connector' = 'kafka', 'topic' = '{}', {brokers}, 'properties.group.id' = '{name}',
             'scan.startup.mode' = 'earliest-offset'{comma}{source}",
            input.name()
        );
        let sink = format!(
            "'connector' = 'kafka', 'topic' = '{}', {brokers}, 'key.format' = 'json',
             'key.fields' = 'user_id', 'format' = 'json', {sink}",
            output.name()
        );
        let job = TotalsJob::new(&name, &source, &[Sink::totals(&sink)]);
        Self { job, input: input.clone(), output }
    }

    /// The same topics as another instance of the job sees them.
    #[must_use]
    pub fn of(self, job: TotalsJob) -> Self {
        Self { job, ..self }
    }

    /// Waits until a running job has put out so many results.
    pub fn until_results(&self, running: &mut Running, results: usize) {
        let (count, reader) =
            (Cell::new(0), RefCell::new(self.output.reader(Isolation::Committed)));
        running.until("all results", || {
            reader.borrow_mut().more(|_, _| count.set(count.get() + 1));
            count.get() >= results
        });
    }

    /// Up to where the job has told the broker that its checkpoints reach: the sum over the partitions.
    pub fn group(&self) -> Group {
        self.input.group(self.name())
    }

    /// That a run to the end ended well, that its counts over all runs are the oracle's, and that the
    /// output topic holds exactly what it should.
    pub fn assert_exact(&self, ended: &Output, expected: &Expected, context: &str) {
        self.assert_counts(ended, expected, context);
        Found::in_log(&*self.output).assert_exact(expected, context);
        self.output.assert_no_open_transaction(context);
    }
}
