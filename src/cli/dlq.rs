//! `tidemill dlq`: looks at dead letters in a topic or a folder, and sends their records again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::temporal_conversions::timestamp_us_to_datetime;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use regex::Regex;
use serde_json::{Value, json};
use tidemill_core::record::Header;
use tidemill_core::{Error, ErrorClass, EventTime, Result};
use tidemill_kafka::dead_letter::letter;

use super::output::{out, outln};
use super::summary::grouped;
use super::{Failure, OutputFormat};
use crate::dead_letters::{
    Destination, Filter, Found, LetterId, Replay, Replayed, Shelf, Since, masked,
};

/// Groups that a person is shown.
const GROUPS: usize = 50;

/// `tidemill dlq`.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
    /// Who the output is for.
    #[arg(short, long, default_value = "text", global = true)]
    pub output: OutputFormat,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Count letters by job, source, operator, class and reason, with their first and last time. Reasons that
    /// differ in numbers alone are one, with # for each number.
    Ls {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Show all that there is of one letter.
    Show {
        #[command(flatten)]
        place: Place,
        /// Which: PARTITION:OFFSET or FILE:LINE, as `ls` shows it.
        #[arg(value_name = "LETTER", value_parser = LetterId::parse)]
        letter: LetterId,
    },
    /// Send the records of letters again, byte for byte, to the topic that they came from.
    Replay(ReplayArgs),
}

/// Where letters are.
#[derive(Debug, Args)]
struct Place {
    /// `kafka://HOST:PORT,…/TOPIC` (`kafka:///TOPIC` for the brokers of KAFKA_BROKERS), or a folder.
    #[arg(value_name = "PLACE")]
    place: String,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only letters of this class: transient, permanent, business or fatal.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<ErrorClass>,
    /// Only letters that this operator rejected.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Only letters whose reason this regular expression finds.
    #[arg(long, value_name = "REGEX")]
    reason: Option<Regex>,
    /// Only letters from this time on (UTC), or so far back: 2h.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    /// Send to this topic, or append payloads to this file, one a line [default: each to the topic that it
    /// came from].
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Leave records alone that were replayed so often and failed again.
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_replays: u32,
    /// The consumer group that remembers what was replayed [default: tidemill-dlq-replay].
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Where the group remembers nothing, send letters older than 7 days too: brokers may have forgotten that
    /// they were replayed.
    #[arg(long)]
    from_start: bool,
    /// Send nothing; say what would be sent.
    #[arg(long)]
    dry_run: bool,
}

fn class(text: &str) -> Result<ErrorClass, String> {
    letter::class(text).ok_or_else(|| "write transient, permanent, business or fatal".to_owned())
}

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Self {
        let FilterArgs { class, operator, reason, since } = args;
        let (operator, reason) = (operator.clone(), reason.clone());
        Self { class: *class, operator, reason, since: *since }
    }
}

pub fn run(args: &DlqArgs) -> Result<(), Failure> {
    let output = args.output;
    match &args.command {
        DlqCommand::Ls { place, filter } => Ok(list(&place.place, &filter.into(), output)?),
        DlqCommand::Show { place, letter } => Ok(show(&place.place, letter, output)?),
        DlqCommand::Replay(args) => Ok(replay(args, output)?),
    }
}

/// What letters are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    job: String,
    source: String,
    operator: String,
    class: &'static str,
    reason: String,
}

/// Letters of one kind.
#[derive(Debug)]
struct Group {
    letters: u64,
    first: EventTime,
    last: EventTime,
    /// One of them.
    example: LetterId,
}

fn list(place: &str, filter: &Filter, output: OutputFormat) -> Result<()> {
    let shelf = Shelf::open(place, None)?;
    let mut groups: BTreeMap<Kind, Group> = BTreeMap::new();
    for section in shelf.sections() {
        shelf.read(&section, 0, &mut |found| {
            if filter.accepts(&found.letter) {
                count(found, &mut groups);
            }
            Ok(true)
        })?;
    }
    let mut groups: Vec<(Kind, Group)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.letters));
    match output {
        OutputFormat::Json => {
            groups.iter().for_each(|(kind, group)| outln!("{}", line(kind, group)))
        }
        OutputFormat::Text => outln!("{}", table(&groups)),
    }
    Ok(())
}

