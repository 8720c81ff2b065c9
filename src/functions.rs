//! The builder's part for functions of one's own: over batches, and over rows as Rust values.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::graph::{NodeKind, Port};
use tidemill_core::{Error, Result};
use tidemill_operators::function::Trials;
use tidemill_operators::{Function, RetryPolicy};

use crate::rows;
use crate::stream::{Draft, Stream};

impl Stream {
    /// Applies a function to batches of rows that makes one row of `schema` of each, in order.
    ///
    /// What an error does, the error's class decides: see [`Function`]. The function must treat each row by
    /// itself: how rows are cut into batches is not fixed.
    #[must_use]
    pub fn map<F>(self, schema: SchemaRef, function: F) -> Self
    where
        F: Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    {
        self.function("map", Function::map(schema, function))
    }

    /// Applies a function to each row as a Rust value; the value that it returns becomes a row of `schema`.
    /// An error concerns that row alone, and its class decides what becomes of it: see [`Function`].
    #[must_use]
    pub fn map_rows<I, O, F>(self, schema: SchemaRef, function: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I) -> Result<O> + Send + Sync + 'static,
    {
        let output = schema.clone();
        let rows = move |batch: &RecordBatch, trials: &Trials<'_>| {
            rows::map(batch, &output, |row| trials.call(|| function(row)))
        };
        self.function("map", Function::rows(schema, Arc::new(rows)))
    }

    /// Applies a function to batches of rows; it may return any number of rows of `schema`. Errors as for
    /// [`Stream::map`].
    ///
    /// The function must treat each row by itself: how rows are cut into batches is not fixed.
    #[must_use]
    pub fn flat_map<F>(self, schema: SchemaRef, function: F) -> Self
    where
        F: Fn(RecordBatch) -> Result<Vec<RecordBatch>> + Send + Sync + 'static,
    {
        self.function("flat_map", Function::flat_map(schema, function))
    }

    /// Applies a function to each row as a Rust value; it may return any number of values, which
    /// become rows of `schema`.
    #[must_use]
    pub fn flat_map_rows<I, O, R, F>(self, schema: SchemaRef, function: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        R: IntoIterator<Item = O>,
        F: Fn(I) -> R + Send + Sync + 'static,
    {
        let output = schema.clone();
        let rows =
            move |batch: &RecordBatch, _: &Trials<'_>| rows::flat_map(batch, &output, &function);
        self.function("flat_map", Function::rows(schema, Arc::new(rows)))
    }

    /// How the function right before tries again what failed transiently. If not said: five times within
    /// four seconds.
    #[must_use]
    pub fn retry(self, policy: RetryPolicy) -> Self {
        match self.made_by() {
            Some(function) => {
                let function = function.retry(policy);
                let mut draft = self.draft.lock();
                let kind = NodeKind::Operator(Arc::new(function.clone()));
                draft.graph.node_mut(self.node).kind = kind;
                draft.functions.insert(self.node, function);
            }
            None => self.keep(Err(misplaced("retry"))),
        }
        self
    }

    /// The rows that the function right before declined (errors of class business): what it was given, and
    /// a column `reason`. Its other rows go on here as before.
    #[must_use]
    pub fn declined(&self) -> Self {
        if self.made_by().is_none() {
            self.keep(Err(misplaced("declined")));
        }
        Self { port: Port::Declined, ..self.clone() }
    }

    /// The function whose results these are.
    fn made_by(&self) -> Option<Function> {
        let functions = |draft: &Draft| draft.functions.get(&self.node).cloned();
        (self.port == Port::Main).then(|| functions(&self.draft.lock())).flatten()
    }

    fn function(self, name: &str, function: Function) -> Self {
        let stream = self.operator(name, |_| Ok(Arc::new(function.clone())));
        stream.draft.lock().functions.insert(stream.node, function);
        stream
    }
}

fn misplaced(call: &str) -> Error {
    Error::configuration(format!(
        "{call}() belongs right behind map(), map_rows(), flat_map() or flat_map_rows()"
    ))
}
