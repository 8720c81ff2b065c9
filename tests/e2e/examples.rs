//! The numbered examples run, and what they assert holds. They are modules here rather than programs,
//! so that the engine is linked once. Those over topics are run by `topic_examples`.

#[expect(dead_code, reason = "main takes topics of fixed names")]
#[path = "../../examples/08_bookings.rs"]
pub mod bookings;
#[expect(dead_code, reason = "main takes topics of fixed names")]
#[path = "../../examples/07_customer_events.rs"]
pub mod customer_events;
#[path = "../../examples/01_first_window.rs"]
mod first_window;
#[path = "../../examples/09_order_saga.rs"]
pub mod order_saga;
#[path = "../../examples/02_own_source_and_sink.rs"]
mod own_source_and_sink;
#[path = "../../examples/03_recover_after_a_crash.rs"]
mod recover_after_a_crash;
#[path = "../../examples/05_sql_from_code.rs"]
mod sql_from_code;
#[expect(dead_code, reason = "main takes topics of fixed names")]
#[path = "../../examples/06_user_activity.rs"]
pub mod user_activity;
#[path = "../../examples/04_user_defined_aggregate.rs"]
mod user_defined_aggregate;

#[test]
fn the_first_window_counts_flights() {
    first_window::main().unwrap();
}

#[test]
fn an_own_source_and_an_own_sink_meet() {
    own_source_and_sink::main().unwrap();
}

#[test]
fn a_crash_changes_nothing() {
    recover_after_a_crash::main().unwrap();
}

#[test]
fn a_user_defined_aggregate_works_in_the_builder_and_in_sql() {
    user_defined_aggregate::main().unwrap();
}

#[test]
fn sql_runs_from_code() {
    sql_from_code::main().unwrap();
}

#[test]
fn the_order_saga_runs_without_a_server() {
    order_saga::main().unwrap();
}
