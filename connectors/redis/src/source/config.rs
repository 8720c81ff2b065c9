//! What the options of a source say.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};

use super::id::EntryId;
use super::layout::Layout;
use crate::client::Config;
use crate::streams::{self, Stream};

/// Consumers that are alive may hold entries for so long.
const CLAIM_AFTER_MIN: Duration = Duration::from_secs(1);

/// What a source understands beside what sinks understand too.
pub(crate) const OPTIONS: [OptionSpec; 11] = [
    OptionSpec::new(
        "read",
        "positions (default): each stream is read from the checkpoint's position on (XREAD); group: \
         as a consumer of the group, beside others (XREADGROUP).",
    ),
    OptionSpec::new("group", "The consumer group (default: tidemill- and the job's name)."),
    OptionSpec::new(
        "consumer",
        "The name as a consumer of the group (default: the job's name); each process needs its own.",
    ),
    OptionSpec::new(
        "claim.min-idle",
        "Entries that another consumer has not acknowledged for so long, 1 s at least, are taken over \
         (default: 60 s).",
    ),
    OptionSpec::new(
        "scan.startup.mode",
        "Where a job without a checkpoint starts: group-offsets (default), earliest-offset, \
         latest-offset, timestamp or specific-offsets.",
    ),
    OptionSpec::new(
        "scan.startup.timestamp-millis",
        "Startup mode timestamp: start with the first entry that is not older.",
    ),
    OptionSpec::new(
        "scan.startup.specific-offsets",
        "Startup mode specific-offsets: 'partition:0,offset:1712-3;partition:1,offset:1800-0'.",
    ),
    OptionSpec::new(
        "scan.bounded.mode",
        "Where the source ends: unbounded (default), latest-offset, group-offsets, timestamp or \
         specific-offsets.",
    ),
    OptionSpec::new(
        "scan.bounded.timestamp-millis",
        "Bounded mode timestamp: end before the first entry that is not older.",
    ),
    OptionSpec::new(
        "scan.bounded.specific-offsets",
        "Bounded mode specific-offsets: 'partition:0,offset:1712-3;partition:1,offset:1800-0'.",
    ),
    OptionSpec::new(
        "scan.out-of-range",
        "Where entries that were not read yet are gone: fail (default), or go on at the earliest or \
         the latest entry.",
    ),
];

/// How streams are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadMode {
    /// Each stream by this job alone, from the checkpoint's position on (`XREAD`).
    Positions,
    /// As a consumer of the group, beside others (`XREADGROUP`).
    Group {
        /// The consumer's name; the job's, if nothing is said.
        consumer: Option<String>,
        /// Entries that another consumer has not acknowledged for so long are taken over.
        claim_after: Duration,
    },
}

/// Where a source starts that no checkpoint says it of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest entry.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// Where the consumer group is; where there is none, with the oldest entry.
    Group,
    /// With the first entry whose time (milliseconds since the epoch) is not older.
    Timestamp(u64),
    /// At these ids (`1712-3`), by partition; the others as with [`StartAt::Group`].
    Offsets(BTreeMap<i32, String>),
}

/// Where a source ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopAt {
    /// Behind the last entry that there is when the job first starts.
    Latest,
    /// Where the consumer group is.
    Group,
    /// Before the first entry whose time (milliseconds since the epoch) is not older; where there is
    /// none, as with [`StopAt::Latest`].
    Timestamp(u64),
    /// Before these ids (`1712-3`), by partition.
    Offsets(BTreeMap<i32, String>),
}

/// What becomes of a source whose next entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// The job ends with an error that says how many are gone.
    Fail,
    /// It goes on with the oldest that there is; how many are gone is logged and counted.
    Earliest,
    /// It goes on with what comes from now on; how many are gone is logged and counted.
    Latest,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct SourceConfig {
    pub streams: Vec<Stream>,
    pub client: Config,
    pub mode: ReadMode,
    pub group: Option<String>,
    pub start: StartAt,
    pub stop: Option<StopAt>,
    pub out_of_range: OutOfRange,
    pub layout: Layout,
}

