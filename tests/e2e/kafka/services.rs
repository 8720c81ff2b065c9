//! A broker of a test's own, which it may take away: `scripts/services` in a folder of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::broker::Broker;

/// A broker that ends with the test.
pub struct OwnBroker {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl OwnBroker {
    /// Brings one up.
    pub fn up() -> Self {
        let mut own = Self { folder: tempfile::tempdir().unwrap(), variables: BTreeMap::new() };
        own.services(&["up", "kafka"]);
        let lines = own.services(&["env"]);
        let pairs = lines.lines().filter_map(|line| line.split_once('='));
        own.variables = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        own
    }

    /// What `scripts/services env` says of it.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("scripts/services says no {name}"))
    }

    /// The broker, in plaintext.
    pub fn broker(&self) -> Broker {
        Broker::at(self.variable("KAFKA_BROKERS"))
    }

    /// Takes it away; what it holds stays.
    pub fn stop(&self) {
        self.services(&["stop", "kafka"]);
    }

    /// Brings it back; it answers when this returns.
    pub fn start(&self) {
        self.services(&["start", "kafka"]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let mut command = Command::new(script);
        command.args(arguments).arg("--folder").arg(self.folder.path().join("services"));
        command.stdin(Stdio::null());
        // It is a set of its own, wherever the other tests' is.
        command.env_remove("TIDEMILL_SERVICES_PORT_BASE");
        command
    }

    fn services(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "scripts/services {arguments:?}: {said}");
        String::from_utf8(ended.stdout).unwrap()
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // It holds nothing that anybody needs, and its folder goes in any case.
        let _ = self.command(&["down"]).output();
    }
}
