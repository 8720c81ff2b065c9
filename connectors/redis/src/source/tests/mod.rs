//! The source against a real Redis. Oracles are the entries that the tests themselves add.

mod gaps;
mod group;
mod modes;
mod outages;
mod proxy;
mod records;
pub(crate) mod server;
