//! Contracts of the engine.
