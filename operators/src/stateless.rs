//! Operators without state: what they do with a batch is all there is to say of them. On the data path
//! wherever rows are transformed in place. Invariant: nothing is kept from one batch to the next.

use tidemill_core::operator::{Barrier, Operator, Output, Progress, StateChange, StateFragment};
use tidemill_core::{Batch, Error, EventTime, Result};

/// What an operator without state does.
pub(crate) trait Transform: Send {
    /// What it is called in errors.
    const NAME: &'static str;

    /// Takes a batch from input number `input`.
    fn transform(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()>;
}

/// A [`Transform`] as an operator.
pub(crate) struct Stateless<T>(pub T);

impl<T: Transform> Operator for Stateless<T> {
    fn process(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        self.0.transform(input, batch, out)
    }

    fn watermark(&mut self, _: EventTime, _: &mut dyn Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn barrier(&mut self, _: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        Ok(StateChange::default())
    }

    fn restore(&mut self, _: StateFragment) -> Result<()> {
        Err(stateless(T::NAME))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}

/// What an operator without state says when some is given to it.
pub(crate) fn stateless(what: &str) -> Error {
    Error::internal(format!("{what} keeps no state, so none can be restored into it"))
}
