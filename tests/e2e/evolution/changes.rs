//! One change of a query after the other: which of them its state survives.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill::generator::DatagenFactory;
use tidemill::memory::MemoryTables;
use tidemill::prelude::*;
use tidemill::sql::Registry;
use tidemill::testing::wait_for;
use tidemill::{ErrorKind, Result};

use crate::job_folder::copy_all;

const BASE: &str = "
SET 'pipeline.name' = 'changing';
CREATE TABLE visits (user_id STRING, page STRING, amount INT, ts TIMESTAMP(3),
  site AS UPPER(page), unread AS LOWER(page), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'datagen', 'rows-per-second' = '1000');
CREATE VIEW named AS SELECT CONCAT(user_id, '!') AS who, site, amount, page, ts FROM visits;
CREATE TABLE totals (start TIMESTAMP(3), who STRING, n BIGINT, total BIGINT) WITH ('connector' = 'memory');
CREATE TABLE pages (page STRING) WITH ('connector' = 'memory');
INSERT INTO totals
SELECT window_start, who, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '1' HOUR))
WHERE site <> 'a'
GROUP BY window_start, window_end, who;
";

/// What is replaced by what, and what the refusal says; of what is accepted, nothing.
const CHANGES: [(&str, &str, &str, Option<&str>); 17] = [
    ("nothing", "", "", None),
    (
        "the window",
        "INTERVAL '1' HOUR",
        "INTERVAL '2' HOUR",
        Some("aggregation `window(totals)`: window was tumbling 3600s; is now tumbling 7200s"),
    ),
    (
        "an aggregate more",
        "SUM(amount)\n",
        "SUM(amount) + MIN(amount)\n",
        Some("aggregation `window(totals)`: aggregate min(amount) is new"),
    ),
    (
        "the order of aggregates",
        "COUNT(*), SUM(amount)\n",
        "SUM(amount), COUNT(*)\n",
        Some("the order of each aggregate was count(*), sum("),
    ),
    (
        "the argument of an aggregate",
        "SUM(amount)",
        "SUM(amount + 1)",
        Some("aggregate was sum(CAST(amount AS Int64)); is now sum(CAST(amount AS Int64) + 1)"),
    ),
    (
        "the key",
        "who, COUNT(*), SUM(amount)\nFROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '1' HOUR))\nWHERE site <> 'a'\nGROUP BY window_start, window_end, who",
        "site, COUNT(*), SUM(amount)\nFROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '1' HOUR))\nWHERE site <> 'a'\nGROUP BY window_start, window_end, site",
        Some("aggregation `window(totals)`: key was who; is now site"),
    ),
    (
        "what a view computes that is a key",
        "'!') AS who",
        "'?') AS who",
        Some("column who was concat(user_id, '!'); is now concat(user_id, '?')"),
    ),
    (
        "what a column computes that a condition reads",
        "site AS UPPER(page)",
        "site AS LOWER(page)",
        Some("source `visits`: column site was upper(page); is now lower(page)"),
    ),
    (
        "a text that becomes a column",
        "site <> 'a'",
        "site <> page",
        Some("condition was site != 'a'; is now site != page"),
    ),
    (
        "the type of a column",
        "amount INT",
        "amount SMALLINT",
        Some("column amount was INT; is now SMALLINT"),
    ),
    ("no condition", "WHERE site <> 'a'\n", "", Some("operator `filter(totals)` is gone")),
    ("a computed column that nobody reads", "unread AS LOWER(page)", "unread AS UPPER(page)", None),
    (
        "columns that nobody reads",
        "(user_id STRING, page",
        "(more BIGINT, user_id STRING, other INT, page",
        None,
    ),
    (
        "the order of a view's columns",
        "who, site, amount, page, ts",
        "who, ts, page, amount, site",
        None,
    ),
    (
        "a condition behind the window",
        "window_end, who;",
        "window_end, who HAVING COUNT(*) > 1;",
        None,
    ),
    ("what is made of results", "SUM(amount)\n", "SUM(amount) * 2\n", None),
    (
        "one more sink, and how far time is behind",
        "- INTERVAL '1' SECOND)",
        "- INTERVAL '3' SECOND)",
        None,
    ),
];

/// The job, with its checkpoints in a folder.
fn job(text: &str, folder: &Path) -> Result<Job> {
    let tables = MemoryTables::new();
    for table in ["totals", "pages"] {
        tables.sink(table);
    }
    let registry = Registry::new(vec![Arc::new(DatagenFactory), Arc::new(tables)]);
    let mut job = Job::from_sql("changing.sql", text, &registry)?;
    job.parallelism(2);
    job.checkpoints(folder.to_str().unwrap(), Duration::from_secs(3600));
    Ok(job)
}

#[test]
fn state_survives_what_it_was_not_made_of_and_nothing_else() -> Result<()> {
    let original = tempfile::tempdir()?;
    let running = job(BASE, original.path())?.start()?;
    wait_for(|| {
        running.status().nodes.iter().any(|n| n.kind == "window" && n.counts.counted > 100)
    });
    running.control().stop()?;
    running.wait()?;
    let mut wrong = Vec::new();
    for (what, from, to, refusal) in CHANGES {
        assert!(BASE.contains(from), "{what}: {from}");
        let mut text = BASE.replace(from, to);
        if what.starts_with("one more sink") {
            text += "INSERT INTO pages SELECT page FROM visits;";
        }
        let folder = tempfile::tempdir()?;
        copy_all(original.path(), folder.path());
        let said = match (job(&text, folder.path())?.start(), refusal) {
            (Ok(running), None) => {
                assert_eq!(running.status().checkpoints.restored, Some(1), "{what}");
                running.control().stop()?;
                running.wait()?;
                continue;
            }
            (Err(error), Some(refusal)) if error.to_string().contains(refusal) => {
                assert_eq!(error.kind(), ErrorKind::Configuration, "{what}");
                continue;
            }
            (Ok(_), Some(_)) => "is accepted".to_owned(),
            (Err(error), _) => error.to_string(),
        };
        wrong.push(format!("{what}: {said}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}
