//! What a person and a machine see of printed results.

use std::io::{self, Write};
use std::sync::Arc;
use std::task::Poll;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use parking_lot::Mutex;
use tidemill_core::sink::{Delivery, Sink, SinkContext, SinkWriter, Staged};
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing;

use crate::{Blackhole, BlackholeFactory, Console, Print, PrintFactory, reader_is_gone};

/// 2013-01-01 10:00:00 UTC.
const TEN: i64 = 1_357_034_400_000_000;

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn writer(sink: &dyn Sink, machine_output: bool) -> Box<dyn SinkWriter> {
    let empty = Arc::new(Schema::empty());
    let context = SinkContext { machine_output, ..testing::sink_context(0, 1, empty) };
    sink.writer(&context).unwrap()
}

fn departures(
    at: Vec<i64>,
    carrier: Vec<&str>,
    n: Vec<i64>,
    delay: Vec<Option<f64>>,
) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("hour", Arc::new(TimestampMicrosecondArray::from(at))),
        ("carrier", Arc::new(StringViewArray::from(carrier))),
        ("n", Arc::new(Int64Array::from(n))),
        ("mean_delay", Arc::new(Float64Array::from(delay))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn one(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("v", column, true)]).unwrap()
}

fn printed(batches: &[RecordBatch], machine_output: bool) -> String {
    let screen = Screen::default();
    let print = Print::to(Box::new(screen.clone()));
    let mut writer = writer(&print, machine_output);
    batches.iter().for_each(|batch| writer.write(&batch.clone().into()).unwrap());
    screen.text()
}

/// The rows of a table of one column, without its header.
fn cells(batches: &[RecordBatch]) -> Vec<String> {
    printed(batches, false).lines().skip(2).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_table_has_one_header_and_aligned_columns_that_only_grow() {
    let first = departures(vec![TEN, TEN], vec!["UA", "B6"], vec![7, 112], vec![Some(12.5), None]);
    let empty = first.slice(0, 0);
    let second = departures(
        vec![TEN + 3_600_000_000],
        vec!["Hawaiian"],
        vec![1_234_567_890],
        vec![Some(-0.123)],
    );
    let expected = "\
hour              carrier    n  mean_delay
────────────────  ───────  ───  ──────────
2013-01-01 10:00  UA         7        12.5
2013-01-01 10:00  B6       112        NULL
2013-01-01 11:00  Hawaiian  1234567890       -0.12
2013-01-01 10:00  UA                 7       12.50
2013-01-01 10:00  B6               112        NULL
";
    assert_eq!(printed(&[first.clone(), empty, second, first], false), expected);
}

#[test]
fn times_show_what_they_need_and_absurd_ones_do_not_fail() {
    let times = |times: Vec<i64>| one(Arc::new(TimestampMicrosecondArray::from(times)));
    assert_eq!(cells(&[times(vec![TEN])]), ["2013-01-01 10:00"]);
    assert_eq!(
        cells(&[times(vec![TEN + 1_000_000, TEN]), times(vec![TEN - 1_000])]),
        ["2013-01-01 10:00:01", "2013-01-01 10:00:00", "2013-01-01 09:59:59.999"]
    );
    assert_eq!(cells(&[times(vec![-1])]), ["1969-12-31 23:59:59.999999"]);
    assert_eq!(cells(&[times(vec![i64::MAX])]), ["9223372036854775807"]);
    let zoned = TimestampMicrosecondArray::from(vec![TEN]).with_timezone("UTC");
    assert_eq!(cells(&[one(Arc::new(zoned))]), ["2013-01-01 10:00Z"]);
}

#[test]
fn floats_show_digits_that_mean_something() {
    let floats = |floats: Vec<f64>| cells(&[one(Arc::new(Float64Array::from(floats)))]);
    assert_eq!(floats(vec![1.0, 2.0, -0.0]), ["1.0", "2.0", "0.0"]);
    assert_eq!(floats(vec![0.1 + 0.2, 0.18342]), ["0.3000", "0.1834"]);
    assert_eq!(floats(vec![10.0 / 3.0, 1e6 / 7.0]), ["3.33", "142857.14"]);
    assert_eq!(floats(vec![5.0, 0.00012]), ["5.00", "1.20e-4"]);
    assert_eq!(floats(vec![1e300, f64::NAN, f64::NEG_INFINITY]), ["1.00e300", "NaN", "-Infinity"]);
}

#[test]
fn a_value_can_neither_break_its_line_nor_steer_the_terminal() {
    let text = StringArray::from(vec!["two\nlines", "\u{1b}[2Jcleared"]);
    assert_eq!(cells(&[one(Arc::new(text))]), ["two\\nlines", "\\u{1b}[2Jcleared"]);
}

#[test]
fn machines_get_one_json_object_a_line() {
    let batch =
        departures(vec![TEN, i64::MIN], vec!["U\"A", "B6"], vec![7, 8], vec![Some(12.5), None]);
    let printed = printed(&[batch], true);
    let rows: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        serde_json::json!({
            "hour": "2013-01-01 10:00:00", "carrier": "U\"A", "n": 7, "mean_delay": 12.5
        }),
        serde_json::json!({
            "hour": "-9223372036854775808", "carrier": "B6", "n": 8, "mean_delay": null
        }),
    ];
    assert_eq!(rows, expected);
}

