//! The source against a real broker: every test has topics of its own.

mod broker;
mod modes;
mod records;
mod registry;
mod security;
mod topics;
