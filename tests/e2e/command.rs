//! Runs the binary: what it was told, what it said, and how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The results of `-o json`, in the order in which they came.
    pub fn results(&self) -> Vec<Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The summary of `-o json`.
    pub fn summary(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", self.stderr))
    }

    /// The sums of one source's rows, which must add up: in, counted, late, dead letters, filtered.
    pub fn sums(&self) -> [u64; 5] {
        let ledger = &self.summary()["ledgers"][0];
        let number =
            |name: &str| ledger[name].as_u64().unwrap_or_else(|| panic!("{name}: {ledger}"));
        let sums = ["records_in", "counted", "late", "dead_letters", "filtered"].map(number);
        assert_eq!(sums[0] + number("expanded"), sums[1..].iter().sum::<u64>(), "{ledger}");
        sums
    }

    /// The same, having ended as it should.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// The binary with arguments, in the root of the repository.
pub fn command<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env_remove("TIDEMILL_LOG").env_remove("FAILPOINTS");
    command
}

/// Runs the binary to its end.
pub fn tidemill<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    finish(&mut command(arguments))
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Writes a file of a test and returns its path.
pub fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A job file over one file, with checkpoints or without; the options of its source table vary.
pub fn run_job(folder: &Path, sql: &str, flags: &[&str]) -> Ended {
    let job = file(folder, "job.sql", sql.replace("{folder}", &folder.display().to_string()));
    let mut arguments = vec!["run".to_owned(), job.display().to_string()];
    arguments.extend(["-o".to_owned(), "json".to_owned()]);
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    tidemill(arguments)
}
