//! A connection: to one server, or to the nodes of a cluster, each of which has some of the keys.
//!
//! A cluster's keys are looked up in the table that its nodes tell; a command that comes to the wrong one
//! is sent on to where the answer says (`MOVED`, `ASK`), and the table is asked for again. Nothing else is
//! tried again here: what an error asks for is the caller's to decide.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use redis::cluster_routing::Slot;
use redis::{Cmd, ConnectionInfo, ConnectionLike, FromRedisValue, RedisError, RedisResult, Value};
use tidemill_core::{Error, Result};

use super::config::Config;
use super::error::{self, Failure};

/// How often a command is sent on before it is given up.
const REDIRECTIONS_MAX: usize = 5;

/// See the [module](self).
pub struct Connection(Inner);

enum Inner {
    Server(redis::Connection),
    Cluster(Cluster),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Server(_) => f.write_str("Connection to a server"),
            Inner::Cluster(cluster) => write!(f, "Connection to {:?}", cluster.config),
        }
    }
}

/// The nodes of a cluster.
struct Cluster {
    config: Config,
    /// Which node has which slots: host and port.
    slots: Vec<(RangeInclusive<u16>, Node)>,
    connections: HashMap<Node, redis::Connection>,
}

type Node = (String, u16);

impl Connection {
    pub(crate) fn open(config: &Config) -> RedisResult<Self> {
        if !config.is_cluster() {
            return Ok(Self(Inner::Server(config.connect_to(&config.nodes()[0])?)));
        }
        let mut cluster =
            Cluster { config: config.clone(), slots: Vec::new(), connections: HashMap::new() };
        cluster.learn()?;
        Ok(Self(Inner::Cluster(cluster)))
    }

    /// The server that has `key`. What it answers with `MOVED` is the caller's to handle:
    /// [`Connection::learn`].
    ///
    /// # Errors
    /// The node cannot be reached.
    pub fn node(&mut self, key: &[u8]) -> RedisResult<&mut redis::Connection> {
        match &mut self.0 {
            Inner::Server(connection) => Ok(connection),
            Inner::Cluster(cluster) => {
                let node = cluster.owner(key)?;
                cluster.connection(&node)
            }
        }
    }

    /// Asks a cluster again which node has which keys; of a server there is nothing to ask.
    ///
    /// # Errors
    /// No node can be reached.
    pub fn learn(&mut self) -> RedisResult<()> {
        match &mut self.0 {
            Inner::Server(_) => Ok(()),
            Inner::Cluster(cluster) => cluster.learn(),
        }
    }

    /// Sends `command` to the server that has `key`.
    ///
    /// # Errors
    /// What Redis answers, or no answer.
    pub fn query<T: FromRedisValue>(&mut self, key: &[u8], command: &Cmd) -> RedisResult<T> {
        let mut error = match send(self.node(key)?, command) {
            Ok(value) => return read(value),
            Err(error) => error,
        };
        for _ in 0..REDIRECTIONS_MAX {
            let Inner::Cluster(cluster) = &mut self.0 else { break };
            match cluster.send_on(&error, key, command) {
                Ok(value) => return read(value),
                Err(next) if Failure::of(&next) == Failure::Moved => error = next,
                Err(next) => return Err(next),
            }
        }
        Err(error)
    }

    /// Sends all `commands` before it reads the first answer; in a cluster, all of one node. Each has the
    /// key that it goes by, and its own answer. Of commands for one key the order is kept, as long as
    /// the key does not move from one node to another meanwhile.
    ///
    /// # Errors
    /// The connection is lost: of none of the commands is it known whether it was carried out.
    pub fn pipeline<K: AsRef<[u8]>>(
        &mut self,
        commands: &[(K, Cmd)],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        match &mut self.0 {
            Inner::Server(connection) => {
                let commands: Vec<&Cmd> = commands.iter().map(|(_, command)| command).collect();
                send_all(connection, &commands)
            }
            Inner::Cluster(cluster) => cluster.pipeline(commands),
        }
    }

