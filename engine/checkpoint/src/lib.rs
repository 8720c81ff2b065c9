//! The checkpoint protocol.
