//! Stateless and windowed operators.
