//! Random tables, random cuts, and DataFusion beside.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{SortOptions, cast, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{RowConverter, SortField};
use datafusion_common::ScalarValue;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateExprBuilder;

use super::super::{Aggregate, AggregateSpec};
use super::TIME;

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A float that makes naive sums differ: any bits at all, or of common size.
pub fn wild(rng: &mut Rng) -> f64 {
    match rng.below(12) {
        0 => [f64::NAN, -f64::NAN, f64::INFINITY, -0.0, 0.0, f64::MAX, -f64::MAX, 5e-324]
            [rng.below(8)],
        1 => Some(f64::from_bits(rng.next())).filter(|x| x.is_finite()).unwrap_or(1.0),
        2 => 1e16,
        3 => -1e16,
        _ => (rng.below(2_000_000) as f64 - 1e6) / 7.0,
    }
}

/// A table of nullable columns of many types; `wild` with floats that are no tame numbers.
pub fn table(rng: &mut Rng, rows: usize, wildly: bool) -> RecordBatch {
    fn nullable<T>(rng: &mut Rng, rows: usize, value: impl Fn(&mut Rng) -> T) -> Vec<Option<T>> {
        (0..rows).map(|_| (rng.below(6) > 0).then(|| value(rng))).collect()
    }
    let float = |rng: &mut Rng| match wildly {
        true => wild(rng),
        false => (rng.below(2_000_000) as f64 - 1e6) / 7.0,
    };
    let times: Vec<i64> = (0..rows).map(|_| rng.below(rows) as i64).collect();
    let i64s = nullable(rng, rows, |rng| rng.below(40) as i64 - 20);
    let text = nullable(rng, rows, |rng| format!("text of some length {}", rng.below(30)));
    let floats = nullable(rng, rows, float);
    let f32s = nullable(rng, rows, |rng| float(rng) as f32);
    let bytes: Vec<_> =
        text.iter().map(|t| t.as_ref().map(|t| t.as_bytes()[5..].to_vec())).collect();
    let decimal = nullable(rng, rows, |rng| i128::from(rng.next() as i32));
    let decimal = Decimal128Array::from(decimal).with_precision_and_scale(12, 2).unwrap();
    let list =
        nullable(rng, rows, |rng| (0..rng.below(3)).map(|n| Some(n as i64)).collect::<Vec<_>>());
    let pairs: ArrayRef =
        Arc::new(Int64Array::from(nullable(rng, rows, |rng| rng.below(5) as i64)));
    let inner: ArrayRef = Arc::new(Float64Array::from(nullable(rng, rows, float)));
    let number = Field::new("n", DataType::Int64, true);
    let float_field = Field::new("x", DataType::Float64, true);
    let weights: Vec<_> = (0..rows).map(|_| rng.below(9) as f64 + 1.0).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("time", Arc::new(TimestampMicrosecondArray::from(times))),
        ("i8", Arc::new(Int8Array::from(nullable(rng, rows, |rng| rng.below(9) as i8 - 4)))),
        ("u32", Arc::new(UInt32Array::from(nullable(rng, rows, |rng| rng.next() as u32 % 50)))),
        ("i64", Arc::new(Int64Array::from(i64s))),
        ("f32", Arc::new(Float32Array::from(f32s))),
        ("f64", Arc::new(Float64Array::from(floats))),
        ("decimal", Arc::new(decimal)),
        ("flag", Arc::new(BooleanArray::from(nullable(rng, rows, |rng| rng.below(2) == 0)))),
        ("text", Arc::new(StringViewArray::from(text.clone()))),
        ("utf8", Arc::new(StringArray::from(text))),
        ("bytes", Arc::new(bytes.iter().map(|b| b.as_deref()).collect::<BinaryViewArray>())),
        ("date", Arc::new(Date32Array::from(nullable(rng, rows, |rng| rng.below(99) as i32)))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(list))),
        ("pair", Arc::new(StructArray::from(vec![(Arc::new(number), pairs)]))),
        ("floats", Arc::new(StructArray::from(vec![(Arc::new(float_field), inner)]))),
        ("weight", Arc::new(Float64Array::from_iter_values(weights))),
    ];
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// A group for each row; the groups appear in order.
pub fn groups(rng: &mut Rng, rows: usize, groups: usize) -> Vec<usize> {
    (0..rows).map(|row| if row < groups { row } else { rng.below(groups) }).collect()
}

/// Numbers groups in order of appearance: an accumulator may take it that a group below the total
/// has appeared.
#[derive(Default)]
struct Numbers(Vec<usize>);

