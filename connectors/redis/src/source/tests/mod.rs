//! The source against a real Redis. Oracles are the entries that the tests themselves add.

mod modes;
mod server;
