//! Where records are sent again: the topics that they came from, another topic, or a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Duration;

use tidemill_core::record::SourceRecord;
use tidemill_core::{Error, Result};
use tidemill_kafka::dead_letter::{Address, Coordinates, Letter};
use tidemill_kafka::sink::{Outgoing, ProducerSettings, RecordProducer};

use super::folder_at;

/// How long delivery reports are waited for at a time.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) enum Destination {
    /// A topic of a cluster; `None`: the one that a record came from.
    Topic(RecordProducer, Option<String>),
    /// One payload a line.
    File(File, String),
    /// Nowhere: what would be sent is only counted. Whether a topic is named.
    Nowhere(bool),
}

impl Destination {
    /// Records go to `to` (`kafka://HOST:PORT/TOPIC`, `kafka://HOST:PORT` for the topics they came from, or a
    /// file), or else to where they came from on the cluster `home`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(to: Option<&str>, home: Option<&Address>) -> Result<Self> {
        let elsewhere = to.map(Address::parse).transpose()?;
        let address = match (to, elsewhere) {
            (Some(path), Some(None)) => return Self::file(&file_at(path)?),
            (_, Some(Some(address))) => address,
            _ => {
                let brokers = home.map(|home| home.brokers.clone()).unwrap_or_default();
                Address { brokers, topic: None }
            }
        };
        let settings = ProducerSettings::new("dlq replay", address.properties()?);
        Ok(Self::Topic(RecordProducer::open(&settings, Waker::noop().clone())?, address.topic))
    }

    /// What [`Destination::open`] would send to, without opening it.
    ///
    /// # Errors
    /// It cannot be meant.
    pub fn pretended(to: Option<&str>) -> Result<Self> {
        let address = to.map(Address::parse).transpose()?.flatten();
        if let (Some(path), None) = (to, &address) {
            file_at(path)?;
        }
        Ok(Self::Nowhere(to.is_some() && address.is_none_or(|address| address.topic.is_some())))
    }

    fn file(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
            Error::configuration(format!("{place} cannot be written")).caused_by(error)
        })?;
        Ok(Self::File(file, place))
    }

    /// Whether it is known where the record of a letter goes.
    pub fn knows_place_for(&self, letter: &Letter) -> bool {
        match self {
            Self::Topic(_, None) | Self::Nowhere(false) => letter.coordinates().is_some(),
            Self::Topic(_, Some(_)) | Self::File(..) | Self::Nowhere(true) => true,
        }
    }

    /// Sends the records of letters, and waits until each is acknowledged, or refused with a reason.
    ///
    /// # Errors
    /// The other side fails: nobody knows what arrived.
    pub fn send(&mut self, letters: &[&Letter]) -> Result<Vec<Option<String>>> {
        match self {
            Self::Topic(producer, topic) => send(producer, topic.as_deref(), letters),
            Self::File(file, place) => write(file, letters).map_err(|error| {
                Error::external(format!("{place} cannot be written")).caused_by(error)
            }),
            Self::Nowhere(_) => Ok(vec![None; letters.len()]),
        }
    }
}

/// The file that a URL or a path names.
fn file_at(url: &str) -> Result<PathBuf> {
    folder_at(url).map_err(|_| {
        Error::configuration("records are sent to kafka://HOST:PORT/TOPIC, or the path of a file")
    })
}

fn send(
    producer: &RecordProducer,
    topic: Option<&str>,
    letters: &[&Letter],
) -> Result<Vec<Option<String>>> {
    let records: Vec<SourceRecord> = letters.iter().map(|letter| letter.replayed()).collect();
    for (letter, record) in letters.iter().zip(&records) {
        while !producer.wait_for_room(PATIENCE)? {}
        let home = letter.coordinates().filter(|_| topic.is_none());
        let (name, partition) = match &home {
            Some(Coordinates { topic, partition, .. }) => (topic.as_str(), Some(*partition)),
            None => (topic.unwrap_or_default(), None),
        };
        let timestamp = record.timestamp.map(|micros| micros.div_euclid(1_000));
        producer.send(
            name,
            &Outgoing {
                partition,
                key: record.key.as_deref(),
                payload: record.payload.as_deref(),
                headers: &record.headers,
                // Kafka's timestamps begin in 1970.
                timestamp: timestamp.filter(|millis| *millis > 0),
            },
        )?;
    }
    while !producer.flush(PATIENCE)? {}
    let mut reasons = vec![None; records.len()];
    for refused in producer.take_refused() {
        let same = |record: &SourceRecord| {
            let theirs = &refused.record;
            (&record.key, &record.payload, &record.headers)
                == (&theirs.key, &theirs.payload, &theirs.headers)
        };
        // Of several that are the same one is as good as another.
        let which = (0..records.len()).find(|n| reasons[*n].is_none() && same(&records[*n]));
        let which =
            which.ok_or_else(|| Error::internal("a record was refused that was not sent"))?;
        reasons[which] = Some(refused.reason);
    }
    Ok(reasons)
}

fn write(file: &mut File, letters: &[&Letter]) -> std::io::Result<Vec<Option<String>>> {
    let mut lines = Vec::new();
    let mut refused = Vec::with_capacity(letters.len());
    for letter in letters {
        let payload = letter.letter.record.payload.as_deref().unwrap_or_default();
        let is_line = !payload.contains(&b'\n');
        if is_line {
            lines.extend_from_slice(payload);
            lines.push(b'\n');
        }
        refused
            .push((!is_line).then(|| "it has several lines, and a file holds one each".to_owned()));
    }
    file.write_all(&lines)?;
    file.sync_data()?;
    Ok(refused)
}
