//! Sinks against a real server.
