//! The examples over topics, as their pages in the book run them: `tidemill generate` fills a topic, the
//! job file or the Rust example reads it, and what they leave behind is compared with what plain Rust
//! makes of the records that the broker holds.

#[path = "topic_examples/bookings.rs"]
mod bookings;
#[path = "topic_examples/customer_events.rs"]
mod customer_events;
#[path = "topic_examples/generate.rs"]
mod generate;
#[path = "topic_examples/order_saga.rs"]
mod order_saga;
#[path = "topic_examples/stage.rs"]
mod stage;
#[path = "topic_examples/user_activity.rs"]
mod user_activity;
#[path = "topic_examples/windows.rs"]
mod windows;
