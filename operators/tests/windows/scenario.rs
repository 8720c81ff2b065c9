//! Random rows, windows and keys.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_functions_aggregate::{average, count, min_max, sum};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal, cast};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_operators::{AggregateSpec, WindowAggregate, WindowAggregateSpec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tumbling,
    Hopping,
    Cumulating,
    Session,
}

/// How the key columns are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    None,
    View,
    TextAndNumber,
    Number,
    Float,
    Dictionary,
}

/// What is aggregated next to `count(*)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    Integers,
    Doubles,
    None,
}

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub time: Option<i64>,
    /// What the row's split had reached before it.
    pub floor: i64,
    pub key: [Option<i64>; 2],
    pub value: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub kind: Kind,
    pub size: i64,
    pub step: i64,
    pub offset: i64,
    pub keys: Keys,
    pub values: Values,
    pub splits: Vec<Vec<Row>>,
    pub bound: i64,
}

impl Scenario {
    pub fn random(kind: Kind, rng: &mut ChaCha8Rng) -> Self {
        let step = rng.random_range(1..8);
        let slices = match kind {
            Kind::Tumbling | Kind::Session => 1,
            _ => [2, 3, 7, 20, 90][rng.random_range(0..5)],
        };
        let keys = [
            Keys::None,
            Keys::View,
            Keys::TextAndNumber,
            Keys::Number,
            Keys::Float,
            Keys::Dictionary,
        ];
        let mut scenario = Self {
            kind,
            size: step * slices,
            step,
            offset: if kind == Kind::Session { 0 } else { rng.random_range(-50..50) },
            keys: keys[rng.random_range(0..keys.len())],
            values: [Values::Integers, Values::Doubles, Values::None][rng.random_range(0..3)],
            splits: Vec::new(),
            bound: rng.random_range(0..3 * step + 5),
        };
        let splits = rng.random_range(1..4);
        scenario.splits = (0..splits).map(|_| scenario.split(rng)).collect();
        scenario
    }

    fn split(&self, rng: &mut ChaCha8Rng) -> Vec<Row> {
        let rows = rng.random_range(0..120);
        let start = [0, -30, -1_000_000_000_000, 1_600_000_000_000_000][rng.random_range(0..4)];
        let mut now: i64 = if rng.random_bool(0.7) { 0 } else { start };
        let disorder = self.bound + self.size.min(30) + 2;
        let mut newest: Option<i64> = None;
        let keys = rng.random_range(1..6);
        // Where there are no nulls, rows may be counted in several slices at once.
        let nulls = if self.values == Values::None { 0.0 } else { 0.1 };
        let key =
            |rng: &mut ChaCha8Rng| (!rng.random_bool(nulls)).then(|| rng.random_range(0..keys));
        let mut sequence = Vec::with_capacity(rows);
        for _ in 0..rows {
            now += rng.random_range(0..=self.step);
            if rng.random_bool(0.01) {
                now += rng.random_range(0..100_000_000_000);
            }
            let time = match rng.random_range(0..100) {
                0 => None,
                1 => Some([i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 1][rng.random_range(0..4)]),
                2..20 => Some(now - rng.random_range(0..=disorder)),
                _ => Some(now - rng.random_range(0..=self.bound)),
            };
            let floor = newest.map_or(i64::MIN, |newest| newest - self.bound);
            let value = (!rng.random_bool(0.1)).then(|| rng.random_range(-5..10));
            sequence.push(Row { time, floor, key: [key(rng), key(rng)], value });
            if let Some(time) = time.filter(|time| time.abs_diff(0) < 1 << 62) {
                newest = Some(newest.map_or(time, |newest| newest.max(time)));
            }
        }
        sequence
    }

    pub fn window(&self) -> WindowSpec {
        WindowSpec::Aligned(match self.kind {
            Kind::Tumbling => AlignedWindow::tumbling(self.size, self.offset).unwrap(),
            Kind::Hopping => AlignedWindow::hopping(self.size, self.step, self.offset).unwrap(),
            Kind::Cumulating => {
                AlignedWindow::cumulating(self.size, self.step, self.offset).unwrap()
            }
            Kind::Session => return WindowSpec::session(self.step).unwrap(),
        })
    }

