//! A first window: departures and their mean delay, per carrier and hour, from a CSV file.
//!
//! `cargo run --example 01_first_window`

use std::time::Duration;

use tidemill::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Reads the flights, counts them by carrier and hour, and prints the table.
pub fn main() -> tidemill::Result<()> {
    let columns = schema([
        ("departed_at", TIMESTAMP),
        ("carrier", DataType::Utf8View),
        ("dep_delay_min", DataType::Float64),
    ]);
    let flights = FileSource::new("examples/data/flights-2013-01.csv").csv(columns).with_header();

    let mut job = Job::named("first-window");
    let hourly = job
        .source(flights)
        // Rows may be six hours out of order; what comes later than that is counted as late.
        .event_time("departed_at", Watermarks::bounded(6 * HOUR))
        .filter(col("departed_at").is_not_null())
        .key_by(["carrier"])
        .window(Tumbling::of(HOUR))
        .aggregate([count().alias("departures"), avg(col("dep_delay_min")).alias("mean_delay")]);
    let (results, sink) = collect();
    hourly.clone().sink(Print::stdout());
    hourly.sink(sink);
    let summary = job.run_blocking()?;

    // The sums add up: no row is lost silently.
    let rows = &summary.ledgers[0];
    assert!(rows.balances());
    assert_eq!(rows.records_in, rows.counted + rows.late + rows.dead_letters + rows.filtered);
    assert_eq!(results.rows() as u64, summary.windows_fired);
    eprintln!("{} rows in, {} of them late", rows.records_in, rows.late);
    Ok(())
}
