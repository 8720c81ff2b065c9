//! Graph execution on shards.
