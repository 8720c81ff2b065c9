//! How far a consumer group is behind: what `tidemill lag` shows, from a table's options alone. The job need
//! not run.

use std::time::{SystemTime, UNIX_EPOCH};

use tidemill_core::Result;
use tidemill_core::table::{GroupLag, SplitLag, TableSpec};

use crate::source::RedisStreamSource;

/// The lag of the source that `table` describes, in job `job`.
///
/// # Errors
/// What is wrong with the options, or a server that does not answer or refuses.
pub(crate) fn of_table(table: &TableSpec, job: &str) -> Result<GroupLag> {
    let source = RedisStreamSource::of_table(table)?;
    let session = source.session()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let splits = session.config.streams.iter().map(|stream| {
        let facts = session.facts(stream, job)?;
        let group = facts.group.as_ref();
        let next = match group {
            Some(group) => Some(session.next_behind(stream, group.delivered)?),
            None => None,
        };
        let age = |millis: u64| (now - millis as f64 / 1000.0).max(0.0);
        Ok(SplitLag {
            split: stream.key.clone(),
            start: facts.info.first.unwrap_or(facts.info.last).to_string(),
            committed: group.map(|group| group.delivered.to_string()),
            end: facts.info.last.to_string(),
            records: group.and_then(|group| group.lag),
            seconds: next.map(|next| next.map_or(0.0, |id| age(id.millis))),
            pending: group.map(|group| group.pending),
        })
    });
    let splits = splits.collect::<Result<_>>()?;
    Ok(GroupLag { group: session.config.group(job), splits })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use tidemill_core::table::ConnectorFactory as _;

    use crate::RedisStreamFactory;
    use crate::source::tests::server::{Stream, table};

    #[test]
    fn the_group_tells_what_it_has_not_read() {
        let stream = Stream::new();
        stream.add_numbers(1..=9);
        let fields = vec![Field::new("n", DataType::Int64, false)];
        let table = table(&stream, fields, &[], &[("group", "g")]);
        let lag = || RedisStreamFactory.lag(&table, "job").unwrap().unwrap();
        let before = lag();
        assert_eq!((before.group.as_str(), before.splits.len()), ("g", 1));
        let split = &before.splits[0];
        assert_eq!((split.start.as_str(), split.end.as_str()), ("1-0", "9-0"));
        assert_eq!((&split.committed, split.records, split.pending), (&None, None, None));
        stream.run::<()>("XGROUP CREATE KEY g 4-0 ENTRIESREAD 4");
        let _: redis::Value = stream.run("XREADGROUP GROUP g other COUNT 2 STREAMS KEY >");
        let split = lag().splits.remove(0);
        assert_eq!(split.committed.as_deref(), Some("6-0"));
        assert_eq!((split.records, split.pending), (Some(3), Some(2)));
        assert!(split.seconds.unwrap() > 1e9, "the entry is of 1970: {split:?}");
        let _: redis::Value = stream.run("XREADGROUP GROUP g other STREAMS KEY >");
        let split = lag().splits.remove(0);
        assert_eq!((split.records, split.seconds), (Some(0), Some(0.0)));
    }
}
