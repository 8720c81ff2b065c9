//! What the options of a source say.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};

use super::layout::Layout;
use crate::client::ClientProperties;

/// What a source understands beside what sinks understand too.
pub(crate) const OPTIONS: [OptionSpec; 10] = [
    OptionSpec::new("topic-pattern", "A regular expression that the names of all topics match."),
    OptionSpec::new(
        "scan.startup.mode",
        "Where a job without a checkpoint starts: group-offsets (default), earliest-offset, \
         latest-offset, timestamp or specific-offsets.",
    ),
    OptionSpec::new(
        "scan.startup.timestamp-millis",
        "Startup mode timestamp: start with the first record that is not older.",
    ),
    OptionSpec::new(
        "scan.startup.specific-offsets",
        "Startup mode specific-offsets: 'partition:0,offset:42;partition:1,offset:300'.",
    ),
    OptionSpec::new(
        "scan.bounded.mode",
        "Where the source ends: unbounded (default), latest-offset, group-offsets, timestamp or \
         specific-offsets.",
    ),
    OptionSpec::new(
        "scan.bounded.timestamp-millis",
        "Bounded mode timestamp: end before the first record that is not older.",
    ),
    OptionSpec::new(
        "scan.bounded.specific-offsets",
        "Bounded mode specific-offsets: 'partition:0,offset:42;partition:1,offset:300'.",
    ),
    OptionSpec::new(
        "scan.topic-partition-discovery.interval",
        "How long new partitions may go unnoticed; 0 for never to look (default: 10 s).",
    ),
    OptionSpec::new(
        "scan.out-of-range",
        "Where records that were not read yet are gone: fail (default), or go on at the earliest \
         or the latest record.",
    ),
    OptionSpec::new("scan.parallelism", "Not supported: a job has one number of shards."),
];

/// Which topics a source reads.
#[derive(Debug, Clone)]
pub(crate) enum Topics {
    /// These.
    List(Vec<String>),
    /// All whose whole name matches.
    Pattern(Regex),
}

impl Topics {
    /// These topics, each once.
    ///
    /// # Errors
    /// None is named.
    pub fn list(names: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut names: Vec<String> = names
            .into_iter()
            .map(|name| name.trim().to_owned())
            .filter(|n| !n.is_empty())
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(Error::option("topic", "option 'topic' names no topic"));
        }
        Ok(Self::List(names))
    }

    /// The topics whose whole name matches.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn pattern(pattern: &str) -> Result<Self> {
        let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
            Error::option("topic-pattern", "option 'topic-pattern' is no regular expression")
                .caused_by(error)
        })?;
        Ok(Self::Pattern(whole))
    }

    fn parse(options: &Options) -> Result<Self> {
        match (options.get("topic"), options.get("topic-pattern")) {
            (Some(names), None) => Self::list(names.split(';').map(str::to_owned)),
            (None, Some(pattern)) => Self::pattern(pattern),
            (Some(_), Some(_)) => {
                let message = "'topic' and 'topic-pattern' exclude each other: remove one";
                Err(Error::option("topic-pattern", message))
            }
            (None, None) => {
                Err(Error::option("topic", "option 'topic' (or 'topic-pattern') is required"))
            }
        }
    }

    /// The topics in one word, for names.
    pub fn joined(&self) -> String {
        match self {
            Self::List(names) => names.join("-"),
            Self::Pattern(pattern) => {
                let text = pattern.as_str();
                text.strip_prefix("^(?:").and_then(|t| t.strip_suffix(")$")).unwrap_or(text).into()
            }
        }
    }
}

impl std::fmt::Display for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(names) => write!(f, "{}", names.join(", ")),
            Self::Pattern(_) => write!(f, "topics like {}", self.joined()),
        }
    }
}

/// Where a source starts that no checkpoint says it of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest record.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// Where the consumer group is; where it is nowhere, with the oldest record, unless
    /// `properties.auto.offset.reset` says otherwise.
    Group,
    /// With the first record whose timestamp (milliseconds since the epoch) is not older.
    Timestamp(i64),
    /// At these offsets, by partition; the others as with [`StartAt::Group`].
    Offsets(BTreeMap<i32, i64>),
}

/// Where a source ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopAt {
    /// Behind the last record that there is when the job first starts.
    Latest,
    /// Where the consumer group is.
    Group,
    /// Before the first record whose timestamp (milliseconds since the epoch) is not older; where
    /// there is none, as with [`StopAt::Latest`].
    Timestamp(i64),
    /// Before these offsets, by partition.
    Offsets(BTreeMap<i32, i64>),
}

