//! `tidemill run`: runs a job file, shows how far it is, and stops it on a signal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidemill_core::{Error, Result};
use tidemill_runtime::{JobControl, Phase};
use tidemill_server::{ServerHandle, StatusSource};

use super::job_file::JobFileArgs;
use super::progress::Progress;
use super::{Failure, OutputFormat, summary};

/// Exit code of a process that a second signal has stopped.
pub(super) const STOPPED_NOW: i32 = 130;

/// What a drain may take, so that the process has ended ten seconds after the signal.
const PATIENCE: Duration = Duration::from_secs(8);

/// `tidemill run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: JobFileArgs,
    /// Who the results are for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
    /// Serve /metrics, /livez, /readyz and /status on this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
}

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut loaded = args.file.load()?;
    loaded.settings.machine_output = args.output == OutputFormat::Json;
    let checkpointed = loaded.settings.checkpoints.is_some();
    let bounded = loaded.plan.graph.is_bounded();
    let recorder = args.http.map(|_| tidemill_server::install_recorder()).transpose()?;
    let handle = loaded.job().start()?;
    let control = handle.control();
    stop_on_signals(control.clone(), checkpointed)?;
    let server = match (args.http, recorder) {
        (Some(address), Some(metrics)) => Some(serve(address, metrics, control.clone())?),
        _ => None,
    };
    let progress = Progress::start(control, bounded);
    let result = handle.wait();
    progress.finish();
    drop(server);
    let ended = result?;
    summary::print(&ended, checkpointed, args.output);
    Ok(())
}

/// The job as the HTTP server sees it.
struct Served(JobControl);

impl StatusSource for Served {
    fn status(&self) -> serde_json::Value {
        serde_json::to_value(self.0.status()).unwrap_or_default()
    }

    fn ready(&self) -> bool {
        matches!(self.0.status().phase, Phase::Running | Phase::Finished)
    }

    fn live(&self) -> bool {
        self.0.status().phase != Phase::Failed
    }
}

fn serve(
    address: SocketAddr,
    metrics: tidemill_server::PrometheusHandle,
    control: JobControl,
) -> Result<ServerHandle> {
    let server = tidemill_server::serve(address, Arc::new(Served(control)), metrics)?;
    tracing::info!("serving /metrics, /livez, /readyz and /status on http://{}", server.address());
    Ok(server)
}

/// The first SIGINT or SIGTERM lets the job drain, for a while; the second ends the process.
fn stop_on_signals(control: JobControl, checkpointed: bool) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|e| Error::external("signals cannot be handled").caused_by(e))?;
    thread::spawn(move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                std::process::exit(STOPPED_NOW);
            }
            let kept = if checkpointed {
                "a last checkpoint is made"
            } else {
                "open windows are lost, since the job makes no checkpoints"
            };
            tracing::info!("stopping: what was read is finished, {kept}; once more to stop now");
            // A job that has ended needs no stopping.
            let _ = control.stop_within(PATIENCE);
        }
    });
    Ok(())
}
