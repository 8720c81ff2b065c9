//! In-memory tables as source and sink.
