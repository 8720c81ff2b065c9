//! Which member of a group reads which stream.
//!
//! Every member says once a second that it is there. All members see the same list, and so agree on who is
//! to read what: partition *p* belongs to member *p* modulo their number. What a member reads it holds a
//! lease on; a new owner waits until the old one has given it back, or has said nothing for ten seconds.
//!
//! Invariant: of two members of a group at most one has a valid lease on a stream.

use std::time::{Duration, Instant};

use redis::{Cmd, RedisResult, Script, cmd};
use tidemill_redis::client::Connection;

/// How long a member that says nothing keeps what it has.
const LEASE: Duration = Duration::from_secs(10);

/// How much earlier it stops reading by itself: commands take their time.
const MARGIN: Duration = Duration::from_secs(3);

/// How often a member says that it is there.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Says that a member is there, and lists those that are. The server's clock counts.
const ATTEND: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, -1)
";

/// Makes a lease longer, if it is this member's.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
";

/// Gives a lease back, if it is this member's.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
";

/// One member of a group, in one topic.
pub(super) struct Attendance {
    pub member: String,
    members_key: String,
    topic: String,
    group: String,
}

impl Attendance {
    pub fn new(topic: &str, group: &str, member: &str) -> Self {
        Self {
            member: member.to_owned(),
            members_key: format!("{topic}:{group}:members"),
            topic: topic.to_owned(),
            group: group.to_owned(),
        }
    }

    fn lease_key(&self, partition: u32) -> String {
        format!("{}:{partition}:{}:lease", self.topic, self.group)
    }

    /// Says that the member is there. The partitions, out of `partitions`, that it is to read.
    pub fn attend(&self, connection: &mut Connection, partitions: u32) -> RedisResult<Vec<u32>> {
        let args = [self.member.clone(), millis(LEASE)];
        let members: Vec<String> = run(connection, ATTEND, &self.members_key, &args)?;
        Ok(share(&members, &self.member, partitions))
    }

    /// Says that it is not there any more.
    pub fn leave(&self, connection: &mut Connection) -> RedisResult<()> {
        let mut remove = cmd("ZREM");
        remove.arg(&self.members_key).arg(&self.member);
        connection.query(self.members_key.as_bytes(), &remove)
    }

    /// Takes the lease of a partition: until when it may be read, or `None` where another has it.
    pub fn take(
        &self,
        connection: &mut Connection,
        partition: u32,
    ) -> RedisResult<Option<Instant>> {
        let (key, begun) = (self.lease_key(partition), Instant::now());
        let mut set = cmd("SET");
        set.arg(&key).arg(&self.member).arg("NX").arg("PX").arg(millis(LEASE));
        let taken: Option<String> = connection.query(key.as_bytes(), &set)?;
        Ok(taken.map(|_| begun + LEASE - MARGIN))
    }

    /// Makes a lease longer: until when, or `None` where it is gone.
    pub fn renew(
        &self,
        connection: &mut Connection,
        partition: u32,
    ) -> RedisResult<Option<Instant>> {
        let begun = Instant::now();
        let args = [self.member.clone(), millis(LEASE)];
        let renewed: u32 = run(connection, RENEW, &self.lease_key(partition), &args)?;
        Ok((renewed == 1).then(|| begun + LEASE - MARGIN))
    }

    /// Gives a lease back.
    pub fn release(&self, connection: &mut Connection, partition: u32) -> RedisResult<()> {
        let args = [self.member.clone()];
        run::<u32>(connection, RELEASE, &self.lease_key(partition), &args).map(|_| ())
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn run<T: redis::FromRedisValue>(
    connection: &mut Connection,
    script: &str,
    key: &str,
    args: &[String],
) -> RedisResult<T> {
    let mut eval: Cmd = cmd("EVALSHA");
    eval.arg(Script::new(script).get_hash()).arg(1).arg(key).arg(args);
    match connection.query(key.as_bytes(), &eval) {
        Err(error) if error.code() == Some("NOSCRIPT") => {
            let mut eval = cmd("EVAL");
            eval.arg(script).arg(1).arg(key).arg(args);
            connection.query(key.as_bytes(), &eval)
        }
        result => result,
    }
}

/// The partitions of `member`, one of `members`.
fn share(members: &[String], member: &str, partitions: u32) -> Vec<u32> {
    let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
    members.sort_unstable();
    let Some(place) = members.iter().position(|other| *other == member) else { return Vec::new() };
    (0..partitions).filter(|partition| *partition as usize % members.len() == place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_who_see_the_same_list_share_all_and_nothing_twice() {
        let members = ["c", "a", "b"].map(str::to_owned);
        let mut all: Vec<u32> =
            members.iter().flat_map(|member| share(&members, member, 8)).collect();
        assert_eq!(share(&members, "a", 8), [0, 3, 6]);
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
        assert!(share(&members, "d", 8).is_empty());
    }
}
