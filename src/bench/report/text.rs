//! A report as tables for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::{EmitDelay, Report};
use crate::bench::machine::Machine;
use crate::bench::open_loop::OpenLoop;
use crate::bench::statistics::Spread;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} runs after {} to warm up, taking turns; median (least – greatest)\n",
            self.runs, self.warm_up
        )?;
        writeln!(f, "{}\n", self.figures())?;
        if !self.ratios.is_empty() {
            writeln!(f, "{}\n", self.comparison())?;
        }
        if !self.peers.is_empty() {
            writeln!(f, "Others, in processes of their own:\n{}\n", self.others())?;
        }
        if !self.open_loop.is_empty() {
            writeln!(f, "Emit delay while rows become due by a schedule, ms:")?;
            writeln!(f, "{}", self.delays())?;
        }
        for run in &self.open_loop {
            writeln!(f, "{run}")?;
        }
        Ok(())
    }
}

impl Report {
    /// What was measured, in one line.
    pub(in crate::bench) fn headline(&self) -> String {
        match &self.workload {
            None => {
                let rows = self.contenders.first().map_or(0, |figures| figures.rows);
                format!("{}; {rows} rows, results to blackholes", self.name)
            }
            Some(workload) => workload.to_string(),
        }
    }

    fn figures(&self) -> Table {
        let mut table = table([
            "contender",
            "threads",
            "M rows/s",
            "M rows/s per core",
            "CPU ns a row",
            "emit delay p50 / p99 / p99.9 ms",
            "peak MiB",
            "of it added",
        ]);
        for figures in &self.contenders {
            let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let mib = |bytes: Option<u64>| known(bytes.map(|bytes| (bytes >> 20).to_string()));
            table.add_row([
                figures.name.clone(),
                figures.threads.to_string(),
                millions(figures.rows_per_second),
                millions(figures.rows_per_second_per_core),
                known(figures.cpu_ns_per_row.map(|ns| format!("{ns:.1}"))),
                known(figures.emit_delay.map(in_milliseconds)),
                mib(figures.peak_bytes),
                mib(figures.added_bytes),
            ]);
        }
        table
    }

    fn comparison(&self) -> Table {
        let mut table = table(["", "threads", "speed", "of", "threads"]);
        for ratio in &self.ratios {
            table.add_row([
                ratio.of.clone(),
                ratio.threads.to_string(),
                format!("{} ×", scaled(ratio.speed, 1.0)),
                ratio.to.clone(),
                ratio.to_threads.to_string(),
            ]);
        }
        table
    }

    fn others(&self) -> Table {
        let mut table = table(["peer", "threads", "M rows/s", "results", ""]);
        for peer in &self.peers {
            table.add_row([
                peer.name.clone(),
                peer.threads.to_string(),
                peer.rows_per_second().map_or_else(|| "–".to_owned(), millions),
                peer.verdict().to_owned(),
                peer.note.clone(),
            ]);
        }
        table
    }

    fn delays(&self) -> Table {
        let mut table = table([
            "contender",
            "threads",
            "M rows/s due",
            "seconds",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
        ]);
        for run in &self.open_loop {
            let delay = &run.delay;
            let ms = |micros: u64| format!("{:.1}", micros as f64 / 1e3);
            table.add_row([
                run.name.clone(),
                run.threads.to_string(),
                format!("{:.2}", run.rows_per_second / 1e6),
                format!("{:.1}", run.seconds),
                ms(delay.p50_us),
                ms(delay.p90_us),
                ms(delay.p99_us),
                ms(delay.p999_us),
                ms(delay.max_us),
            ]);
        }
        table
    }
}

impl super::Peer {
    /// Whether its results were those of the engine.
    pub(in crate::bench) fn verdict(&self) -> &'static str {
        match (self.seconds.is_empty(), self.checked) {
            (true, _) => "–",
            (false, true) => "equal",
            (false, false) => "not compared",
        }
    }
}

impl fmt::Display for OpenLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {}: linger {:.1} ms; {} results of {} windows counted, after {:.1} s that were not",
            self.name,
            threads(self.threads),
            self.linger_us as f64 / 1e3,
            self.results,
            self.windows,
            self.warm_up_seconds,
        )?;
        let behind = self.behind_us as f64 / 1e3;
        match self.kept_up() {
            true => write!(f, "; the last row was read {behind:.1} ms after it was due"),
            false => write!(
                f,
                "; IT DID NOT KEEP UP: the last row was read {behind:.1} ms after it was due, and \
                 the delays say how long the run was rather than how long results take"
            ),
        }
    }
}

/// So many threads, in words.
pub(in crate::bench) fn threads(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// A table without lines, its first column to the left and the others to the right.
pub(in crate::bench) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
    table
}

/// Millions, as `median (least – greatest)`.
pub(in crate::bench) fn millions(spread: Spread) -> String {
    scaled(spread, 1e-6)
}

/// `median (least – greatest)`, each multiplied.
pub(in crate::bench) fn scaled(spread: Spread, by: f64) -> String {
    format!("{:.2} ({:.2} – {:.2})", spread.median * by, spread.min * by, spread.max * by)
}

/// `p50 / p99 / p99.9` in milliseconds.
pub(in crate::bench) fn in_milliseconds(delay: EmitDelay) -> String {
    let EmitDelay { p50_us, p99_us, p999_us } = delay;
    format!("{:.1} / {:.1} / {:.1}", p50_us / 1e3, p99_us / 1e3, p999_us / 1e3)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {}", self.cpu, self.cores, self.system)?;
        if let Some(kernel) = &self.kernel {
            write!(f, " {kernel}")?;
        }
        let versions = &self.versions;
        write!(
            f,
            "; tidemill {}, arrow {}, datafusion {}",
            versions.tidemill, versions.arrow, versions.datafusion
        )?;
        if let Some(load) = self.load {
            write!(f, "; load before {load:.1}")?;
        }
        if !self.optimized {
            write!(f, "\nNOT OPTIMIZED: build with --release before comparing anything")?;
        }
        Ok(())
    }
}
