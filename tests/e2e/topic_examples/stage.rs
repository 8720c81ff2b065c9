//! What an example needs around it: topics of its own, a folder for its checkpoints, and a reader of
//! whole records that shares nothing with Tidemill.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{command, tidemill};
use crate::job_folder::{Running, summary};
use crate::kafka::broker::{Broker, Isolation, Topic};

const PATIENCE: Duration = Duration::from_secs(60);

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub partition: i32,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl Record {
    /// The payload, where it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.value).ok()
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| std::str::from_utf8(value).unwrap())
    }
}

/// Everything that readers of committed records see, partition by partition in order.
pub fn records(topic: &Topic) -> Vec<Record> {
    let ends = topic.ends(Isolation::Committed);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", topic.broker().addresses()).set("group.id", "examples");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..ends.len() as i32 {
        assignment.add_partition_offset(topic.name(), partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut found, mut open, begun) = (Vec::new(), ends.len(), Instant::now());
    while open > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} cannot be read to its end", topic.name());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => found.push(record(&message)),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("{}: {error}", topic.name()),
            None => {}
        }
    }
    found.sort_by_key(|record| record.partition);
    found
}

fn record(message: &impl Message) -> Record {
    let headers = message.headers().map(|headers| {
        let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
        };
        headers.iter().map(pair).collect()
    });
    Record {
        partition: message.partition(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
    }
}

/// An example on its way: its folder, its brokers, and what its job file calls its topics.
pub struct Stage {
    folder: TempDir,
    broker: Broker,
    job: &'static str,
    variables: BTreeMap<&'static str, String>,
}

impl Stage {
    /// Of a job file among the examples, on these brokers.
    pub fn new(job: &'static str, broker: Broker) -> Self {
        let variables = BTreeMap::from([("KAFKA_BROKERS", broker.addresses().to_owned())]);
        Self { folder: tempfile::tempdir().unwrap(), broker, job, variables }
    }

    /// A new topic, which the job file finds under a variable.
    pub fn topic(&mut self, variable: &'static str, partitions: usize) -> Arc<Topic> {
        let topic = self.broker.topic(&variable.to_lowercase().replace('_', "-"), partitions);
        self.variables.insert(variable, topic.name().to_owned());
        topic
    }

    /// Sets a variable of the job file.
    pub fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.variables.insert(variable, value.into());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the job's checkpoints.
    pub fn checkpoints(&self) -> String {
        self.path("checkpoints").display().to_string()
    }

    /// Fills a topic with `tidemill generate`; every event arrives.
    pub fn generate(&self, arguments: &[&str], topic: &Topic) -> Value {
        let to = format!("kafka://{}/{}", topic.broker().addresses(), topic.name());
        let ended =
            tidemill(["generate"].iter().chain(arguments).chain(&["-o", "json", "--to", &to]));
        let summary = ended.expect(0).summary();
        assert_eq!(summary["generated"], summary["acknowledged"], "{summary}");
        summary
    }

    fn run(&self, shards: usize) -> Command {
        let path = format!("examples/jobs/{}.sql", self.job);
        let shards = shards.to_string();
        let mut command = command(["run", &path, "-o", "json", "--parallelism", &shards]);
        // Its transactions are no other run's.
        let name = format!("{}-{}", self.job, self.variables["GROUP"]);
        command.args(["--set", &format!("pipeline.name={name}")]);
        command.args(["--checkpoint-interval", "500ms"]);
        command.envs(&self.variables).env("CHECKPOINTS", self.checkpoints());
        command
    }

    /// Starts the job on so many shards.
    pub fn start(&self, shards: usize, log: &str) -> Running {
        Running::start(self.run(shards), self.path(log))
    }
}

/// Stops a job as Ctrl+C does; its summary.
pub fn stop(mut running: Running) -> Value {
    running.signal("INT");
    let (code, stderr) = running.wait();
    assert_eq!(code, Some(0), "{stderr}");
    summary(&stderr)
}

/// Waits until readers of committed records see so many.
pub fn until_records(running: &mut Running, topic: &Topic, wanted: usize) {
    let reader = std::cell::RefCell::new(topic.reader(Isolation::Committed));
    let seen = std::cell::Cell::new(0);
    running.until(&format!("{wanted} records in {}", topic.name()), || {
        reader.borrow_mut().more(|_, _| seen.set(seen.get() + 1));
        seen.get() >= wanted
    });
}
