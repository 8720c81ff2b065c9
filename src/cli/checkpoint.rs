//! `tidemill checkpoint`: looks at the checkpoints of jobs, which may be running.

use clap::{Args, Subcommand};
use tidemill_checkpoint::CheckpointReader;
use tidemill_checkpoint::reader::jobs;
use tidemill_core::{Epoch, Error, Result};

use super::output::outln;
use super::{Failure, OutputFormat};

/// `tidemill checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    command: CheckpointCommand,
    /// Who the output is for.
    #[arg(short, long, default_value = "text", global = true)]
    pub output: OutputFormat,
}

#[derive(Debug, Subcommand)]
enum CheckpointCommand {
    /// List the checkpoints of one job, or of all jobs under a folder or URL.
    Ls {
        /// Where checkpoints are: what --checkpoint-dir says.
        url: String,
        /// One job only.
        #[arg(long)]
        job: Option<String>,
    },
    /// Read every file of a checkpoint and compare it with what was written.
    Verify {
        /// Where checkpoints are: what --checkpoint-dir says.
        url: String,
        /// The job.
        #[arg(long)]
        job: String,
        /// The epoch [default: the newest].
        #[arg(long)]
        epoch: Option<Epoch>,
    },
}

pub fn run(args: &CheckpointArgs) -> Result<(), Failure> {
    match &args.command {
        CheckpointCommand::Ls { url, job } => Ok(list(url, job.as_deref(), args.output)?),
        CheckpointCommand::Verify { url, job, epoch } => Ok(verify(url, job, *epoch, args.output)?),
    }
}

fn list(url: &str, job: Option<&str>, output: OutputFormat) -> Result<()> {
    let jobs = match job {
        Some(job) => vec![job.to_owned()],
        None => jobs(url)?,
    };
    if output == OutputFormat::Text {
        outln!(
            "{:<24} {:>8} {:>20} {:>14}  state",
            "job",
            "epoch",
            "created (s since epoch)",
            "bytes"
        );
    }
    for job in jobs {
        for found in CheckpointReader::open(url, &job)?.list()? {
            let state = match (&found.problem, found.finished, found.superseded) {
                (Some(problem), _, _) => problem.clone(),
                (None, _, true) => "left behind by --fresh".to_owned(),
                (None, true, _) => "job finished".to_owned(),
                (None, false, _) => "ok".to_owned(),
            };
            let created = found.created_at / 1_000_000;
            if output == OutputFormat::Json {
                let json = serde_json::json!({
                    "job": job, "epoch": found.epoch, "created_at_us": found.created_at,
                    "bytes": found.bytes, "state": state,
                });
                outln!("{json}");
            } else {
                outln!("{job:<24} {:>8} {created:>20} {:>14}  {state}", found.epoch, found.bytes);
            }
        }
    }
    Ok(())
}

fn verify(url: &str, job: &str, epoch: Option<Epoch>, output: OutputFormat) -> Result<()> {
    let reader = CheckpointReader::open(url, job)?;
    let newest = || reader.list().map(|found| found.iter().map(|summary| summary.epoch).max());
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => newest()?.ok_or_else(|| {
            Error::configuration(format!("job `{job}` has no checkpoints under {url}"))
        })?,
    };
    let verified = reader.verify(epoch)?;
    if output == OutputFormat::Json {
        let json = serde_json::json!({
            "job": job, "epoch": epoch, "files": verified.files, "bytes": verified.bytes,
            "problems": verified.problems,
        });
        outln!("{json}");
    }
    if !verified.problems.is_empty() {
        return Err(Error::corrupt(format!(
            "epoch {epoch} of `{job}` cannot be restored:\n  {}",
            verified.problems.join("\n  ")
        )));
    }
    if output == OutputFormat::Text {
        outln!(
            "epoch {epoch} of {job}: {} files, {} bytes, intact",
            verified.files,
            verified.bytes
        );
    }
    Ok(())
}
