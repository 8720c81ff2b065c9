//! The command line: results to standard output, talk to standard error, and an exit code that says
//! whose turn it is.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the job failed |
//! | 2 | the command line is wrong |
//! | 78 | the job file or the configuration is wrong |

mod bench;
mod checkpoint;
mod dlq;
mod generate;
mod job_file;
mod lag;
mod output;
mod progress;
mod run;
mod summary;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use tidemill_core::{Error, ErrorKind};
use tidemill_sql::Diagnostics;

pub use job_file::{JobFileArgs, connectors};

/// Exit code of a job that failed.
const FAILED: u8 = 1;

/// Exit code of a job file or configuration that is wrong (`EX_CONFIG` of sysexits).
const BAD_CONFIGURATION: u8 = 78;

/// Windowed stream processing in one process.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job file.
    Run(run::RunArgs),
    /// Check a job file without running it; all errors are reported.
    Check(job_file::CheckArgs),
    /// Draw the graph of a job file, with the delivery guarantee of each sink and why.
    Explain(job_file::ExplainArgs),
    /// Look at the checkpoints of jobs.
    Checkpoint(checkpoint::CheckpointArgs),
    /// Look at dead letters, and send their records again.
    Dlq(dlq::DlqArgs),
    /// Show how far the group of a job is behind in each partition that it reads.
    Lag(lag::LagArgs),
    /// Measure throughput and emit delay beside yardsticks, with equal results checked.
    Bench(Box<bench::BenchArgs>),
    /// Send generated events to a topic, a file or standard output.
    Generate(generate::GenerateArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Who the output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A person.
    Text,
    /// A machine: JSON, one value a line.
    Json,
}

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The engine says so.
    Engine(Error),
    /// The job file is wrong.
    JobFile(Diagnostics),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::JobFile(diagnostics)
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    talk_to_stderr();
    let (result, output) = match arguments.command {
        Command::Run(args) => (run::run(&args), args.output),
        Command::Check(args) => (job_file::check(&args), args.output),
        Command::Explain(args) => (job_file::explain(&args), OutputFormat::Text),
        Command::Checkpoint(args) => (checkpoint::run(&args), args.output),
        Command::Dlq(args) => (dlq::run(&args), args.output),
        Command::Lag(args) => (lag::run(&args), args.output),
        Command::Bench(args) => (bench::run(&args), args.output()),
        Command::Generate(args) => (generate::run(&args), args.output),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "tidemill", &mut std::io::stdout());
            (Ok(()), OutputFormat::Text)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, output),
    }
}

/// Log lines go to standard error; `TIDEMILL_LOG` says which (`tidemill=debug`).
fn talk_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEMILL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,tidemill=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn report(failure: &Failure, output: OutputFormat) -> ExitCode {
    match failure {
        Failure::Engine(error) if tidemill_print::reader_is_gone(error) => ExitCode::SUCCESS,
        Failure::Engine(error) => {
            if output == OutputFormat::Json {
                let kind = format!("{:?}", error.kind()).to_lowercase();
                let json = serde_json::json!({"error": error.to_string(), "kind": kind});
                eprintln!("{json}");
            } else {
                eprintln!("error: {error}");
            }
            match error.kind() {
                ErrorKind::Configuration => ExitCode::from(BAD_CONFIGURATION),
                _ => ExitCode::from(FAILED),
            }
        }
        Failure::JobFile(diagnostics) => {
            if output == OutputFormat::Json {
                for error in &diagnostics.errors {
                    eprintln!("{}", diagnostic_json(&diagnostics.file, error));
                }
            } else {
                eprint!("{diagnostics}");
                let errors = diagnostics.errors.len();
                eprintln!("\n{errors} error{}", if errors == 1 { "" } else { "s" });
            }
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn diagnostic_json(file: &str, error: &tidemill_sql::Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "file": file,
        "line": error.line,
        "column": error.column,
        "length": error.length,
        "message": error.message,
        "help": error.help,
    })
}
