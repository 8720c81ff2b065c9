//! Servers for tests: the shared one, where every test has keys of its own, and private ones.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use tempfile::TempDir;

/// Where the shared server is.
pub fn url() -> String {
    std::env::var("REDIS_URL")
        .expect("REDIS_URL is not set: run scripts/test, or scripts/services up")
}

/// A connection to the server at `url`.
pub fn connect(url: &str) -> redis::Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

/// What the server at `url` answers.
pub fn ask<T: FromRedisValue>(url: &str, command: &[&str]) -> T {
    command_of(command)
        .query(&mut connect(url))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn command_of(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command
}

/// A beginning for keys that nobody else uses.
pub fn prefix() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}

/// A port that nobody listens at, nor at the one 10 000 above it, where a node of a cluster listens to the
/// others.
fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let any = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = any.local_addr().unwrap().port();
        if port.checked_add(10_000).is_some_and(is_free) {
            return port;
        }
    }
}

/// A server of one's own.
pub struct Server {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A server with these options of its command line. It keeps nothing unless they say so.
    pub fn start(options: &[&str]) -> Self {
        let port = free_port();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server =
            Self { folder: tempfile::tempdir().unwrap(), port, options, process: None };
        server.up();
        server
    }

    /// Starts it again, with what it kept. It may be loading still.
    pub fn up(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.options);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let is_up = |line: &String| {
            line.contains("Ready to accept connections")
                || line.contains("Loading")
                || line.contains("Server initialized")
        };
        lines.by_ref().map_while(Result::ok).find(is_up).expect("redis-server starts");
        // Its log must be read, or it stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        self.process = Some(process);
    }

    /// More options, for the next time that it starts.
    pub fn options(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
    }

    /// Kills it, as a crash would.
    pub fn down(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it answers, when it has loaded its data.
    pub fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
        loop {
            match command_of(command).query(&mut connect(&self.url())) {
                Err(error) if error.kind() == loading => std::thread::yield_now(),
                answer => return answer.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.down();
        }
    }
}