fn count(found: Found, groups: &mut BTreeMap<Kind, Group>) {
    let Found { id, letter, .. } = found;
    let at = letter.failed_at;
    let kind = Kind {
        job: letter.job,
        source: letter.source,
        operator: letter.operator,
        class: letter.letter.class.name(),
        reason: masked(&letter.letter.reason),
    };
    let new = Group { letters: 0, first: at, last: at, example: id };
    let group = groups.entry(kind).or_insert(new);
    group.letters += 1;
    group.first = group.first.min(at);
    group.last = group.last.max(at);
}

fn line(kind: &Kind, group: &Group) -> Value {
    json!({
        "job": kind.job, "source": kind.source, "operator": kind.operator, "class": kind.class,
        "reason": kind.reason, "letters": group.letters, "first_failed_at": time(group.first),
        "last_failed_at": time(group.last), "example": group.example.to_string(),
    })
}

fn table(groups: &[(Kind, Group)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let names =
        ["letters", "job", "source", "operator", "class", "first", "last", "for example", "reason"];
    table.set_header(names);
    for (kind, group) in groups.iter().take(GROUPS) {
        table.add_row([
            grouped(group.letters),
            kind.job.clone(),
            kind.source.clone(),
            kind.operator.clone(),
            kind.class.to_owned(),
            seconds(group.first),
            seconds(group.last),
            group.example.to_string(),
            kind.reason.clone(),
        ]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let letters: u64 = groups.iter().map(|(_, group)| group.letters).sum();
    let mut text = format!("{table}\n\n{} letters", grouped(letters));
    if groups.len() > GROUPS {
        let more = groups.len() - GROUPS;
        // Writing to a String cannot fail.
        let _ = write!(text, " ({more} kinds more than are shown: see them with -o json)");
    }
    text
}

/// A time as people read it, with all its digits.
fn time(at: EventTime) -> String {
    timestamp_us_to_datetime(at).map_or_else(|| at.to_string(), |at| at.to_string())
}

fn seconds(at: EventTime) -> String {
    time(at - at.rem_euclid(1_000_000))
}

fn show(place: &str, wanted: &LetterId, output: OutputFormat) -> Result<()> {
    let shelf = Shelf::open(place, None)?;
    let mut letter = None;
    let is_there = shelf.sections().contains(&wanted.section);
    if is_there {
        shelf.read(&wanted.section, wanted.position, &mut |found| {
            letter = (found.id == *wanted).then_some(found);
            Ok(false)
        })?;
    }
    let found = letter.ok_or_else(|| {
        Error::configuration(format!(
            "there is no letter {wanted} in {place}: see `tidemill dlq ls`"
        ))
    })?;
    match output {
        OutputFormat::Json => outln!("{}", whole(&found)),
        OutputFormat::Text => out!("{}", described(&found)),
    }
    Ok(())
}

/// Bytes as a machine reads them: as text where they are text.
fn bytes(name: &str, bytes: Option<&[u8]>) -> (String, Value) {
    match bytes.map(std::str::from_utf8) {
        None => (name.to_owned(), Value::Null),
        Some(Ok(text)) => (name.to_owned(), text.into()),
        Some(Err(_)) => (format!("{name}_hex"), hex(bytes.unwrap_or_default()).into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn whole(found: &Found) -> Value {
    let Found { id, letter, omitted_bytes } = found;
    let inner = &letter.letter;
    let record = &inner.record;
    let header = |header: &Header| {
        let value = bytes("value", header.value.as_deref());
        Value::Object(
            [("name".to_owned(), header.name.clone().into()), value].into_iter().collect(),
        )
    };
    let mut json = json!({
        "letter": id.to_string(), "job": letter.job, "source": letter.source,
        "split": inner.split.as_str(), "position": record.position, "operator": letter.operator,
        "class": inner.class.name(), "reason": inner.reason, "attempts": inner.attempts,
        "first_failed_at": time(inner.first_failed_at.unwrap_or(letter.failed_at)),
        "failed_at": time(letter.failed_at), "epoch": letter.epoch, "replays": letter.replays(),
        "timestamp": record.timestamp.map(time), "omitted_bytes": omitted_bytes,
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    });
    if let Value::Object(fields) = &mut json {
        fields.extend([
            bytes("key", record.key.as_deref()),
            bytes("payload", record.payload.as_deref()),
        ]);
    }
    json
}

fn described(found: &Found) -> String {
    let Found { id, letter, omitted_bytes } = found;
    let inner = &letter.letter;
    let record = &inner.record;
    let first = inner.first_failed_at.unwrap_or(letter.failed_at);
    let mut text = String::new();
    let mut say = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<15} {value}");
    };
    say("letter", &id.to_string());
    say("reason", &inner.reason);
    say("class", inner.class.name());
    say("job", &letter.job);
    say("source", &letter.source);
    say("operator", &letter.operator);
    say("split", inner.split.as_str());
    say("position", &record.position);
    say("epoch", &letter.epoch.to_string());
    say("attempts", &inner.attempts.to_string());
    say("first failed at", &time(first));
    say("failed at", &time(letter.failed_at));
    say("replays", &letter.replays().to_string());
    if let Some(timestamp) = record.timestamp {
        say("timestamp", &time(timestamp));
    }
    say("key", &shown(record.key.as_deref()));
    for Header { name, value } in &record.headers {
        say("header", &format!("{name} = {}", shown(value.as_deref())));
    }
    if let Some(bytes) = omitted_bytes {
        say("payload", &format!("{bytes} bytes, too many for the topic: read it at its position"));
        return text;
    }
    let payload = record.payload.as_deref();
    say("payload", &format!("{} bytes", payload.map_or(0, <[u8]>::len)));
    text + "\n" + &shown(payload) + "\n"
}

/// Bytes as a person reads them.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_plain) => text.to_owned(),
        _ => format!("0x{}", hex(bytes)),
    }
}

fn replay(args: &ReplayArgs, output: OutputFormat) -> Result<()> {
    let shelf = Shelf::open(&args.place.place, args.group.as_deref())?;
    let to = args.to.as_deref();
    let mut destination = match &shelf {
        _ if args.dry_run => Destination::pretended(to)?,
        Shelf::Topic(_, address) => Destination::open(to, Some(address))?,
        Shelf::Folder(_) => Destination::open(to, None)?,
    };
    let filter = (&args.filter).into();
    let &ReplayArgs { max_replays, dry_run, from_start, .. } = args;
    let replay = Replay { filter, max_replays, dry_run, from_start };
    let replayed = replay.run(&shelf, &mut destination)?;
    match output {
        OutputFormat::Json => outln!("{}", json!(replayed)),
        OutputFormat::Text => out!("{}", summary(&replayed, args.dry_run)),
    }
    if replayed.refused > 0 {
        return Err(Error::external(format!(
            "{} records were refused, and are not marked as replayed",
            replayed.refused
        )));
    }
    Ok(())
}

fn summary(replayed: &Replayed, dry_run: bool) -> String {
    let Replayed { sent, replayed_before, filtered, at_maximum, without_topic, .. } = replayed;
    let mut text = String::new();
    let mut say = |count: u64, what: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>12} {what}", grouped(count));
    };
    say(*sent, if dry_run { "would be sent" } else { "sent, and acknowledged" });
    let rest = [
        (replayed.refused, "refused"),
        (*replayed_before, "replayed before"),
        (*filtered, "passed over by the filter"),
        (*at_maximum, "replayed as often as --max-replays says, and failed again"),
        (*without_topic, "not from a topic: say where to with --to"),
        (replayed.without_payload, "without their payload, which was too large for the topic"),
        (replayed.left, "left: no more gaps can be remembered; replay what the filter passes over"),
    ];
    rest.into_iter().filter(|(count, _)| *count > 0).for_each(|(count, what)| say(count, what));
    text
}