impl Numbers {
    fn of(&mut self, groups: &[usize]) -> Vec<usize> {
        let mut number = |group: &usize| {
            self.0.iter().position(|g| g == group).unwrap_or_else(|| {
                self.0.push(*group);
                self.0.len() - 1
            })
        };
        groups.iter().map(&mut number).collect()
    }
}

fn inputs(aggregate: &Aggregate, rows: &RecordBatch) -> (Vec<ArrayRef>, Option<BooleanArray>) {
    let value = |e: &Arc<dyn datafusion_physical_expr::PhysicalExpr>| {
        e.evaluate(rows).unwrap().into_array(rows.num_rows()).unwrap()
    };
    let filter = aggregate.filter().map(|filter| value(filter).as_boolean().clone());
    (aggregate.inputs().iter().map(value).collect(), filter)
}

pub fn update(
    aggregate: &Aggregate,
    accumulator: &mut dyn GroupsAccumulator,
    rows: &RecordBatch,
    groups: &[usize],
    total: usize,
) {
    let (values, filter) = inputs(aggregate, rows);
    accumulator.update_batch(&values, groups, filter.as_ref(), total).unwrap();
}

/// All rows into one accumulator.
pub fn at_once(
    aggregate: &Aggregate,
    rows: &RecordBatch,
    groups: &[usize],
    total: usize,
) -> ArrayRef {
    let mut accumulator = aggregate.accumulator().unwrap();
    update(aggregate, accumulator.as_mut(), rows, groups, total);
    accumulator.evaluate(EmitTo::All).unwrap()
}

/// Partial aggregates on their way: the group of each row, and the state columns.
type Partial = (Vec<usize>, Vec<ArrayRef>);

/// Rows in random order, cut at random into partial aggregates of random kinds, which are merged in
/// random order, some of them twice over.
pub fn in_pieces(
    aggregate: &Aggregate,
    rows: &RecordBatch,
    groups: &[usize],
    total: usize,
    rng: &mut Rng,
) -> ArrayRef {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    rng.shuffle(&mut order);
    let rows = take_record_batch(rows, &UInt32Array::from(order.clone())).unwrap();
    let groups: Vec<_> = order.iter().map(|row| groups[*row as usize]).collect();
    let mut partials: Vec<Partial> = vec![];
    let mut start = 0;
    while start < rows.num_rows() {
        let len = (1 + rng.below(120)).min(rows.num_rows() - start);
        let piece = rows.slice(start, len);
        partial(aggregate, &piece, &groups[start..start + len], rng, &mut partials);
        start += len;
    }
    rng.shuffle(&mut partials);
    let half = partials.split_off(rng.below(partials.len() + 1));
    for twice in half.chunks(3) {
        let mut accumulator = aggregate.accumulator().unwrap();
        let numbers = merge(aggregate, accumulator.as_mut(), twice);
        partials.push((numbers.0, accumulator.state(EmitTo::All).unwrap()));
    }
    rng.shuffle(&mut partials);
    let mut accumulator = aggregate.accumulator().unwrap();
    let numbers = merge(aggregate, accumulator.as_mut(), &partials);
    assert_eq!(numbers.0.len(), total);
    let front = accumulator.evaluate(EmitTo::First(rng.below(total))).unwrap();
    let back = accumulator.evaluate(EmitTo::All).unwrap();
    let results = arrow::compute::concat(&[&front, &back]).unwrap();
    let place = |group: usize| numbers.0.iter().position(|g| *g == group).unwrap() as u32;
    take(&results, &UInt32Array::from_iter_values((0..total).map(place)), None).unwrap()
}

/// The partial aggregates of a few rows, in one of the forms that they come in.
fn partial(
    aggregate: &Aggregate,
    rows: &RecordBatch,
    groups: &[usize],
    rng: &mut Rng,
    partials: &mut Vec<Partial>,
) {
    let mut accumulator = aggregate.accumulator().unwrap();
    if rng.below(4) == 0 {
        let (values, filter) = inputs(aggregate, rows);
        let state = accumulator.convert_to_state(&values, filter.as_ref()).unwrap();
        return partials.push((groups.to_vec(), state));
    }
    let mut local = Numbers::default();
    let middle = rng.below(rows.num_rows() + 1);
    let (front, back) = (rows.slice(0, middle), rows.slice(middle, rows.num_rows() - middle));
    let numbers = local.of(&groups[..middle]);
    update(aggregate, accumulator.as_mut(), &front, &numbers, local.0.len());
    let numbers = local.of(&groups[middle..]);
    update(aggregate, accumulator.as_mut(), &back, &numbers, local.0.len());
    let local = local.0;
    let first = rng.below(local.len() + 1);
    if first > 0 {
        let state = accumulator.state(EmitTo::First(first)).unwrap();
        partials.push((local[..first].to_vec(), state));
    }
    let state = accumulator.state(EmitTo::All).unwrap();
    partials.push((local[first..].to_vec(), state));
}

