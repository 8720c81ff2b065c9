//! A small schema registry that speaks the REST API of Confluent's, for tests and for trying things out.
#![deny(missing_docs)]
