//! Stateless and windowed operators.

pub mod aggregate;
