//! What `SET` says in a job file, as settings of the job.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tidemill_core::table::{parse_bytes, parse_duration};
use tidemill_core::{Error, Result};
use tidemill_kafka::dead_letter::HeaderNames;
use tidemill_runtime::{CheckpointSettings, JobSettings};

use crate::DeadLetters;

/// From the start of one checkpoint to the next, if nothing else is said.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// Settings of the job in `file`; a job that says no name has that of its file.
pub(crate) fn from_set(set: &BTreeMap<String, String>, file: &Path) -> Result<JobSettings> {
    let get = |key: &str| set.get(key).map(String::as_str);
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = get("pipeline.name").map(str::to_owned).or_else(stem);
    let mut settings = JobSettings::named(name.unwrap_or_else(|| "job".to_owned()));
    if let Some(text) = get("parallelism.default") {
        settings.shards = text.parse().map_err(|_| bad(text, "parallelism.default", "a number"))?;
    }
    if let Some(text) = get("memory.budget") {
        let bytes = parse_bytes(text).ok_or_else(|| bad(text, "memory.budget", "a size"))?;
        settings.memory_budget = Some(bytes);
    }
    let interval = checkpoint_interval(set)?;
    settings.checkpoints =
        get("execution.checkpointing.dir").map(|url| CheckpointSettings::new(url, interval));
    Ok(settings)
}

/// Where the job's dead letters go, where it says so.
pub(crate) fn dead_letters(set: &BTreeMap<String, String>) -> Result<Option<DeadLetters>> {
    const HEADERS: &str = "dead-letters.headers";
    const GUARANTEE: &str = "dead-letters.delivery-guarantee";
    let get = |key: &str| set.get(key).map(String::as_str);
    let Some(url) = get("dead-letters") else {
        return match [HEADERS, GUARANTEE].into_iter().find(|key| set.contains_key(*key)) {
            Some(key) => {
                let message = format!("'{key}' needs 'dead-letters': SET where they go, too");
                Err(Error::option(key, message))
            }
            None => Ok(None),
        };
    };
    let mut place = DeadLetters::at(url);
    if let Some(names) = get(HEADERS) {
        place = place.headers(HeaderNames::parse(names)?);
    }
    match get(GUARANTEE) {
        None | Some("exactly-once") => {}
        Some("at-least-once") => place = place.at_least_once(),
        Some(text) => return Err(bad(text, GUARANTEE, "'exactly-once' or 'at-least-once'")),
    }
    // Says now what is wrong with it.
    place.sink()?;
    Ok(Some(place))
}

/// From the start of one checkpoint to the next.
pub(crate) fn checkpoint_interval(set: &BTreeMap<String, String>) -> Result<Duration> {
    const KEY: &str = "execution.checkpointing.interval";
    set.get(KEY).map_or(Ok(CHECKPOINT_INTERVAL), |text| {
        parse_duration(text).ok_or_else(|| bad(text, KEY, "a duration"))
    })
}

fn bad(text: &str, key: &str, wanted: &str) -> Error {
    Error::option(key, format!("'{key}' = '{text}' is not {wanted}"))
}
