//! What changes while a job lives: its query between two runs, and its input in the middle of one.

#[path = "evolution/builder.rs"]
mod builder;
#[path = "evolution/changes.rs"]
mod changes;
#[path = "evolution/query.rs"]
mod query;
#[path = "evolution/topic.rs"]
mod topic;