/// What becomes of a source whose next records are gone.
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
    pub topics: Topics,
    pub client: ClientProperties,
    pub start: StartAt,
    pub stop: Option<StopAt>,
    /// `None`: new partitions are not looked for.
    pub discovery: Option<Duration>,
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
        if options.get("scan.parallelism").is_some() {
            let message = "a job has one number of shards: use --parallelism";
            return Err(Error::option("scan.parallelism", message));
        }
        let discovery = options.duration("scan.topic-partition-discovery.interval")?;
        let out_of_range = ["fail", "earliest", "latest"];
        let choices = [OutOfRange::Fail, OutOfRange::Earliest, OutOfRange::Latest];
        let config = Self {
            topics: Topics::parse(options)?,
            client: ClientProperties::parse(options)?,
            start: start(options)?,
            stop: stop(options)?,
            discovery: Some(discovery.unwrap_or(Duration::from_secs(10))).filter(|i| !i.is_zero()),
            out_of_range: choices[options.choice("scan.out-of-range", &out_of_range, 0)?],
            layout: Layout::parse(table)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks what one part alone does not tell.
    ///
    /// # Errors
    /// Offsets of partitions of more than one topic.
    pub fn check(&self) -> Result<()> {
        let is_one = matches!(&self.topics, Topics::List(names) if names.len() == 1);
        let offsets = matches!(self.start, StartAt::Offsets(_))
            || matches!(self.stop, Some(StopAt::Offsets(_)));
        if offsets && !is_one {
            let message = "offsets are of one topic's partitions: name one 'topic', or start by \
                           'timestamp'";
            return Err(Error::option("scan.startup.specific-offsets", message));
        }
        Ok(())
    }

    /// The consumer group: the one that the table names, or one that the job and its topics always
    /// give.
    pub fn group(&self, job: &str) -> String {
        self.client.group().map_or_else(|| default_group(job, &self.topics.joined()), str::to_owned)
    }
}

/// Names longer than this are cut, and told apart by a hash.
const GROUP_CHARS_MAX: usize = 200;

fn default_group(job: &str, topics: &str) -> String {
    let group = format!("tidemill-{job}-{topics}");
    match group.char_indices().nth(GROUP_CHARS_MAX) {
        None => group,
        Some((at, _)) => {
            let hash = xxhash_rust::xxh3::xxh3_64(group.as_bytes());
            format!("{}-{hash:016x}", &group[..at])
        }
    }
}

const START: [&str; 5] =
    ["group-offsets", "earliest-offset", "latest-offset", "timestamp", "specific-offsets"];

fn start(options: &Options) -> Result<StartAt> {
    let mode = options.choice("scan.startup.mode", &START, 0)?;
    let mode = START[mode];
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
    let mode = options.choice("scan.bounded.mode", &STOP, 0)?;
    let mode = STOP[mode];
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

fn timestamp(options: &Options, option: &str) -> Result<i64> {
    options.required(option)?;
    let millis = options.parsed::<i64>(option)?.filter(|millis| *millis >= 0);
    millis.ok_or_else(|| Error::option(option, format!("option '{option}' is before 1970")))
}

/// `partition:0,offset:42;partition:1,offset:300`
fn offsets(options: &Options, option: &str) -> Result<BTreeMap<i32, i64>> {
    let text = options.required(option)?;
    let wrong = || {
        let message = format!(
            "option '{option}' = '{text}': write 'partition:0,offset:42;partition:1,offset:300'"
        );
        Error::option(option, message)
    };
    let mut offsets = BTreeMap::new();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (partition, offset) = pair.split_once(',').ok_or_else(wrong)?;
        let number = |text: &str, name: &str| {
            let number = text.trim().strip_prefix(name)?.trim().strip_prefix(':')?;
            number.trim().parse::<i64>().ok().filter(|number| *number >= 0)
        };
        let partition = number(partition, "partition").and_then(|n| i32::try_from(n).ok());
        let offset = number(offset, "offset").ok_or_else(wrong)?;
        offsets.insert(partition.ok_or_else(wrong)?, offset);
    }
    if offsets.is_empty() { Err(wrong()) } else { Ok(offsets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_flink_writes_them() {
        let of = |text: &str| {
            offsets(&Options::from_iter([("o", text)]), "o").map_err(|error| error.to_string())
        };
        let expected = BTreeMap::from([(0, 42), (1, 300)]);
        assert_eq!(of("partition:0,offset:42;partition:1,offset:300"), Ok(expected.clone()));
        assert_eq!(of(" partition:0, offset:42 ; partition:1,offset:300; "), Ok(expected));
        for text in ["", "0:42", "partition:0", "partition:-1,offset:0", "partition:0,offset:x"] {
            assert!(of(text).unwrap_err().contains("partition:0,offset:42"), "{text}");
        }
    }

    #[test]
    fn the_default_group_is_the_same_every_time_and_never_too_long() {
        assert_eq!(default_group("per-minute", "a-b"), "tidemill-per-minute-a-b");
        let long = default_group("j", &"t".repeat(1000));
        assert_eq!(long, default_group("j", &"t".repeat(1000)));
        assert_ne!(long, default_group("j", &"t".repeat(1001)));
        assert!(long.len() < 250);
    }
}
