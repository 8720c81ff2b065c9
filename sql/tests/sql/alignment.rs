//! `'scan.watermark.alignment.*'`: which sources wait for one another, and how far they may run ahead.

use tidemill_core::graph::{Alignment, NodeKind};

use crate::support::plan;

/// A job of two sources with these options of alignment.
fn job(first: &str, second: &str) -> String {
    let table = |name: &str, options: &str| {
        format!(
            "CREATE TABLE {name} (k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
             WITH ('connector' = 'datagen'{options});"
        )
    };
    format!(
        "{} {} CREATE TABLE o (k INT, ts TIMESTAMP(3)) WITH ('connector' = 'print');
         INSERT INTO o SELECT k, ts FROM a UNION ALL SELECT k, ts FROM b;",
        table("a", first),
        table("b", second)
    )
}

const GROUP: &str = ", 'scan.watermark.alignment.group' = 'orders'";

#[test]
fn two_sources_of_one_group_are_aligned_each_as_far_as_it_says() {
    let drift = |text: &str| format!("{GROUP}, 'scan.watermark.alignment.max-drift' = '{text}'");
    let planned = plan(&job(&drift("1 min"), &drift("500 ms"))).unwrap();
    let aligned = planned.graph.nodes().iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => source.alignment.clone(),
        _ => None,
    });
    let group = |max_drift| Alignment { group: "orders".to_owned(), max_drift };
    assert_eq!(aligned.collect::<Vec<_>>(), [group(60_000_000), group(500_000)]);
}

#[test]
fn half_an_alignment_is_refused_where_it_stands() {
    let errors = plan(&job(GROUP, "")).err().unwrap().to_string();
    assert!(errors.contains("'scan.watermark.alignment.max-drift'"), "{errors}");
    let drift = ", 'scan.watermark.alignment.max-drift' = '1 min'";
    let errors = plan(&job("", drift)).err().unwrap().to_string();
    assert!(errors.contains("'scan.watermark.alignment.group'"), "{errors}");
}
