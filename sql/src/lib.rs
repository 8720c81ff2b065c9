//! Flink SQL job files.
