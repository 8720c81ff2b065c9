//! The broker goes away and comes back, again and again, while clicks are written and totals made of
//! them: nothing is lost, nothing doubled, and the job itself never ends.
//!
//! `TIDEMILL_OUTAGES` says how often, `TIDEMILL_OUTAGE_SECONDS` for how long.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{EXACTLY_ONCE, TopicJob};
use super::services::OwnBroker;
use crate::clicks::{StopsWhenDropped, produce};
use crate::job_folder::{Running, summary};
use crate::totals::{Expected, Found};
use crate::totals_job::number;

/// One outage; returns how long after the broker's return the next result can be seen.
fn outage(own: &OwnBroker, job: &TopicJob, running: &mut Running, lasts: Duration) -> Duration {
    let watch = job.output.watch();
    let seen = watch.committed().expect("the broker is there");
    let grows = |from: i64| watch.committed().is_some_and(|now| now > from);
    running.until("results before the outage", || grows(seen));
    own.stop();
    running.let_run(lasts);
    own.start();
    let back = Instant::now();
    let (mut seen, start) = (watch.committed(), Instant::now());
    while seen.is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "the broker does not answer");
        seen = watch.committed();
    }
    running.until("results after the outage", || grows(seen.unwrap_or_default()));
    back.elapsed()
}

#[test]
fn outages_lose_nothing_and_the_job_goes_on_by_itself() {
    let outages = number("TIDEMILL_OUTAGES", 2);
    let lasts = Duration::from_secs(number("TIDEMILL_OUTAGE_SECONDS", 5));
    let own = OwnBroker::up();
    let input = own.broker().topic("clicks", 4);
    let job = TopicJob::new(&input, "", EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "300ms"), 10_000_000, "log");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let mut writer = input.writer();
            produce(&mut writer, input.partitions(), &stop, |_| {});
            writer.finish();
        });
        let stops = StopsWhenDropped(&stop);
        for number in 1..=outages {
            let recovered = outage(&own, &job, &mut running, lasts);
            println!(
                "outage {number} of {lasts:?}: results {recovered:?} after the broker is back"
            );
        }
        drop(stops);
        producing.join().unwrap();
    });
    let expected = Expected::of(&*input).fired();
    job.until_results(&mut running, expected.results());
    running.signal("INT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    let context = format!("{} clicks, {outages} outages of {lasts:?}", expected.records);
    Found::in_log(&*job.output).assert_exact(&expected, &context);
    assert_eq!(summary(&said)["ledgers"][0]["records_in"], expected.records, "{context}");
    println!("{context}: {} results, each of them once", expected.results());
}
