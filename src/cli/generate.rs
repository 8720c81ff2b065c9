//! `tidemill generate`: sends generated events to a topic, a file or standard output.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use signal_hook::consts::{SIGINT, SIGTERM};
use tidemill_core::time::{Clock, SystemClock, micros};
use tidemill_core::{Error, EventTime, Result};
use tidemill_generator::events::{Encoding, EventKind, EventSettings, Share, Shares, generator};
use tidemill_kafka::dead_letter::Address;

use super::job_file::{duration, key_value};
use super::run::STOPPED_NOW;
use super::summary::grouped;
use super::{Failure, OutputFormat};
use crate::generate::{
    self, Compression, KafkaSettings, KafkaTarget, Limits, Lines, Report, Target,
    customer_event_prefix,
};

/// Events where neither their number nor a rate is given.
const EVENTS: u64 = 1_000_000;

/// Event time between events where no rate is given.
const INTERVAL: Duration = Duration::from_millis(1);

const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// `tidemill generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What kind of events.
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Where they go: `kafka://HOST:PORT,…/TOPIC` (`kafka:///TOPIC` for the brokers of
    /// KAFKA_BROKERS), the path of a file, or `-` for standard output.
    #[arg(long, value_name = "TARGET", default_value = "-")]
    to: String,
    /// So many events [default: 1000000, or with --rate until stopped].
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// So many a second [default: as fast as they are taken].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// So many users, customers or bookings. Nexmark has its own.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// How unequal their shares are, as the exponent of Zipf's law: 0 for equal ones.
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.0)]
    skew: f64,
    /// Another seed, other events; the same seed, the same.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Share of events that no decoder can read: 0.01 or 1%.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    malformed: Share,
    /// Share of events that come long after their time.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    late: Share,
    /// How long.
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    late_by: Duration,
    /// Share of events that repeat one before them, byte for byte.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    duplicates: Share,
    /// Share of customer-events that are of a type which the schema does not have.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    unknown_types: Share,
    /// Event time of the first event (UTC), or `now`.
    #[arg(long, value_name = "TIME", default_value = "2026-01-01 00:00:00", value_parser = time)]
    start: EventTime,
    /// Event time from one event to the next [default: as --rate says, else 1ms].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Who the summary is for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
}

/// How customer-events are written down.
#[derive(Debug, Args)]
struct EncodingArgs {
    /// How customer-events are written [default: protobuf to a topic, else json].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Schema registry to register the schema of customer-events with, for messages that are framed
    /// with its id [default: SCHEMA_REGISTRY_URL].
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
}

/// What only a topic has.
#[derive(Debug, Args)]
struct KafkaArgs {
    /// Partitions of a topic that does not exist yet [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How batches of records are compressed [default: lz4].
    #[arg(long, value_name = "CODEC")]
    compression: Option<Compression>,
    /// Send payloads and keys alone.
    #[arg(long)]
    no_headers: bool,
    /// Set a property of librdkafka, for example `security.protocol=SSL`.
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = key_value)]
    properties: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Login, click, purchase and logout of users, as JSON.
    UserEvents,
    /// Changes of customers, as Protobuf or JSON.
    CustomerEvents,
    /// Commands to a booking service, as JSON.
    Bookings,
    /// People, auctions and bids of the Nexmark benchmark, as JSON.
    Nexmark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object.
    Json,
    /// A Protobuf message, see examples/proto/customer_event.proto.
    Protobuf,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Topic(Address),
    File(PathBuf),
    Stdout,
}

impl Destination {
    /// What `--to` says. Parsed here and not by clap, which repeats what is wrong, secrets too.
    fn parse(text: &str) -> Result<Self> {
        match Address::parse(text)? {
            Some(address) => {
                address.topic()?;
                Ok(Self::Topic(address))
            }
            None if text == "-" => Ok(Self::Stdout),
            None if text.contains("://") => Err(Error::configuration(
                "events go to kafka://HOST:PORT/TOPIC, the path of a file, or -",
            )),
            None => Ok(Self::File(text.into())),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("write how many a second: a number above 0".to_owned()),
    }
}

fn time(text: &str) -> Result<EventTime, String> {
    if text == "now" {
        return Ok(SystemClock::default().now());
    }
    let parse = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
    let nanos = parse(text).map_err(|_| "write 2026-01-01 00:00:00 (UTC), or now".to_owned())?;
    Ok(nanos.div_euclid(1_000))
}

pub fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let to = Destination::parse(&args.to)?;
    args.check(&to)?;
    let stop = stop_on_signals()?;
    let mut generator = generator(args.kind(&to)?, args.settings()?)?;
    let mut target = args.target(&to, Arc::clone(&stop))?;
    let limits = Limits { events: args.limit(), per_second: args.rate };
    let progress = Progress::start(limits.events);
    let report =
        generate::run(generator.as_mut(), target.as_mut(), limits, &stop, &mut progress.shown());
    progress.finish();
    let report = report?;
    print(&report, args.output);
    match &report.failure {
        None => Ok(()),
        Some(why) => {
            let failed = report.failed;
            Err(Error::external(format!("{failed} events were not delivered: {why}")).into())
        }
    }
}

