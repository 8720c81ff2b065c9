//! The checkpoint protocol: what an epoch consists of, when it exists, and how a job comes back.
//!
//! | module | what it does | I/O |
//! |---|---|---|
//! | [`protocol`] | when an epoch starts, is published, committed, abandoned | none |
//! | [`files`] | which state files a manifest lists, and when state is written whole | none |
//! | [`recovery`] | which manifest is restored, what each sink does then | none |
//! | [`query`] | what a changed query means for a checkpoint | none |
//! | [`manifest`] | the manifest and its bytes | none |
//! | [`folder`], [`reader`] | one job's checkpoints under a URL: written, looked at | through `store` |
//! | `codec`, `columns` | rows and staged output as bytes | none |
//! | `store` | a file system, or any object store | yes |
//! | [`failpoint`] | where tests make the protocol fail | none |
//!
//! The invariant of the crate: an epoch exists exactly when its manifest can be read, and a
//! manifest is readable only when everything that it refers to was durable before it. Whatever is
//! not, byte for byte, what was written is never restored.
//!
//! This crate decides and stores; it knows nothing of shards' threads, operators or connectors.

#![deny(missing_docs)]

mod codec;
mod columns;
pub mod failpoint;
pub mod files;
pub mod folder;
pub mod manifest;
mod names;
pub mod protocol;
pub mod query;
pub mod reader;
pub mod recovery;
mod store;
#[cfg(test)]
mod tests;

pub use folder::CheckpointFolder;
pub use manifest::Manifest;
pub use protocol::Coordinator;
pub use reader::CheckpointReader;
