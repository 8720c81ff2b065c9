//! Entries that are trimmed or deleted while they are being read.

use std::time::Instant;

use tidemill_core::source::{Offset, Read, Source};

use super::proxy::Proxy;
use super::server::{PATIENCE, Stream, context, open, read, refused, source};
use crate::source::tests::server::Got;

const ENTRIES: usize = 20_000;

/// A stream, and what does `words` to it between two reads of one look.
fn disturbed(words: &'static str) -> (Stream, Proxy) {
    let stream = Stream::new();
    stream.add_numbers(1..=ENTRIES as i64);
    let admin = Stream::called(stream.key.clone());
    let proxy = Proxy::before(&stream.url, "\r\nXREAD\r\n", 2, move || {
        words.split(';').for_each(|words| drop(admin.run::<redis::Value>(words)));
    });
    (stream, proxy)
}

/// All that comes before the error, or the end.
fn read_to_error(stream: &Stream, options: &[(&str, &str)]) -> (usize, Option<String>) {
    let source = source(stream, options);
    let mut reader = open(&source, stream, None);
    let mut got = 0;
    let start = Instant::now();
    loop {
        match reader.read(usize::MAX) {
            Ok(Read::Batch(batch)) => got += batch.rows.num_rows(),
            Ok(Read::Pending) => std::thread::park_timeout(PATIENCE / 200),
            Ok(Read::End) => return (got, None),
            Err(error) => return (got, Some(error.to_string())),
        }
        assert!(start.elapsed() < PATIENCE, "neither an error nor the end after {got}");
    }
}

#[test]
fn entries_that_are_trimmed_between_two_looks_end_the_job_with_their_number() {
    for mode in ["latest-offset", "unbounded"] {
        let (stream, proxy) = disturbed("XTRIM KEY MAXLEN 10");
        let options = [("url", proxy.url.as_str()), ("scan.bounded.mode", mode)];
        let (got, error) = read_to_error(&stream, &options);
        assert!(proxy.is_done());
        let error = error.unwrap_or_else(|| panic!("{mode}: it ended with {got}"));
        let lost = format!("{} entries", ENTRIES - got);
        assert!(error.contains(&lost) && error.contains("trimmed"), "{mode}: {error}");
    }
    let (stream, proxy) = disturbed("XTRIM KEY MAXLEN 10");
    let options = [
        ("url", proxy.url.as_str()),
        ("scan.bounded.mode", "latest-offset"),
        ("scan.out-of-range", "earliest"),
    ];
    let (got, error) = read_to_error(&stream, &options);
    assert!(got < ENTRIES && error.is_none(), "{got}: {error:?}");
}

#[test]
fn entries_that_are_deleted_before_they_are_read_end_no_job() {
    let (stream, proxy) = disturbed("XDEL KEY 4000-0");
    let url = ("url", proxy.url.as_str());
    let mut reader = open(&source(&stream, &[url]), &stream, None);
    let mut offsets = Vec::new();
    let mut got = Got::default();
    while got.count() < ENTRIES - 1 {
        got.batches
            .extend(read(reader.as_mut(), 500.min(ENTRIES - 1 - got.count())).unwrap().batches);
        offsets.push(reader.offset());
    }
    assert!(proxy.is_done() && !got.numbers().contains(&4000));
    // Neither this one, which looks at the end of the stream, nor one that begins with any of its offsets.
    let start = Instant::now();
    while reader.offset() != Offset(format!("{ENTRIES}-0#{ENTRIES}")) {
        assert!(matches!(reader.read(1).unwrap(), Read::Pending));
        assert!(start.elapsed() < PATIENCE, "{}", reader.offset());
        std::thread::park_timeout(PATIENCE / 200);
    }
    let bounded = [("scan.bounded.mode", "latest-offset")];
    for offset in &offsets {
        let again = source(&stream, &bounded);
        let mut reader = again.open(&stream.split(), Some(offset), &context()).unwrap();
        read(reader.as_mut(), usize::MAX).unwrap_or_else(|error| panic!("{offset}: {error}"));
    }
}

#[test]
fn entries_that_are_trimmed_before_a_restart_end_the_job_though_others_were_deleted() {
    let (stream, proxy) = disturbed("XDEL KEY 4000-0");
    let mut reader = open(&source(&stream, &[("url", &proxy.url)]), &stream, None);
    read(reader.as_mut(), ENTRIES - 1).unwrap();
    let start = Instant::now();
    while reader.offset() != Offset(format!("{ENTRIES}-0#{ENTRIES}")) {
        reader.read(1).unwrap();
        assert!(start.elapsed() < PATIENCE, "{}", reader.offset());
        std::thread::park_timeout(PATIENCE / 200);
    }
    let offset = reader.offset();
    drop(reader);
    stream.add_numbers(20_001..=20_020);
    stream.run::<()>("XTRIM KEY MAXLEN 15");
    let again = source(&stream, &[]).open(&stream.split(), Some(&offset), &context());
    let error = refused(again).to_string();
    assert!(error.contains("5 entries"), "{error}");
}
