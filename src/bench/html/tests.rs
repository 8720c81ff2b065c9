//! A page as a parser sees it: every element closed in order, nothing from outside unescaped.

use super::*;
use crate::bench::open_loop::{Delay, OpenLoop, Point};
use crate::bench::report::tests::report;
use crate::bench::statistics::Spread;

const HOSTILE: &str = "<script>alert(\"&'\")</script>\u{1}";

fn open_loop(name: &str, threads: usize, slowest: u64) -> OpenLoop {
    let point = |n: u64| Point { quantile: 1.0 - 0.1f64.powi(n as i32), us: slowest * n / 4 };
    OpenLoop {
        name: name.to_owned(),
        threads,
        rows_per_second: 1e7,
        seconds: 10.0,
        warm_up_seconds: 1.0,
        linger_us: 10_000,
        results: 1_000_000,
        windows: 100,
        behind_us: 5_000,
        delay: Delay { p50_us: 1, p90_us: 2, p99_us: 3, p999_us: 4, max_us: slowest },
        curve: (0..=4).map(point).collect(),
    }
}

fn full() -> Report {
    let mut report = report(&[
        ("hand-written loop", 1, &[0.1, 0.12, 0.11]),
        ("Tidemill", 1, &[0.2, 0.22, 0.21]),
        ("Tidemill", 2, &[0.1, 0.13, 0.12]),
    ]);
    let peer = |name: &str, seconds: &[f64], note: &str| Peer {
        name: name.to_owned(),
        threads: 2,
        rows: 1_000_000,
        seconds: seconds.to_vec(),
        checked: !seconds.is_empty(),
        note: note.to_owned(),
    };
    report.peers = vec![peer("DuckDB", &[0.5, 0.4], ""), peer("Flink", &[], "no Java here")];
    report.open_loop = vec![open_loop("Tidemill", 1, 14_000), open_loop("Tidemill", 2, 15_000)];
    report
}

/// The names of all elements in the order in which they begin. Panics where one is not closed, or closed
/// out of order, or where an attribute or an entity is not as XML wants it.
fn elements(page: &str) -> Vec<String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a document type");
    let (mut open, mut all) = (Vec::new(), Vec::new());
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start], open.last());
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let name = tag.split_ascii_whitespace().next().expect("an element has a name").to_owned();
        assert!(tag.matches('"').count().is_multiple_of(2), "quotes in {tag}");
        assert!(!tag.contains('<'), "{tag}");
        all.push(name.clone());
        if !empty {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    all
}

fn check_text(text: &str, element: Option<&String>) {
    if element.is_some_and(|name| name == "style") {
        return;
    }
    for entity in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(known.iter().any(|name| entity.starts_with(name)), "an & that is bare: {text}");
    }
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_else() {
    let page = page(&full());
    let elements = elements(&page);
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!((count("svg"), count("table"), count("polyline")), (2, 4, 2));
    assert_eq!((count("title"), count("desc")), (3, 2), "every chart says what it shows");
    assert_eq!(count("rect"), 4, "three contenders and the peer that ran");
    for forbidden in ["<script", "http:", "https:", "url(", "@import", "<link", "<img"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn every_figure_of_a_chart_is_in_a_table_too() {
    let page = page(&full());
    for text in [
        "9.09 (8.33 – 10.00)",
        "2.25 (2.00 – 2.50)",
        "no Java here",
        "12.5",
        "14.0",
        "tidemill bench tumbling --html &lt;out&gt;.html",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let mut report = full();
    report.name = HOSTILE.to_owned();
    report.command = HOSTILE.to_owned();
    report.machine.cpu = HOSTILE.to_owned();
    report.contenders[0].name = HOSTILE.to_owned();
    report.ratios[0].to = HOSTILE.to_owned();
    report.peers[0].name = HOSTILE.to_owned();
    report.peers[1].note = HOSTILE.to_owned();
    report.open_loop[0].name = HOSTILE.to_owned();
    let page = page(&report);
    elements(&page);
    assert!(!page.contains("<script") && !page.contains('\u{1}'));
    assert!(page.contains("&lt;script&gt;alert(&quot;&amp;&#39;&quot;)"));
}

#[test]
fn a_run_that_did_not_keep_up_says_so() {
    let mut report = full();
    assert!(!page(&report).contains("did not keep up"));
    report.open_loop[1].behind_us = 2_000_000;
    assert!(page(&report).contains("Tidemill on 2 threads did not keep up"));
}

#[test]
fn a_report_of_a_job_file_alone_has_a_page_too() {
    let page = page(&report(&[("Tidemill, job file", 1, &[1.0])]));
    assert!(!elements(&page).contains(&"polyline".to_owned()));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn axes_have_round_numbers_up_to_what_they_must_show() {
    assert_eq!(svg::ticks(181.0), [0.0, 50.0, 100.0, 150.0, 200.0]);
    assert_eq!(svg::ticks(0.7), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
    assert_eq!(svg::ticks(0.0), [0.0, 1.0]);
    assert_eq!(svg::tick(0.6000000000000001), "0.6");
    assert_eq!(svg::tick(100.0), "100");
    let spread = Spread { median: 1e-9, min: 1e-9, max: 1e-9 };
    assert_eq!(scaled(spread, 1.0), "0.00 (0.00 – 0.00)");
}
