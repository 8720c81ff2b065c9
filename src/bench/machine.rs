//! Where figures were measured: the machine, and the versions that matter.

use std::fs;

use datafusion_common::config::ParquetOptions;
use serde::{Deserialize, Serialize};

/// A machine, and what runs on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Runnable threads of the whole machine over the last minute, when measuring began.
    pub load: Option<f64>,
    /// Versions.
    pub versions: Versions,
    /// Whether the program was built for speed.
    pub optimized: bool,
}

/// Versions of the engine and of what it is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub tidemill: String,
    /// Arrow.
    pub arrow: String,
    /// DataFusion.
    pub datafusion: String,
}

/// This machine.
pub fn this() -> Machine {
    let read = |path| fs::read_to_string(path).ok();
    let line = |path, name: &str| -> Option<String> {
        let text = read(path)?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kib = line("/proc/meminfo", "MemTotal");
    let kib = kib.and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
    let load = read("/proc/loadavg");
    Machine {
        cpu: line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: kib.map(|kib| kib * 1024),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        kernel: read("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned()),
        load: load.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()),
        versions: versions(),
        optimized: !cfg!(debug_assertions),
    }
}

fn versions() -> Versions {
    // The one place where DataFusion's smaller crates say which version they are.
    let datafusion = ParquetOptions::default().created_by;
    Versions {
        tidemill: env!("CARGO_PKG_VERSION").to_owned(),
        arrow: arrow::ARROW_VERSION.to_owned(),
        datafusion: datafusion.rsplit(' ').next().unwrap_or_default().to_owned(),
    }
}