    /// `count(*)`, `sum(v)`, `min(v)`, `max(v)` and `count(v) FILTER (WHERE v > 0)` by key; of doubles
    /// `avg(v)` in place of the last; without values `count(*)` alone.
    pub fn aggregate(&self) -> WindowAggregate {
        let input = schema(self.keys);
        let mut value = column(&input, "v");
        if self.values == Values::Doubles {
            value = cast(value, &input, DataType::Float64).unwrap();
        }
        let positive: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(
            value.clone(),
            Operator::Gt,
            Arc::new(Literal::new(ScalarValue::Int64(Some(0)))),
        ));
        let mut aggregates = vec![
            call(count::count_udaf(), vec![], "n"),
            call(sum::sum_udaf(), vec![value.clone()], "sum"),
            call(min_max::min_udaf(), vec![value.clone()], "min"),
            call(min_max::max_udaf(), vec![value.clone()], "max"),
            AggregateSpec {
                filter: Some(positive),
                ..call(count::count_udaf(), vec![value.clone()], "positive")
            },
        ];
        match self.values {
            Values::Integers => {}
            Values::Doubles => aggregates[4] = call(average::avg_udaf(), vec![value], "mean"),
            Values::None => aggregates.truncate(1),
        }
        let names: &[&str] = match self.keys {
            Keys::None => &[],
            Keys::TextAndNumber => &["k0", "k1"],
            _ => &["k0"],
        };
        let keys = names.iter().map(|name| (column(&input, name), (*name).to_owned())).collect();
        let spec = WindowAggregateSpec { window: self.window(), time: 0, keys, aggregates, input };
        WindowAggregate::new(spec).unwrap()
    }
}

fn call(
    function: Arc<datafusion_expr::AggregateUDF>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    name: &str,
) -> AggregateSpec {
    AggregateSpec {
        function,
        args,
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
        name: name.to_owned(),
    }
}

fn column(schema: &SchemaRef, name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, schema.index_of(name).unwrap()))
}

fn schema(keys: Keys) -> SchemaRef {
    let first = match keys {
        Keys::None | Keys::View => DataType::Utf8View,
        Keys::TextAndNumber => DataType::Utf8,
        Keys::Number => DataType::Int64,
        Keys::Float => DataType::Float64,
        Keys::Dictionary => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
    };
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k0", first, true),
        Field::new("k1", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

/// A key's float: two zeros and two NaNs are among them.
pub fn float(key: i64, alternative: bool) -> f64 {
    match (key, alternative) {
        (0, true) => -0.0,
        (0, false) => 0.0,
        (1, true) => -f64::NAN,
        (1, false) => f64::NAN,
        (other, _) => other as f64,
    }
}

pub fn batch(keys: Keys, rows: &[Row]) -> RecordBatch {
    let text = || rows.iter().map(|row| row.key[0].map(|key| format!("key {key}")));
    let first: ArrayRef = match keys {
        Keys::None | Keys::View => Arc::new(text().collect::<StringViewArray>()),
        Keys::TextAndNumber => Arc::new(text().collect::<StringArray>()),
        Keys::Number => Arc::new(rows.iter().map(|row| row.key[0]).collect::<Int64Array>()),
        Keys::Float => Arc::new(
            rows.iter()
                .map(|row| row.key[0].map(|key| float(key, row.value > Some(3))))
                .collect::<Float64Array>(),
        ),
        Keys::Dictionary => {
            let text: Vec<_> = text().collect();
            Arc::new(text.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
        }
    };
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.time).collect();
    RecordBatch::try_new(
        schema(keys),
        vec![
            Arc::new(times),
            first,
            Arc::new(rows.iter().map(|row| row.key[1]).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        ],
    )
    .unwrap()
}