    /// Carries out `transaction`, all of whose keys are on the server that has `key`.
    ///
    /// # Errors
    /// What Redis answers, or no answer: then it is not known whether it was carried out.
    pub fn transaction<T: FromRedisValue>(
        &mut self,
        key: &[u8],
        transaction: &redis::Pipeline,
    ) -> RedisResult<T> {
        let mut attempts = 0;
        loop {
            let result = transaction.query(self.node(key)?);
            match result {
                Err(error)
                    if Failure::of(&error) == Failure::Moved && attempts < REDIRECTIONS_MAX =>
                {
                    attempts += 1;
                    self.learn()?;
                }
                result => return result,
            }
        }
    }

    /// The version of the server that has `key`; `None` where it does not tell.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn version(&mut self, key: &[u8]) -> RedisResult<Option<Version>> {
        match send(self.node(key)?, &redis::cmd("HELLO")) {
            Ok(hello) => Ok(Version::of_hello(hello)),
            // Before 6.2 it wants an argument, before 6.0 there is none.
            Err(error) if error.code() == Some("ERR") => Ok(Some(Version(5, 0))),
            Err(error) if Failure::of(&error) == Failure::Authorisation => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a server that is older than `wanted`, which `what` needs. One that does not tell its
    /// version is taken at its word later.
    ///
    /// # Errors
    /// It is older, or does not answer.
    pub fn require(
        &mut self,
        config: &Config,
        key: &[u8],
        wanted: Version,
        what: &str,
    ) -> Result<()> {
        let version = self.version(key);
        match version.map_err(|error| error::from_redis(&error, config.unreachable()))? {
            Some(version) if version < wanted => {
                let place = config.place();
                let message = format!(
                    "Redis at {place} is {version}, and {what} needs {wanted}: upgrade the server"
                );
                Err(Error::option("url", message))
            }
            _ => Ok(()),
        }
    }
}

/// Version of a server: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    fn of_hello(hello: Value) -> Option<Self> {
        let fields: HashMap<String, Value> = redis::from_redis_value(hello).ok()?;
        let text: String = redis::from_redis_value(fields.get("version")?.clone()).ok()?;
        let mut parts = text.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

fn read<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    Ok(redis::from_redis_value(value)?)
}

/// Sends one command to one server. What the server refuses is an error.
///
/// # Errors
/// What Redis answers, or no answer.
pub(crate) fn send(connection: &mut redis::Connection, command: &Cmd) -> RedisResult<Value> {
    connection.req_command(command)?.extract_error()
}

/// Writes all commands, then reads all answers.
fn send_all(
    connection: &mut redis::Connection,
    commands: &[&Cmd],
) -> RedisResult<Vec<RedisResult<Value>>> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let mut packed = Vec::new();
    commands.iter().for_each(|command| command.write_packed_command(&mut packed));
    let answers = connection.req_packed_commands(&packed, 0, commands.len())?;
    Ok(answers.into_iter().map(Value::extract_error).collect())
}