impl SourceConfig {
    /// What a table says.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(table: &TableSpec) -> Result<Self> {
        let options = &table.options;
        let out_of_range = ["fail", "earliest", "latest"];
        let choices = [OutOfRange::Fail, OutOfRange::Earliest, OutOfRange::Latest];
        let config = Self {
            streams: streams::parse(options.required("stream")?)?,
            client: Config::parse(options)?,
            mode: mode(options)?,
            group: options.get("group").map(str::to_owned),
            start: start(options)?,
            stop: stop(options)?,
            out_of_range: choices[options.choice("scan.out-of-range", &out_of_range, 0)?],
            layout: Layout::parse(table)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// An id that is none, or of a partition that the source does not have; entries that would be taken over
    /// at once.
    pub fn check(&self) -> Result<()> {
        if let ReadMode::Group { claim_after, .. } = self.mode
            && claim_after < CLAIM_AFTER_MIN
        {
            let message = "option 'claim.min-idle' is less than 1 s: a consumer that is merely busy would \
                           have its entries taken over; several times the checkpoint interval is right";
            return Err(Error::option("claim.min-idle", message));
        }
        let parts = [
            (
                "scan.startup.specific-offsets",
                match &self.start {
                    StartAt::Offsets(offsets) => Some(offsets),
                    _ => None,
                },
            ),
            (
                "scan.bounded.specific-offsets",
                match &self.stop {
                    Some(StopAt::Offsets(offsets)) => Some(offsets),
                    _ => None,
                },
            ),
        ];
        for (option, offsets) in parts {
            for (partition, id) in offsets.into_iter().flatten() {
                parse_id(option, id)?;
                if self.streams.iter().all(|stream| stream.partition != *partition) {
                    let message = format!("option '{option}': there is no partition {partition}");
                    return Err(Error::option(option, message));
                }
            }
        }
        Ok(())
    }

    /// The consumer group: the one that the table names, or one that the job always gives.
    pub fn group(&self, job: &str) -> String {
        self.group.clone().unwrap_or_else(|| format!("tidemill-{job}"))
    }

    /// The stream with this key.
    ///
    /// # Errors
    /// The source has none.
    pub fn stream(&self, key: &str) -> Result<&Stream> {
        self.streams.iter().find(|stream| stream.key == key).ok_or_else(|| {
            let message = format!(
                "stream '{key}' is in the checkpoint, and option 'stream' does not name it any \
                 more; name it, or start the job with --fresh"
            );
            Error::option("stream", message)
        })
    }

    /// The streams in one word, for people.
    pub fn names(&self) -> String {
        let keys: Vec<&str> = self.streams.iter().map(|stream| stream.key.as_str()).collect();
        match keys.as_slice() {
            [first, _, _, .., last] => format!("{first} … {last} ({} streams)", keys.len()),
            _ => keys.join(", "),
        }
    }
}

/// An id in an option.
///
/// # Errors
/// It is none.
pub(crate) fn parse_id(option: &str, text: &str) -> Result<EntryId> {
    text.parse().map_err(|()| {
        let message = format!("option '{option}': '{text}' is no id of an entry: write 1712-3");
        Error::option(option, message)
    })
}

fn mode(options: &Options) -> Result<ReadMode> {
    if options.choice("read", &["positions", "group"], 0)? == 0 {
        for option in ["consumer", "claim.min-idle"] {
            if options.get(option).is_some() {
                let message = format!("option '{option}' needs 'read' = 'group'");
                return Err(Error::option(option, message));
            }
        }
        return Ok(ReadMode::Positions);
    }
    let claim_after = options.duration("claim.min-idle")?.unwrap_or(Duration::from_secs(60));
    Ok(ReadMode::Group { consumer: options.get("consumer").map(str::to_owned), claim_after })
}

const START: [&str; 5] =
    ["group-offsets", "earliest-offset", "latest-offset", "timestamp", "specific-offsets"];

fn start(options: &Options) -> Result<StartAt> {
    let mode = START[options.choice("scan.startup.mode", &START, 0)?];
    sub_option(options, "scan.startup", mode)?;
    Ok(match mode {
        "earliest-offset" => StartAt::Earliest,
        "latest-offset" => StartAt::Latest,
        "timestamp" => StartAt::Timestamp(timestamp(options, "scan.startup.timestamp-millis")?),
        "specific-offsets" => StartAt::Offsets(offsets(options, "scan.startup.specific-offsets")?),
        _ => StartAt::Group,
    })
}

const STOP: [&str; 5] =
    ["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"];

fn stop(options: &Options) -> Result<Option<StopAt>> {
    let mode = STOP[options.choice("scan.bounded.mode", &STOP, 0)?];
    sub_option(options, "scan.bounded", mode)?;
    Ok(match mode {
        "latest-offset" => Some(StopAt::Latest),
        "group-offsets" => Some(StopAt::Group),
        "timestamp" => {
            Some(StopAt::Timestamp(timestamp(options, "scan.bounded.timestamp-millis")?))
        }
        "specific-offsets" => {
            Some(StopAt::Offsets(offsets(options, "scan.bounded.specific-offsets")?))
        }
        _ => None,
    })
}

/// An option that only another mode reads is a mistake.
fn sub_option(options: &Options, prefix: &str, mode: &str) -> Result<()> {
    let pairs = [("timestamp-millis", "timestamp"), ("specific-offsets", "specific-offsets")];
    for (suffix, wanted) in pairs {
        let option = format!("{prefix}.{suffix}");
        if options.get(&option).is_some() && mode != wanted {
            let message = format!("option '{option}' needs '{prefix}.mode' = '{wanted}'");
            return Err(Error::option(option, message));
        }
    }
    Ok(())
}

fn timestamp(options: &Options, option: &str) -> Result<u64> {
    options.required(option)?;
    Ok(options.parsed::<u64>(option)?.unwrap_or_default())
}

/// `partition:0,offset:1712-3;partition:1,offset:1800-0`
fn offsets(options: &Options, option: &str) -> Result<BTreeMap<i32, String>> {
    let text = options.required(option)?;
    let wrong = || {
        let message = format!(
            "option '{option}' = '{text}': write 'partition:0,offset:1712-3;partition:1,offset:1800-0'"
        );
        Error::option(option, message)
    };
    let mut offsets = BTreeMap::new();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (partition, offset) = pair.split_once(',').ok_or_else(wrong)?;
        let named = |text: &str, name: &str| -> Option<String> {
            let value = text.trim().strip_prefix(name)?.trim().strip_prefix(':')?;
            Some(value.trim().to_owned())
        };
        let partition = named(partition, "partition").and_then(|number| number.parse().ok());
        let offset = named(offset, "offset").filter(|id| id.parse::<EntryId>().is_ok());
        offsets.insert(partition.ok_or_else(wrong)?, offset.ok_or_else(wrong)?);
    }
    if offsets.is_empty() { Err(wrong()) } else { Ok(offsets) }
}