fn merge(
    aggregate: &Aggregate,
    accumulator: &mut dyn GroupsAccumulator,
    partials: &[Partial],
) -> Numbers {
    let mut numbers = Numbers::default();
    for (groups, state) in partials {
        let state = through_ipc(aggregate, state);
        let groups = numbers.of(groups);
        accumulator.merge_batch(&state, &groups, numbers.0.len()).unwrap();
    }
    numbers
}

/// State as a checkpoint writes and reads it.
fn through_ipc(aggregate: &Aggregate, state: &[ArrayRef]) -> Vec<ArrayRef> {
    let schema = Arc::new(Schema::new(aggregate.state_fields().to_vec()));
    let batch = RecordBatch::try_new(schema.clone(), state.to_vec()).unwrap();
    let mut bytes = vec![];
    let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    reader.next().unwrap().unwrap().columns().to_vec()
}

/// What DataFusion makes of the rows, sorted as the call says.
pub fn datafusion(
    spec: &AggregateSpec,
    aggregate: &Aggregate,
    rows: &RecordBatch,
    groups: &[usize],
    total: usize,
) -> ArrayRef {
    let args = &aggregate.call.args;
    let value = |e: &Arc<dyn datafusion_physical_expr::PhysicalExpr>, rows: &RecordBatch| {
        e.evaluate(rows).unwrap().into_array(rows.num_rows()).unwrap()
    };
    let function = AggregateExprBuilder::new(spec.function.clone(), args.clone())
        .schema(rows.schema())
        .alias("theirs")
        .order_by(spec.order_by.clone())
        .with_distinct(spec.distinct)
        .with_ignore_nulls(spec.ignore_nulls)
        .build()
        .unwrap();
    let mut keys: Vec<_> =
        spec.order_by.iter().map(|by| (value(&by.expr, rows), by.options)).collect();
    keys.push((rows.column(TIME).clone(), SortOptions::default()));
    keys.extend(args.iter().map(|arg| (value(arg, rows), SortOptions::default())));
    let order = sorted(&keys, rows.num_rows());
    let of_group = |group: usize| {
        let mine = |row: &&u32| groups[**row as usize] == group;
        let mut indices: Vec<u32> = order.iter().filter(mine).copied().collect();
        if let Some(filter) = &spec.filter {
            let passed = value(filter, rows);
            let passed = passed.as_boolean();
            indices.retain(|row| passed.is_valid(*row as usize) && passed.value(*row as usize));
        }
        let mine = take_record_batch(rows, &UInt32Array::from(indices)).unwrap();
        let mut accumulator = function.create_accumulator().unwrap();
        let seen = args.iter().chain(function.order_bys().iter().map(|by| &by.expr));
        let values: Vec<_> = seen.map(|e| value(e, &mine)).collect();
        accumulator.update_batch(&values).unwrap();
        accumulator.evaluate().unwrap()
    };
    ScalarValue::iter_to_array((0..total).map(of_group)).unwrap()
}

fn sorted(keys: &[(ArrayRef, SortOptions)], rows: usize) -> Vec<u32> {
    let field = |(column, options): &(ArrayRef, SortOptions)| {
        SortField::new_with_options(column.data_type().clone(), *options)
    };
    let converter = RowConverter::new(keys.iter().map(field).collect()).unwrap();
    let columns: Vec<_> = keys.iter().map(|(column, _)| column.clone()).collect();
    let compared = converter.convert_columns(&columns).unwrap();
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_by_key(|row| compared.row(*row as usize));
    order
}

/// Floats may differ by what DataFusion loses in rounding, everything else not at all.
pub fn same_but_for_rounding(ours: &ArrayRef, theirs: &ArrayRef, what: &str) {
    assert_eq!(ours.data_type(), theirs.data_type(), "{what}");
    if !ours.data_type().is_floating() {
        return assert_eq!(ours, theirs, "{what}");
    }
    let doubles = |array: &ArrayRef| cast(array, &DataType::Float64).unwrap();
    let (ours, theirs) = (doubles(ours), doubles(theirs));
    let pairs = ours.as_primitive::<arrow::datatypes::Float64Type>().iter();
    for (a, b) in pairs.zip(theirs.as_primitive::<arrow::datatypes::Float64Type>()) {
        let same = match (a, b) {
            (Some(a), Some(b)) => {
                a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
            }
            (a, b) => a == b,
        };
        assert!(same, "{what}: {a:?}, DataFusion says {b:?}");
    }
}
