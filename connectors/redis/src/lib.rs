//! Redis as source and sink: streams that are read and written, and structures that results are put into.

#![deny(missing_docs)]