fn table(options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: "t".to_owned(),
        schema: Arc::new(Schema::empty()),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter(options.iter().copied()),
    }
}

#[test]
fn two_tables_on_one_screen_are_told_apart() {
    let (out, err) = (Screen::default(), Screen::default());
    let console = |screen: &Screen| Console::to(Box::new(screen.clone()));
    let factory = PrintFactory::new(console(&out), console(&err));
    let sink = |options: &[(&str, &str)]| factory.sink(&table(options)).unwrap();
    let (a, b) = (sink(&[]), sink(&[("print-identifier", "late")]));
    let row = one(Arc::new(Int64Array::from(vec![1])));
    // Two shards of the first sink share a header.
    for sink in [&a, &a, &b, &a] {
        writer(sink.as_ref(), false).write(&row.clone().into()).unwrap();
    }
    assert_eq!(out.text(), "v\n─\n1\n1\n\nlate> v\nlate> ─\nlate> 1\n\nv\n─\n1\n");
    writer(sink(&[("standard-error", "true")]).as_ref(), false).write(&row.clone().into()).unwrap();
    assert_eq!(err.text(), "v\n─\n1\n");
    let wrong = factory.sink(&table(&[("standard-error", "perhaps")])).err().unwrap();
    assert_eq!(wrong.wrong_option(), Some("standard-error"));
    assert!(factory.source(&table(&[])).is_err());
}

#[test]
fn a_reader_that_leaves_is_told_from_a_full_disk() {
    let fail = |kind| {
        let print = Print::to(Box::new(Failing(kind)));
        writer(&print, false).write(&one(Arc::new(Int64Array::from(vec![1]))).into()).unwrap_err()
    };
    assert!(reader_is_gone(&fail(io::ErrorKind::BrokenPipe).at("sink out")));
    let full = fail(io::ErrorKind::StorageFull);
    assert!(!reader_is_gone(&full) && full.to_string().contains("cannot write"), "{full}");
}

#[test]
fn nothing_is_staged_because_everything_is_delivered() {
    let print = Print::to(Box::new(Screen::default()));
    let blackhole = BlackholeFactory.sink(&table(&[])).unwrap();
    for sink in [&print as &dyn Sink, blackhole.as_ref(), &Blackhole] {
        assert_eq!(sink.guarantee(true).delivery, Delivery::AtLeastOnce);
        let mut writer = writer(sink, false);
        writer.write(&one(Arc::new(Int64Array::from(vec![1]))).into()).unwrap();
        assert_eq!(writer.poll_stage(1).unwrap(), Poll::Ready(Staged::default()));
    }
    assert!(BlackholeFactory.source(&table(&[])).is_err());
}
