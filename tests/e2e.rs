//! The end-to-end tests: one binary, so that the engine is linked once.

#![allow(clippy::unwrap_used)]

#[path = "e2e/absurd.rs"]
mod absurd;
#[path = "e2e/bench.rs"]
mod bench;
#[path = "e2e/book.rs"]
mod book;
#[path = "e2e/budget.rs"]
mod budget;
#[path = "e2e/canaries.rs"]
mod canaries;
#[path = "e2e/cli.rs"]
mod cli;
#[path = "e2e/clicks.rs"]
mod clicks;
#[path = "e2e/command.rs"]
mod command;
#[path = "e2e/damage.rs"]
mod damage;
#[path = "e2e/dead_letters.rs"]
mod dead_letters;
#[path = "e2e/drops.rs"]
mod drops;
#[path = "e2e/evolution.rs"]
mod evolution;
#[path = "e2e/examples.rs"]
mod examples;
#[cfg(feature = "failpoints")]
#[path = "e2e/failpoints.rs"]
mod failpoints;
#[path = "e2e/flow.rs"]
mod flow;
#[path = "e2e/generate.rs"]
mod generate;
#[path = "e2e/goldens.rs"]
mod goldens;
#[path = "e2e/idle.rs"]
mod idle;
#[path = "e2e/job_folder.rs"]
mod job_folder;
#[path = "e2e/kafka.rs"]
mod kafka;
#[path = "e2e/kill.rs"]
mod kill;
#[path = "e2e/kinds.rs"]
mod kinds;
#[path = "e2e/nexmark.rs"]
mod nexmark;
#[path = "e2e/oracle.rs"]
mod oracle;
#[path = "e2e/pipelines.rs"]
mod pipelines;
#[path = "e2e/properties.rs"]
mod properties;
#[path = "e2e/redis.rs"]
mod redis;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/sink_outages.rs"]
mod sink_outages;
#[path = "e2e/splits.rs"]
mod splits;
#[path = "e2e/topic_examples.rs"]
mod topic_examples;
#[path = "e2e/totals.rs"]
mod totals;
#[path = "e2e/totals_job.rs"]
mod totals_job;
#[path = "e2e/websocket.rs"]
mod websocket;