impl Cluster {
    /// Asks which node has which slots: nodes that are known first, then those of `url`.
    fn learn(&mut self) -> RedisResult<()> {
        let known: Vec<Node> = self.connections.keys().cloned().collect();
        let known = known.into_iter().map(|(host, port)| self.config.node_at(&host, port));
        let all: Vec<ConnectionInfo> = known.chain(self.config.nodes().iter().cloned()).collect();
        let mut last = None;
        for node in all {
            let asked = self.config.connect_to(&node);
            let asked = asked.and_then(|mut connection| {
                redis::cmd("CLUSTER").arg("SLOTS").query::<Value>(&mut connection)
            });
            match asked {
                Ok(table) => {
                    self.slots = slots(table, &node);
                    let slots = &self.slots;
                    self.connections.retain(|node, connection| {
                        connection.is_open() && slots.iter().any(|(_, owner)| owner == node)
                    });
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    fn owner(&mut self, key: &[u8]) -> RedisResult<Node> {
        let slot = Slot::for_key(key);
        let holds = |range: &RangeInclusive<u16>| range.clone().any(|n| Slot::new(n) == Some(slot));
        let owner = self.slots.iter().find(|(range, _)| holds(range));
        owner.map(|(_, node)| node.clone()).ok_or_else(nobody)
    }

    fn connection(&mut self, node: &Node) -> RedisResult<&mut redis::Connection> {
        if self.connections.get(node).is_some_and(|connection| !connection.is_open()) {
            self.connections.remove(node);
        }
        match self.connections.entry(node.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let info = self.config.node_at(&node.0, node.1);
                Ok(entry.insert(self.config.connect_to(&info)?))
            }
        }
    }

    /// Sends `command`, which was refused with `error`, to where that says; any other error is returned.
    fn send_on(&mut self, error: &RedisError, key: &[u8], command: &Cmd) -> RedisResult<Value> {
        let target = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
        let target = target.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        let Some((host, port)) = target else { return Err(error.clone()) };
        if error.code() == Some("ASK") {
            let connection = self.connection(&(host, port))?;
            let asking = redis::cmd("ASKING");
            let mut answers = send_all(connection, &[&asking, command])?;
            return answers.pop().unwrap_or_else(|| Err(nobody()));
        }
        self.learn()?;
        let node = self.owner(key)?;
        send(self.connection(&node)?, command)
    }

    fn pipeline<K: AsRef<[u8]>>(
        &mut self,
        commands: &[(K, Cmd)],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut of_node: HashMap<Node, Vec<usize>> = HashMap::new();
        for (index, (key, _)) in commands.iter().enumerate() {
            of_node.entry(self.owner(key.as_ref())?).or_default().push(index);
        }
        let mut results: Vec<RedisResult<Value>> = Vec::new();
        results.resize_with(commands.len(), || Err(nobody()));
        for (node, indices) in of_node {
            let own: Vec<&Cmd> = indices.iter().map(|index| &commands[*index].1).collect();
            let answers = send_all(self.connection(&node)?, &own)?;
            for (index, answer) in indices.into_iter().zip(answers) {
                results[index] = answer;
            }
        }
        for (result, (key, command)) in results.iter_mut().zip(commands) {
            for _ in 0..REDIRECTIONS_MAX {
                let Err(error) = &*result else { break };
                if Failure::of(error) != Failure::Moved {
                    break;
                }
                *result = self.send_on(&error.clone(), key.as_ref(), command);
            }
        }
        Ok(results)
    }
}

fn nobody() -> RedisError {
    let text = "no node of the cluster has the key, or can be reached";
    RedisError::from((redis::ErrorKind::ClusterConnectionNotFound, text))
}

/// The answer to `CLUSTER SLOTS`. A node that does not know its own address is where it was asked.
fn slots(table: Value, asked: &ConnectionInfo) -> Vec<(RangeInclusive<u16>, Node)> {
    type Range = (u16, u16, Vec<Value>);
    let Value::Array(ranges) = table else { return Vec::new() };
    let asked_host = match asked.addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => {
            host.as_str()
        }
        redis::ConnectionAddr::Unix(_) => "",
        _ => "",
    };
    let node = |value: &Value| {
        let (host, port): (Option<String>, u16) = match value {
            Value::Array(parts) => (
                redis::from_redis_value(parts.first()?.clone()).ok()?,
                redis::from_redis_value(parts.get(1)?.clone()).ok()?,
            ),
            _ => return None,
        };
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| asked_host.to_owned());
        Some((host, port))
    };
    let range = |value: Value| {
        let Value::Array(mut parts) = value else { return None };
        let rest = parts.split_off(2.min(parts.len()));
        let mut bounds = parts.into_iter().map(|part| redis::from_redis_value::<u16>(part).ok());
        let (start, end, nodes): Range = (bounds.next()??, bounds.next()??, rest);
        Some((start..=end, node(nodes.first()?)?))
    };
    ranges.into_iter().filter_map(range).collect()
}
