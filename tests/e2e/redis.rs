//! Delivery as a real Redis judges it: what a job leaves in hashes, counters and streams, read back by a
//! client that shares nothing with Tidemill, against an oracle over what Redis holds of the input.
//!
//! The server is that of `REDIS_URL`, which `scripts/test` brings up; every test has keys of its own.
//! What ends and comes back is a server of the test's own.

#[path = "redis/exactly_once.rs"]
mod exactly_once;
#[path = "redis/groups.rs"]
mod groups;
#[path = "redis/job.rs"]
mod job;
#[path = "redis/restarts.rs"]
mod restarts;
#[path = "redis/secrets.rs"]
mod secrets;
#[path = "redis/server.rs"]
pub mod server;
#[path = "redis/streams.rs"]
pub mod streams;
#[path = "redis/zombies.rs"]
mod zombies;
