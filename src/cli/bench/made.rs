//! Options about rows that are made to be measured, and the windows over them. Invariant: an option that says nothing
//! about what is measured is refused, not passed over.

use std::time::Duration;

use clap::Args;
use tidemill_core::time::micros;
use tidemill_core::{Error, Result};

use super::beside::{Differences, differences};
use super::positive;
use crate::bench::contenders::Beside;
use crate::bench::served::Servers;
use crate::bench::workload::{KeyType, Query, RowSource, Skew, Workload};
use crate::cli::job_file::duration;

/// What the rows and the windows are like. Without a value: not given.
#[derive(Debug, Args)]
pub struct MadeArgs {
    /// Keys [default: 10000].
    #[arg(long, value_name = "N", value_parser = positive)]
    keys: Option<usize>,
    /// How frequent keys are: equally, or the k-th most frequent in proportion to 1 / k^EXPONENT [default: uniform].
    #[arg(long, value_name = "uniform|zipf:EXPONENT", value_parser = skew)]
    skew: Option<Skew>,
    /// What keys are: 64-bit integers, or text of 16 bytes [default: integer].
    #[arg(long)]
    key_type: Option<KeyType>,
    /// How far out of order rows come, at most; also the bound of watermarks [default: 1s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    disorder: Option<Duration>,
    /// Length of tumbling and hopping windows [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    size: Option<Duration>,
    /// From the start of one hopping window to the next; divides the size [default: 2s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slide: Option<Duration>,
    /// How long a key has no row when its session ends [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    gap: Option<Duration>,
    /// Where the rows come from; files are written to the temporary folder first, topics and streams are
    /// filled, and deleted in the end [default: memory].
    #[arg(long)]
    source: Option<RowSource>,
    /// Write text to one file, of which each thread reads a piece, not to one for each thread.
    #[arg(long)]
    one_file: bool,
    /// Brokers for --source kafka [default: KAFKA_BROKERS of the environment].
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// The server for --source redis [default: REDIS_URL of the environment].
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Let Tidemill take turns over another workload, too, which is this one but for its keys, skew, size
    /// or slide. For rows in memory.
    #[arg(long, value_name = "keys=N,…", value_parser = differences)]
    beside: Option<Differences>,
}

/// Reads `uniform`, or `zipf:1.1`.
pub fn skew(text: &str) -> Result<Skew, String> {
    let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse().ok());
    match exponent {
        _ if text == "uniform" => Ok(Skew::Uniform),
        Some(exponent) if f64::is_finite(exponent) && exponent > 0.0 => Ok(Skew::Zipf { exponent }),
        _ => {
            Err("write `uniform`, or `zipf:` and an exponent above 0, such as zipf:1.1".to_owned())
        }
    }
}

/// A length of time in microseconds.
pub fn length(option: &str, length: Duration) -> Result<i64> {
    micros(length)
        .ok_or_else(|| Error::configuration(format!("{option} is longer than time itself")))
}

/// That of an option, or its default.
fn length_or(option: &str, given: Option<Duration>, default: Duration) -> Result<i64> {
    length(option, given.unwrap_or(default))
}

/// Refuses the first option that was given.
pub fn refuse(options: &[(&str, bool)], means: &str) -> Result<()> {
    match options.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((option, _)) => {
            Err(Error::configuration(format!("{option} is for {means}: leave it out")))
        }
    }
}

impl MadeArgs {
    /// The query of `bench tumbling`.
    pub fn tumbling(&self) -> Result<Query> {
        refuse(&[("--slide", self.slide.is_some())], "hopping windows")?;
        refuse(&[("--gap", self.gap.is_some())], "sessions")?;
        Ok(Query::Tumbling { size_us: self.size()? })
    }

    /// The query of `bench hopping`.
    pub fn hopping(&self) -> Result<Query> {
        refuse(&[("--gap", self.gap.is_some())], "sessions")?;
        let slide_us = length_or("--slide", self.slide, Duration::from_secs(2))?;
        Ok(Query::Hopping { size_us: self.size()?, slide_us })
    }

    /// The query of `bench session`.
    pub fn session(&self) -> Result<Query> {
        refuse(&[("--size", self.size.is_some())], "tumbling and hopping windows")?;
        refuse(&[("--slide", self.slide.is_some())], "hopping windows")?;
        Ok(Query::Session { gap_us: length_or("--gap", self.gap, Duration::from_secs(10))? })
    }

    fn size(&self) -> Result<i64> {
        length_or("--size", self.size, Duration::from_secs(10))
    }

    /// Refuses all of them, where a job file or a query of Nexmark says itself what rows and windows are like.
    pub fn refuse(&self) -> Result<()> {
        let options = [
            ("--keys", self.keys.is_some()),
            ("--skew", self.skew.is_some()),
            ("--key-type", self.key_type.is_some()),
            ("--disorder", self.disorder.is_some()),
            ("--size", self.size.is_some()),
            ("--slide", self.slide.is_some()),
            ("--gap", self.gap.is_some()),
            ("--source", self.source.is_some()),
            ("--one-file", self.one_file),
            ("--brokers", self.brokers.is_some()),
            ("--redis", self.redis.is_some()),
            ("--beside", self.beside.is_some()),
        ];
        refuse(&options, "windows over rows that are made for them (tumbling, hopping, session)")
    }

    /// Refuses options about sources that rows do not come from.
    fn refuse_of_other(&self, source: RowSource) -> Result<()> {
        let (is_text, option) = (matches!(source, RowSource::Csv | RowSource::Json), self.one_file);
        refuse(&[("--one-file", option && !is_text)], "one file of text (--source csv or json)")?;
        let is_given = self.brokers.is_some() && source != RowSource::Kafka;
        refuse(&[("--brokers", is_given)], "rows from a topic (--source kafka)")?;
        let is_given = self.redis.is_some() && source != RowSource::Redis;
        refuse(&[("--redis", is_given)], "rows from streams (--source redis)")
    }

    /// Rows like these, and this query over them.
    pub fn workload(&self, query: Query) -> Result<Workload> {
        let usual = Workload::default();
        let source = self.source.unwrap_or(usual.source);
        self.refuse_of_other(source)?;
        let disorder_us = match self.disorder {
            Some(disorder) => length("--disorder", disorder)?,
            None => usual.disorder_us,
        };
        Ok(Workload {
            query,
            disorder_us,
            keys: self.keys.map_or(usual.keys, |keys| keys as u64),
            skew: self.skew.unwrap_or(usual.skew),
            key_type: self.key_type.unwrap_or(usual.key_type),
            source,
            one_file: self.one_file,
            ..usual
        })
    }

    /// The workload that takes turns with this one.
    pub fn beside(&self, workload: &Workload) -> Result<Option<Beside>> {
        self.beside.as_ref().map(|beside| beside.from(workload)).transpose()
    }

    /// Where rows are served.
    pub fn servers(&self) -> Servers {
        Servers { brokers: self.brokers.clone(), redis: self.redis.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_uniform_or_zipf_with_an_exponent() {
        assert_eq!(skew("uniform"), Ok(Skew::Uniform));
        assert_eq!(skew("zipf:1.1"), Ok(Skew::Zipf { exponent: 1.1 }));
        for wrong in ["zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:inf", "zipf:x", ""] {
            assert!(skew(wrong).is_err(), "{wrong}");
        }
    }
}
