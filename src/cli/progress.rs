//! How far a job is: a bar for bounded input, a line for unbounded, on a terminal; one log line
//! every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tidemill_runtime::{JobControl, JobStatus};

const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress until it is finished.
pub struct Progress {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Starts showing a job's progress.
    pub fn start(control: JobControl, bounded: bool) -> Self {
        let (stop, stopped) = channel();
        let terminal = std::io::stderr().is_terminal();
        let interval = if terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        let thread = std::thread::spawn(move || {
            let bar = terminal.then(|| bar(bounded));
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                show(&control.status(), bar.as_ref());
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Self { stop, thread }
    }

    /// Clears the bar.
    pub fn finish(self) {
        // The thread waits for nothing else; a panic in it concerns only what is shown.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn bar(bounded: bool) -> ProgressBar {
    let template = if bounded { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(100).with_style(style)
}

fn show(status: &JobStatus, bar: Option<&ProgressBar>) {
    let records: u64 = status.splits.iter().map(|split| split.records).sum();
    let rate = status.records_per_second;
    let message = format!("{records} records, {rate:.0}/s");
    match bar {
        None => tracing::info!(
            job = status.job,
            records,
            rate = format!("{rate:.0}/s"),
            held_back_by = status.held_back_by.as_deref().unwrap_or("nothing"),
            epoch = status.checkpoints.last_epoch.unwrap_or(0),
            "running"
        ),
        Some(bar) => {
            let known = status.splits.iter().filter_map(|split| split.progress);
            let (done, total) = known.fold((0, 0), |sum, (d, t)| (sum.0 + d, sum.1 + t));
            bar.set_position(done.saturating_mul(100).checked_div(total).unwrap_or(0));
            bar.set_message(message);
            bar.tick();
        }
    }
}
