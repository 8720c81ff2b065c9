//! Redis for tests: the shared one, and servers of a test's own, which it may end as it likes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Commands, Connection, RedisResult};
use tempfile::TempDir;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
}

impl Server {
    /// The one that all tests share.
    pub fn shared() -> Self {
        let url = std::env::var("REDIS_URL").unwrap_or_else(|_| {
            panic!("REDIS_URL is not set: run scripts/test, which brings up a Redis")
        });
        Self { url }
    }

    /// The one at this address.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// What the option `url` takes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same, to be asked as a user.
    pub fn as_user(&self, user: &str, password: &str) -> Self {
        Self::at(self.url.replacen("//", &format!("//{user}:{password}@"), 1))
    }

    /// A new connection, if it answers.
    pub fn try_connect(&self) -> RedisResult<Connection> {
        let connection =
            redis::Client::open(self.url.as_str())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap_or_else(|e| panic!("Redis at {} does not answer: {e}", self.url))
    }

    /// A connection, as soon as it answers and has loaded its data.
    pub fn wait(&self) -> Connection {
        let start = Instant::now();
        loop {
            let answered = self.try_connect().and_then(|mut connection| {
                redis::cmd("PING").exec(&mut connection).map(|()| connection)
            });
            match answered {
                Ok(connection) => return connection,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{}: {error}", self.url),
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Keys of a test's own.
    pub fn space(&self) -> Arc<Space> {
        let id = format!("{:08x}", RandomState::new().build_hasher().finish() as u32);
        Arc::new(Space { server: self.clone(), id })
    }
}

/// All keys with a certain number in their names. Deleted when dropped, unless the test fails: they are
/// evidence then.
#[derive(Debug)]
pub struct Space {
    server: Server,
    id: String,
}

impl Space {
    /// Where they are.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A name with the number in it.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.id)
    }

    /// The keys that match a pattern.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        keys(&mut self.server.connect(), pattern)
    }
}

fn keys(connection: &mut Connection, pattern: &str) -> Vec<String> {
    let options = redis::ScanOptions::default().with_pattern(pattern).with_count(10_000);
    let found = connection.scan_options::<String>(options).unwrap();
    let mut keys: Vec<String> = found.map(|key| key.unwrap()).collect();
    // A key may be met twice.
    keys.sort_unstable();
    keys.dedup();
    keys
}

impl Drop for Space {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        // A server of the test's own may have gone.
        let Ok(mut connection) = self.server.try_connect() else { return };
        for keys in keys(&mut connection, &format!("*{}*", self.id)).chunks(10_000) {
            let _: RedisResult<u64> = connection.unlink(keys);
        }
    }
}

/// A server that a test may end and start again.
pub struct OwnServer {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl OwnServer {
    /// One with these options; it answers.
    pub fn start_with(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut own = Self { folder, port, options, process: None };
        own.start();
        own
    }

    /// One whose data outlive it: what was acknowledged is on the disk.
    pub fn persistent() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// One that forgets everything with its end.
    pub fn forgetful() -> Self {
        Self::start_with(&["--appendonly", "no"])
    }

    /// Where it is, in messages.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server.
    pub fn server(&self) -> Server {
        Server::at(format!("redis://{}", self.place()))
    }

    /// Starts it again; it answers when this returns.
    pub fn start(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.options);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        self.process = Some(process);
        self.server().wait();
    }

    /// Kills it, as a crash of the machine's power supply does to a process.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            process.wait().unwrap();
        }
    }

    /// Ends it in an orderly way, as an administrator does.
    pub fn shut_down(&mut self) {
        // It hangs up instead of answering.
        let _ = redis::cmd("SHUTDOWN").exec(&mut self.server().connect());
        let ended = self.process.take().map(|mut process| process.wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "redis-server ended with {ended:?}");
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}
