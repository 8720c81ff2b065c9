//! What Redis's answer to a write means for it.
//!
//! Invariant: a write is done, refused, or to be sent again; or the job ends. Nothing is dropped.

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tidemill_core::Error;

use super::writes::Write;
use crate::client::Failure;
use crate::client::error::{describe, from_redis};

/// What Redis says of a value that it will never take, behind `ERR `.
const REFUSALS: [&str; 8] = [
    "value is not an integer or out of range",
    "value is not a valid float",
    "increment or decrement would overflow",
    "increment would produce NaN or Infinity",
    "resulting score is not a number",
    "string exceeds maximum allowed size",
    "Protocol error: invalid bulk length",
    "Protocol error: too big bulk count",
];

/// What becomes of a write.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Redis has it.
    Done,
    /// Redis will never take it.
    Refused(String),
    /// It may be sent again; why it failed, and whether its key is on another node.
    Again(String, Failure),
    /// The job ends.
    Fatal(Error),
}

/// Whether Redis refuses this one write, for good.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    if Failure::of(error) == Failure::WrongType {
        return true;
    }
    let is_general = error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError);
    let detail = error.detail().unwrap_or_default();
    is_general && REFUSALS.iter().any(|refusal| detail.starts_with(refusal))
}

/// The verdict on a write after one of its commands failed; `place` says where it was to go.
pub(crate) fn judge(
    error: &RedisError,
    write: Write<'_>,
    place: &str,
    is_cluster: bool,
) -> Verdict {
    let what = || format!("{place}, key '{}'", String::from_utf8_lossy(write.key()));
    if is_refusal(error) {
        return Verdict::Refused(format!("{}: {}", what(), describe(error)));
    }
    match Failure::of(error) {
        Failure::Moved if !is_cluster => Verdict::Fatal(no_cluster(place)),
        failure @ (Failure::Transient | Failure::OutOfMemory | Failure::Moved) => {
            Verdict::Again(describe(error), failure)
        }
        _ => Verdict::Fatal(from_redis(error, what())),
    }
}

/// The server is a node of a cluster, and nobody said so.
pub(crate) fn no_cluster(place: &str) -> Error {
    let message = format!("{place}: the server is a node of a cluster: write 'cluster' = 'true'");
    Error::option("cluster", message)
}

/// An answer, with what the server says against it as an error.
pub(crate) fn checked(answer: Value) -> RedisResult<Value> {
    answer.extract_error()
}
