//! User functions over rows. On the data path wherever a program puts its own code.
//!
//! | module | what it is for |
//! |---|---|
//! | [`outcome`] | what a function made of a batch, and of which rows |
//! | [`retry`] | how often a call is repeated, and what waiting needs |
//! | [`trials`] | calls of one round, until there is no use in more |
//! | `gate` | the circuit breaker that all shards of a function share |
//! | `call` | calls it until each row has a result or a reason why not |
//! | `emit` | results, declined rows and dead letters on their way out |
//!
//! Invariant: every row that comes in is in the results, declined, or a dead letter; whatever a row becomes
//! has its floor, and where it is known to be made from that row alone also its record.

mod call;
mod emit;
mod gate;
pub mod outcome;
pub mod retry;
pub mod trials;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use tidemill_core::operator::{Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::part::Part;
use tidemill_core::time::Clock;
use tidemill_core::{Batch, Error, Result};

pub use outcome::{Lineage, Outcome};
pub use retry::{Patience, RetryPolicy};
pub use trials::Trials;

use self::call::Caller;
use self::emit::Emitter;
use self::gate::Gate;
use self::retry::Asleep;
use crate::stateless::{Stateless, Transform};

/// A user's function: a batch in, what it made of it out. It makes what may fail for a row through
/// [`Trials::call`].
pub type RowsFunction = Arc<dyn Fn(&RecordBatch, &Trials<'_>) -> Result<Outcome> + Send + Sync>;

/// A user's function as an operator.
///
/// The class of an error decides what becomes of the rows that it concerns
/// ([`ErrorKind::class`](tidemill_core::ErrorKind::class)):
///
/// | class | what happens |
/// |---|---|
/// | transient | they are tried again as [`RetryPolicy`] says, and are dead letters when that is in vain |
/// | permanent | they are dead letters |
/// | business | they go to the declined output, each with its reason |
/// | fatal | the job ends |
///
/// A function that says itself which rows failed is called once for each of the others. An error for a batch
/// as a whole concerns some row among them: the function is called again with fewer until that row is found,
/// and rows that fail transiently together share their attempts. Calls are also repeated after a crash. So a function must be pure, or its effects idempotent.
///
/// Waiting before another attempt holds up the shard, at most for the policy's deadline a batch. Where calls
/// fail transiently one after the other for as long as that, the rest of the batch is not tried in that round;
/// after the last round such rows are dead letters too.
///
/// Where calls fail transiently [`RetryPolicy::threshold`] times in a row, on all shards together, a circuit
/// breaker opens: for [`RetryPolicy::pause`] no call is made, and rows are held back; then one call is tried.
#[derive(Clone)]
pub struct Function {
    kind: Kind,
    schema: SchemaRef,
    function: RowsFunction,
    retry: RetryPolicy,
    gate: Arc<Gate>,
    patience: Arc<dyn Patience>,
}

/// What is known of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One result for each row.
    Map,
    /// Any number of results, of rows together.
    FlatMap,
    /// It says itself which results are of which row.
    Rows,
}

impl Function {
    /// Each row becomes one of `schema`, in order.
    pub fn map<F>(schema: SchemaRef, function: F) -> Self
    where
        F: Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    {
        let function = move |rows: &RecordBatch, trials: &Trials<'_>| {
            let results = trials.call(|| function(rows.clone()))?;
            Ok(Outcome { rows: results, lineage: Lineage::OneToOne, failed: Vec::new() })
        };
        Self::new(Kind::Map, schema, Arc::new(function))
    }

    /// Rows become any number of rows of `schema`.
    ///
    /// The function must treat each row by itself: how rows are cut into batches is not fixed.
    pub fn flat_map<F>(schema: SchemaRef, function: F) -> Self
    where
        F: Fn(RecordBatch) -> Result<Vec<RecordBatch>> + Send + Sync + 'static,
    {
        let output = schema.clone();
        let function = move |rows: &RecordBatch, trials: &Trials<'_>| {
            let results = trials.call(|| function(rows.clone()))?;
            for batch in &results {
                check_columns(batch, &output)?;
            }
            let results = concat_batches(&output, &results)?;
            Ok(Outcome { rows: results, lineage: Lineage::Unknown, failed: Vec::new() })
        };
        Self::new(Kind::FlatMap, schema, Arc::new(function))
    }

    /// A function that says which of its results, and which failures, are of which row.
    pub fn rows(schema: SchemaRef, function: RowsFunction) -> Self {
        Self::new(Kind::Rows, schema, function)
    }

    fn new(kind: Kind, schema: SchemaRef, function: RowsFunction) -> Self {
        let retry = RetryPolicy::default();
        let (gate, patience) = (Arc::new(Gate::new(&retry)), Arc::new(Asleep));
        Self { kind, schema, function, retry, gate, patience }
    }

    /// How transient failures are tried again.
    #[must_use]
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { retry, gate: Arc::new(Gate::new(&retry)), ..self }
    }

    /// Waits in this way.
    #[must_use]
    pub fn patience(self, patience: Arc<dyn Patience>) -> Self {
        Self { patience, ..self }
    }
}

impl OperatorFactory for Function {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        self.gate.name(&context.node);
        let calls = Calls { function: self.clone(), clock: context.clock.clone() };
        Ok(Box::new(Stateless(calls)))
    }

    fn describe(&self) -> String {
        let what = match self.kind {
            Kind::Map => "function over batches, row for row",
            Kind::FlatMap => "function over batches",
            Kind::Rows => "function over rows",
        };
        format!("{what}, {}", self.retry)
    }

    fn fingerprint(&self) -> String {
        "function over batches".to_owned()
    }

    fn parts(&self) -> Option<Vec<Part>> {
        Some(vec![Part::of_all("function", "code of one's own")])
    }
}

/// A function on one shard.
struct Calls {
    function: Function,
    clock: Arc<dyn Clock>,
}

impl Calls {
    fn call(&self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let Function { kind, schema, function, retry, gate, patience } = &self.function;
        let caller = Caller {
            function,
            schema,
            retry,
            gate,
            patience: patience.as_ref(),
            clock: self.clock.as_ref(),
            kind: *kind,
        };
        let called = caller.call(&batch.rows)?;
        Emitter { batch, out }.emit(called)
    }
}

impl Transform for Calls {
    const NAME: &'static str = "a function";

    fn transform(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let floors = match (&batch.floor, self.function.kind) {
            (Some(floors), Kind::FlatMap) => floors.clone(),
            _ => return self.call(&batch, out),
        };
        // Which row a result came from is not known, so only rows of one floor are given together.
        let mut start = 0;
        for run in floors.values().chunk_by(|a, b| a == b) {
            self.call(&batch.slice(start, run.len()), out)?;
            start += run.len();
        }
        Ok(())
    }
}

fn check_columns(rows: &RecordBatch, declared: &SchemaRef) -> Result<()> {
    if rows.schema_ref().fields() == declared.fields() {
        return Ok(());
    }
    Err(Error::internal(format!(
        "a function returned the columns {:?}, but declared {:?}",
        rows.schema_ref().fields(),
        declared.fields()
    )))
}
