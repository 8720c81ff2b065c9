//! The print sink and its factory.
//!
//! Last link of the data path: a batch is written and flushed as it comes, so nothing is staged
//! for a checkpoint and nothing is left to commit.

use std::io::Write;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use tidemill_core::element::Epoch;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Batch, Error, Result};

use crate::console::Console;
use crate::json;
use crate::layout::Layout;

/// A sink that prints: an aligned table for a person, one JSON object a line for a machine
/// ([`SinkContext::machine_output`]).
#[derive(Debug, Clone)]
pub struct Print {
    console: Console,
    number: usize,
    layout: Arc<Mutex<Layout>>,
}

impl Print {
    /// Prints to a console, which several sinks may share.
    pub fn on(console: &Console) -> Self {
        let number = console.register();
        Self { console: console.clone(), number, layout: Arc::default() }
    }

    /// Prints to standard output.
    pub fn stdout() -> Self {
        Self::on(&Console::stdout())
    }

    /// Prints to a writer.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self::on(&Console::to(out))
    }

    /// The same sink with `identifier> ` before every line of its table. JSON lines stay as they
    /// are.
    #[must_use]
    pub fn identifier(self, identifier: &str) -> Self {
        self.layout.lock().set_prefix(format!("{identifier}> "));
        self
    }
}

impl Sink for Print {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        let why = if checkpointed {
            "printed rows cannot be taken back: after a crash those since the last checkpoint are \
             printed again"
        } else {
            "without checkpoints a job that crashed starts from nothing and prints all rows again"
        };
        Guarantee { delivery: Delivery::AtLeastOnce, why: why.to_owned() }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(PrintWriter { sink: self.clone(), json: context.machine_output }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        format!("print to {}", self.console.name())
    }
}

struct PrintWriter {
    sink: Print,
    json: bool,
}

impl SinkWriter for PrintWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = &batch.rows;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let Print { console, number, layout } = &self.sink;
        if self.json {
            let lines = json::lines(batch)?;
            return console.write(*number, |_| Ok(lines));
        }
        let mut layout = layout.lock();
        console.write(*number, |interrupted| layout.lines(batch, interrupted))
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}

/// `'connector' = 'print'`: makes [`Print`] sinks, which share one standard output and one
/// standard error.
#[derive(Debug, Clone)]
pub struct PrintFactory {
    stdout: Console,
    stderr: Console,
}

impl Default for PrintFactory {
    fn default() -> Self {
        Self::new(Console::stdout(), Console::stderr())
    }
}

impl PrintFactory {
    /// A factory whose sinks print to these instead of the process's own streams.
    pub fn new(stdout: Console, stderr: Console) -> Self {
        Self { stdout, stderr }
    }
}

impl ConnectorFactory for PrintFactory {
    fn name(&self) -> &'static str {
        "print"
    }

    fn options(&self) -> Vec<OptionSpec> {
        vec![
            OptionSpec::new("print-identifier", "Text before every line: 'identifier> '."),
            OptionSpec::new("standard-error", "'true' prints to standard error instead of output."),
        ]
    }

    fn source(&self, _: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::option("connector", "'print' only shows rows: nothing can be read from it"))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let stderr = table.options.parsed("standard-error")?.unwrap_or(false);
        let print = Print::on(if stderr { &self.stderr } else { &self.stdout });
        Ok(Arc::new(match table.options.get("print-identifier") {
            Some(identifier) => print.identifier(identifier),
            None => print,
        }))
    }
}
