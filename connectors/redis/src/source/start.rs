//! Where the reader of a stream begins and ends.

use redis::{RedisResult, Value};
use tidemill_core::source::Offset;
use tidemill_core::{Error, Result};

use super::config::{ReadMode, SourceConfig, StartAt, StopAt, parse_id};
use super::gap::{self, Look, Place, Policy};
use super::id::EntryId;
use super::info::{self, GroupInfo, StreamInfo};
use super::offset::Position;
use crate::client::Connection;
use crate::streams::Stream;

/// What Redis tells of a stream before it is read.
pub(crate) struct Facts {
    pub info: StreamInfo,
    pub group: Option<GroupInfo>,
    /// Of the time that the source ends at: whether there is an entry that is not older.
    pub goes_on: bool,
}

impl Facts {
    /// Asks Redis.
    ///
    /// # Errors
    /// What Redis answers instead, or no answer.
    pub fn ask(
        connection: &mut Connection,
        stream: &Stream,
        group: &str,
        stop: Option<&StopAt>,
    ) -> RedisResult<Self> {
        let key = stream.key.as_bytes();
        let mut commands =
            vec![(key, info::ask_stream(&stream.key)), (key, info::ask_groups(&stream.key))];
        if let Some(StopAt::Timestamp(millis)) = stop {
            let mut command = redis::cmd("XRANGE");
            command.arg(&stream.key).arg(millis.to_string()).arg("+").arg("COUNT").arg(1);
            commands.push((key, command));
        }
        let mut answers = connection.pipeline(&commands)?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        Ok(Self {
            info: info::stream(next())?,
            group: info::group(next(), group)?,
            goes_on: matches!(next()?, Value::Array(entries) if !entries.is_empty()),
        })
    }
}

/// Where a reader begins and ends: where the checkpoint says, else where the source is told to.
///
/// # Errors
/// Entries that are gone, or no end to be had.
pub(crate) fn position(
    config: &SourceConfig,
    stream: &Stream,
    facts: &Facts,
    from: Option<&Offset>,
    discovered: bool,
) -> Result<Position> {
    let restored = from.map(|offset| Position::parse(&offset.0)).transpose()?;
    let place = match &restored {
        Some(restored) => restored.place(),
        None if discovered => earliest(&facts.info),
        None => start(config, stream, facts)?,
    };
    let place = match config.mode {
        ReadMode::Positions => {
            let look = Look::first(place);
            let verdict = gap::judge(look, &facts.info);
            let policy = policy(config, &stream.key);
            // How many entries a stream had that is not there any more, nobody knows by now.
            policy.go_on(verdict, look, place.count.unwrap_or(0), &facts.info)?
        }
        // What comes next is the group's to know.
        ReadMode::Group { .. } => place,
    };
    let stop = match (&config.stop, restored.and_then(|restored| restored.stop)) {
        (None, _) => None,
        (Some(_), Some(stop)) => Some(stop),
        (Some(stop), None) => Some(end(stop, stream, facts)?),
    };
    let claimed = restored.map_or(EntryId::ZERO, |restored| restored.claimed);
    let Place { at, count, sure } = place;
    Ok(Position { at, count, sure, stop, claimed })
}

/// What is to be done where entries of a stream are gone.
pub(crate) fn policy<'a>(config: &'a SourceConfig, stream: &'a str) -> Policy<'a> {
    Policy { stream, server: config.client.place(), policy: config.out_of_range }
}

fn earliest(info: &StreamInfo) -> Place {
    Place::sure(EntryId::ZERO, Some(info.added.saturating_sub(info.length)))
}

fn start(config: &SourceConfig, stream: &Stream, facts: &Facts) -> Result<Place> {
    let info = &facts.info;
    let behind = |at: EntryId| Place::sure(at, gap::count(at, info).filter(|_| at <= info.last));
    Ok(match &config.start {
        StartAt::Earliest => earliest(info),
        StartAt::Latest => behind(info.last),
        StartAt::Timestamp(millis) => behind(EntryId::before_millis(*millis)),
        StartAt::Offsets(offsets) => match offsets.get(&stream.partition) {
            Some(id) => behind(parse_id("scan.startup.specific-offsets", id)?.previous()),
            None => of_group(facts),
        },
        StartAt::Group => of_group(facts),
    })
}

fn of_group(facts: &Facts) -> Place {
    match &facts.group {
        Some(group) => Place::sure(group.delivered, group.read),
        None => earliest(&facts.info),
    }
}

fn end(stop: &StopAt, stream: &Stream, facts: &Facts) -> Result<EntryId> {
    let missing = |option: &str, what: &str| {
        Error::option(option, format!("the end of stream '{}' is not known: {what}", stream.key))
    };
    match stop {
        StopAt::Latest => Ok(facts.info.last),
        StopAt::Timestamp(millis) if facts.goes_on => Ok(EntryId::before_millis(*millis)),
        StopAt::Timestamp(_) => Ok(facts.info.last),
        StopAt::Group => match &facts.group {
            Some(group) => Ok(group.delivered),
            None => Err(missing("scan.bounded.mode", "the consumer group is not there")),
        },
        StopAt::Offsets(offsets) => match offsets.get(&stream.partition) {
            Some(id) => Ok(parse_id("scan.bounded.specific-offsets", id)?.previous()),
            None => {
                let option = "scan.bounded.specific-offsets";
                Err(missing(option, &format!("'{option}' does not name its partition")))
            }
        },
    }
}