impl GenerateArgs {
    /// Refuses what means nothing together.
    fn check(&self, to: &Destination) -> Result<()> {
        let kafka = &self.kafka;
        let topic = matches!(to, Destination::Topic(_));
        let only_topics = kafka.partitions.is_some()
            || kafka.compression.is_some()
            || kafka.no_headers
            || !kafka.properties.is_empty();
        if only_topics && !topic {
            return Err(Error::configuration(
                "only a topic has partitions, compression, headers and properties: \
                 write --to kafka://HOST:PORT/TOPIC",
            ));
        }
        let protobuf = self.encoding.format == Some(Format::Protobuf);
        if protobuf && !topic {
            return Err(Error::configuration(
                "Protobuf has no line ends, so events cannot be told apart in a file: \
                 write --format json",
            ));
        }
        let encoded = protobuf || self.encoding.registry.is_some();
        if encoded && self.kind != Kind::CustomerEvents {
            return Err(Error::configuration("only customer-events are written as Protobuf"));
        }
        Ok(())
    }

    fn kind(&self, to: &Destination) -> Result<EventKind> {
        Ok(match self.kind {
            Kind::UserEvents => EventKind::UserEvents,
            Kind::Bookings => EventKind::Bookings,
            Kind::Nexmark => EventKind::Nexmark,
            Kind::CustomerEvents => EventKind::CustomerEvents(self.customer_encoding(to)?),
        })
    }

    fn customer_encoding(&self, to: &Destination) -> Result<Encoding> {
        match (to, self.encoding.format) {
            (Destination::Topic(address), None | Some(Format::Protobuf)) => {
                let registry = self.encoding.registry.as_deref();
                let prefix = customer_event_prefix(registry, address.topic()?)?;
                Ok(Encoding::Protobuf { prefix })
            }
            _ => Ok(Encoding::Json),
        }
    }

    fn settings(&self) -> Result<EventSettings> {
        let whole = |time: Duration| {
            micros(time).ok_or_else(|| Error::configuration("a time is too long: write less"))
        };
        let interval = match (self.interval, self.rate) {
            (Some(interval), _) => interval,
            (None, Some(rate)) => Duration::from_secs_f64(1.0 / rate),
            (None, None) => INTERVAL,
        };
        Ok(EventSettings {
            seed: self.seed,
            keys: self.keys,
            skew: self.skew,
            start: self.start,
            interval_us: whole(interval)?,
            shares: Shares {
                malformed: self.malformed,
                late: self.late,
                duplicates: self.duplicates,
                unknown_type: self.unknown_types,
            },
            late_by_us: whole(self.late_by)?,
        })
    }

    fn limit(&self) -> Option<u64> {
        self.events.or(self.rate.is_none().then_some(EVENTS))
    }

    fn target(&self, to: &Destination, stop: Arc<AtomicBool>) -> Result<Box<dyn Target>> {
        Ok(match to {
            Destination::Stdout => Box::new(Lines::stdout()),
            Destination::File(path) => Box::new(Lines::file(path)?),
            Destination::Topic(address) => {
                let settings = KafkaSettings {
                    address: address.clone(),
                    partitions: self.kafka.partitions,
                    compression: self.kafka.compression.unwrap_or(Compression::Lz4),
                    headers: !self.kafka.no_headers,
                    properties: self.kafka.properties.clone(),
                };
                Box::new(KafkaTarget::open(settings, stop)?)
            }
        })
    }
}

/// The first SIGINT or SIGTERM ends generating; the second ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let second =
            signal_hook::flag::register_conditional_shutdown(signal, STOPPED_NOW, stop.clone());
        let first = signal_hook::flag::register(signal, stop.clone());
        second.and(first).map_err(|e| Error::external("signals cannot be handled").caused_by(e))?;
    }
    Ok(stop)
}

/// How many events there are: a bar or a line on a terminal, else a log line every ten seconds.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn start(events: Option<u64>) -> Self {
        let bar = || events.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        Self { bar: std::io::stderr().is_terminal().then(bar) }
    }

    fn shown(&self) -> impl FnMut(u64) {
        let bar = self.bar.clone();
        let mut said = Instant::now();
        move |generated| match &bar {
            Some(bar) => bar.set_position(generated),
            None if said.elapsed() >= LOG_INTERVAL => {
                said = Instant::now();
                tracing::info!(generated, "generating");
            }
            None => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn print(report: &Report, output: OutputFormat) {
    if output == OutputFormat::Json {
        match serde_json::to_string(report) {
            Ok(json) => eprintln!("{json}"),
            Err(error) => eprintln!("the summary cannot be written as JSON: {error}"),
        }
        return;
    }
    eprintln!(
        "{} events in {:.2} s ({}/s), {} bytes",
        grouped(report.generated),
        report.seconds,
        grouped(report.rate as u64),
        grouped(report.bytes),
    );
    eprintln!(
        "  {} malformed, {} late, {} duplicates, {} of unknown type",
        grouped(report.malformed),
        grouped(report.late),
        grouped(report.duplicates),
        grouped(report.unknown_type),
    );
    let (acknowledged, failed) = (grouped(report.acknowledged), grouped(report.failed));
    eprintln!("  {acknowledged} acknowledged, {failed} failed");
}
