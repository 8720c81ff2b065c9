//! Secrets that are looked for in everything a job says, serves and keeps.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::job_folder::Running;

/// What is nowhere valid and must be nowhere seen.
pub const CANARY: &str = "canary-3f9a1c";

/// A job with a secret in it, in a folder of its own.
pub struct Secretive<'a> {
    /// Where it is.
    pub folder: &'a Path,
    name: &'a str,
    variables: &'a [(&'static str, String)],
}

impl Secretive<'_> {
    /// `tidemill` in its folder, with every log there is.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).current_dir(self.folder).stdin(Stdio::null());
        command.env_remove("FAILPOINTS").env_remove("KAFKA_BROKERS").env_remove("REDIS_URL");
        command.env("TIDEMILL_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// What a command says, on both channels, however it ends.
    fn said(&self, arguments: &[&str]) -> Vec<u8> {
        let ended = self.command(arguments).output().unwrap();
        [ended.stdout, ended.stderr].concat()
    }

    /// Everything that is said of the job without running it.
    fn described(&self) -> Vec<u8> {
        let explain = ["explain", "job.sql", "--format"];
        let mut said = self.said(&[&explain[..], &["text"]].concat());
        said.extend(self.said(&[&explain[..], &["mermaid"]].concat()));
        said.extend(self.said(&["check", "job.sql"]));
        said.extend(self.said(&["lag", "job.sql"]));
        said
    }

    /// Runs it until `ready` returns, and returns all that was served.
    pub fn served(&self, ready: impl FnOnce(&mut Running)) -> Vec<u8> {
        let command = self.command(&["run", "job.sql", "--http", "127.0.0.1:0"]);
        let mut running = Running::start(command, self.folder.join("log"));
        ready(&mut running);
        let served = ["/metrics", "/status"].map(|path| get(&running, path)).concat();
        running.signal("INT");
        assert_eq!(running.wait().0, Some(0), "{}: {}", self.name, running.stderr());
        served
    }

    /// How a run of it that fails ends, and what it says.
    pub fn failed(&self) -> (Option<i32>, String) {
        let command = self.command(&["run", "job.sql", "-o", "json"]);
        Running::start(command, self.folder.join("log")).wait()
    }
}

/// What a job answers that serves HTTP.
pub fn get(running: &Running, path: &str) -> Vec<u8> {
    let log = running.stderr();
    let address = log.split_once("on http://").unwrap().1.split_whitespace().next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    answer
}

/// Every file below a folder but the job itself and the file that holds the secret.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let given = path.ends_with("job.sql") || path.ends_with("secret");
        match path.is_dir() {
            true => files(&path, found),
            false if !given => found.push(path),
            false => {}
        }
    }
}

/// A secret, and what the wire makes of it.
pub fn guises(user: &str, secret: &str) -> Vec<Vec<u8>> {
    let pairs = [format!("{user}:{secret}"), format!("\0{user}\0{secret}")];
    let mut guises = vec![secret.as_bytes().to_vec(), hex(secret).into_bytes()];
    guises.extend(pairs.iter().map(|pair| base64(pair.as_bytes()).into_bytes()));
    guises
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as headers and logs may carry them.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | u32::from(*three.get(n).unwrap_or(&0)));
        (0..=three.len())
            .map(|n| char::from(DIGITS[(bits >> (18 - 6 * n)) as usize & 63]))
            .collect()
    };
    let text: String = bytes.chunks(3).map(|three: &[u8]| -> String { digits(three) }).collect();
    let padded = text.len().next_multiple_of(4);
    format!("{text:=<padded$}")
}

/// That a text has none of these in it.
pub fn assert_nowhere(text: &[u8], guises: &[Vec<u8>], context: &str) {
    for guise in guises {
        let at = text.windows(guise.len()).position(|window| window == guise);
        if let Some(at) = at {
            let around = &text[at.saturating_sub(200)..text.len().min(at + 100)];
            panic!("{context}: a secret is in it: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Lays a job out in a folder and hands it over; then nothing that is said of it and nothing in the folder
/// may hold its secret.
pub fn with_job<T>(
    name: &str,
    sql: &str,
    variables: &[(&'static str, String)],
    (user, secret): (&str, &str),
    run: impl FnOnce(&Secretive<'_>) -> T,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.sql"), sql).unwrap();
    fs::write(folder.path().join("secret"), secret).unwrap();
    let job = Secretive { folder: folder.path(), name, variables };
    let result = run(&job);
    let guises = guises(user, secret);
    assert_nowhere(&job.described(), &guises, &format!("{name}: explain, check and lag"));
    let mut written = Vec::new();
    files(folder.path(), &mut written);
    for file in written {
        let context = format!("{name}: {}", file.display());
        assert_nowhere(&fs::read(&file).unwrap(), &guises, &context);
    }
    result
}

#[test]
fn base64_is_what_others_make_of_it() {
    let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
    known.iter().for_each(|(text, encoded)| assert_eq!(base64(text.as_bytes()), *encoded));
}
