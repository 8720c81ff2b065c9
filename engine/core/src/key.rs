//! Persisted key hashes and key groups.
//!
//! A key group is a fixed hash range of keys: the unit of state ownership. The hash is XXH3 with
//! seed 0 over a canonical byte form of the key's values and never changes, because checkpoints
//! depend on it.

use std::ops::Range;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::DataType;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::{Error, Result};

/// Number of a key group, below [`KEY_GROUPS`].
pub type KeyGroup = u16;

/// How many key groups there are: the most shards that can own state.
pub const KEY_GROUPS: KeyGroup = 128;

/// Hash of a null, at any type.
const NULL: u64 = 0x9e37_79b9_7f4a_7c15;

/// The key group of a key with this hash.
#[inline]
pub fn key_group(hash: u64) -> KeyGroup {
    (hash % u64::from(KEY_GROUPS)) as KeyGroup
}

/// The shard that owns a key group.
#[inline]
pub fn owner(key_group: KeyGroup, shards: usize) -> usize {
    usize::from(key_group) * shards / usize::from(KEY_GROUPS)
}

/// The key groups that a shard owns.
pub fn owned(shard: usize, shards: usize) -> Range<KeyGroup> {
    let start = |shard: usize| (shard * usize::from(KEY_GROUPS)).div_ceil(shards) as KeyGroup;
    start(shard)..start(shard + 1)
}

/// Hash of each row's key. With no columns every row has the same key.
///
/// Equal keys have equal hashes whatever the physical form: strings hash alike as `Utf8`, `Utf8View`
/// and dictionaries; `-0.0` hashes as `0.0`, and all NaNs alike.
///
/// # Errors
/// A column of a type that cannot be a key.
pub fn hash_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0u64; rows];
    for column in columns {
        hash_column(column.as_ref(), &mut hashes)?;
    }
    Ok(hashes)
}

/// The hash of a key that is one integer, as [`hash_rows`] has it.
#[inline]
pub fn hash_integer(key: i64) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), 0)
}

/// Folds one column into the hashes of its rows.
fn hash_column(column: &dyn Array, hashes: &mut [u64]) -> Result<()> {
    fn primitive<T: ArrowPrimitiveType, B: AsRef<[u8]>>(
        column: &dyn Array,
        hashes: &mut [u64],
        bytes: impl Fn(T::Native) -> B,
    ) {
        let column: &PrimitiveArray<T> = column.as_primitive();
        fold(column, hashes, |row, seed| {
            xxh3_64_with_seed(bytes(column.value(row)).as_ref(), seed)
        });
    }
    /// Integers and times hash by value as an i64, so that widening a key keeps its owner.
    macro_rules! integers {
        ($($t:ty),*) => {
            match column.data_type() {
                $(t if *t == <$t>::DATA_TYPE || same_family::<$t>(t) => {
                    primitive::<$t, _>(column, hashes, |v| (v as i64).to_le_bytes());
                    return Ok(());
                })*
                _ => {}
            }
        };
    }
    integers!(
        Int8Type,
        Int16Type,
        Int32Type,
        Int64Type,
        UInt8Type,
        UInt16Type,
        UInt32Type,
        UInt64Type,
        Date32Type,
        Date64Type,
        Time32SecondType,
        Time32MillisecondType,
        Time64MicrosecondType,
        Time64NanosecondType,
        TimestampSecondType,
        TimestampMillisecondType,
        TimestampMicrosecondType,
        TimestampNanosecondType,
        DurationSecondType,
        DurationMillisecondType,
        DurationMicrosecondType,
        DurationNanosecondType
    );
    match column.data_type() {
        DataType::Float16 => primitive::<Float16Type, _>(column, hashes, |v| {
            canonical_float(f64::from(v)).to_le_bytes()
        }),
        DataType::Float32 => primitive::<Float32Type, _>(column, hashes, |v| {
            canonical_float(f64::from(v)).to_le_bytes()
        }),
        DataType::Float64 => {
            primitive::<Float64Type, _>(column, hashes, |v| canonical_float(v).to_le_bytes());
        }
        DataType::Decimal128(_, _) => {
            primitive::<Decimal128Type, _>(column, hashes, i128::to_le_bytes);
        }
        DataType::Decimal256(_, _) => {
            primitive::<Decimal256Type, _>(column, hashes, |v| v.to_le_bytes());
        }
        DataType::Boolean => {
            let column = column.as_boolean();
            fold(column, hashes, |row, seed| {
                xxh3_64_with_seed(&[u8::from(column.value(row))], seed)
            });
        }
        DataType::Null => fold(column, hashes, |_, seed| seed),
        DataType::Utf8 => {
            bytes(column, hashes, |row| column.as_string::<i32>().value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            bytes(column, hashes, |row| column.as_string::<i64>().value(row).as_bytes());
        }
        DataType::Utf8View => {
            let view = column.as_string_view();
            bytes(column, hashes, |row| view.value(row).as_bytes());
        }
        DataType::Binary => bytes(column, hashes, |row| column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(column, hashes, |row| column.as_binary::<i64>().value(row)),
        DataType::BinaryView => {
            let view = column.as_binary_view();
            bytes(column, hashes, |row| view.value(row));
        }
        DataType::FixedSizeBinary(_) => {
            let fixed = column.as_fixed_size_binary();
            bytes(column, hashes, |row| fixed.value(row));
        }
        DataType::Dictionary(_, values) => {
            let plain = arrow::compute::cast(column, values)?;
            hash_column(plain.as_ref(), hashes)?;
        }
        DataType::Struct(_) => hash_struct(column, hashes)?,
        DataType::List(_) => hash_lists(column, hashes, |row| column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => {
            hash_lists(column, hashes, |row| column.as_list::<i64>().value(row))?;
        }
        other => {
            return Err(Error::configuration(format!("a column of type {other} cannot be a key")));
        }
    }
    Ok(())
}

/// Whether `t` is the type `T` up to its time zone.
fn same_family<T: ArrowPrimitiveType>(t: &DataType) -> bool {
    match (t, &T::DATA_TYPE) {
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => a == b,
        _ => false,
    }
}

fn canonical_float(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

fn bytes<'a>(column: &dyn Array, hashes: &mut [u64], value: impl Fn(usize) -> &'a [u8]) {
    fold(column, hashes, |row, seed| xxh3_64_with_seed(value(row), seed));
}

/// Folds rows into hashes: the hash so far seeds the hash of the row's value.
fn fold(column: &dyn Array, hashes: &mut [u64], hash: impl Fn(usize, u64) -> u64) {
    for (row, seed) in hashes.iter_mut().enumerate() {
        *seed = if column.is_valid(row) { hash(row, *seed) } else { seed.rotate_left(5) ^ NULL };
    }
}

fn hash_struct(column: &dyn Array, hashes: &mut [u64]) -> Result<()> {
    let mut fields = hashes.to_vec();
    for field in column.as_struct().columns() {
        hash_column(field.as_ref(), &mut fields)?;
    }
    fold(column, hashes, |row, seed| xxh3_64_with_seed(&fields[row].to_le_bytes(), seed));
    Ok(())
}

fn hash_lists(
    column: &dyn Array,
    hashes: &mut [u64],
    list: impl Fn(usize) -> ArrayRef,
) -> Result<()> {
    let mut lists = Vec::with_capacity(hashes.len());
    for row in 0..column.len() {
        let values = list(row);
        let items = hash_rows(std::slice::from_ref(&values), values.len())?;
        let bytes: Vec<u8> = items.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        lists.push(xxh3_64(&bytes));
    }
    fold(column, hashes, |row, seed| xxh3_64_with_seed(&lists[row].to_le_bytes(), seed));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn key_groups_are_owned_by_exactly_one_shard() {
        for shards in 1..=usize::from(KEY_GROUPS) {
            for group in 0..KEY_GROUPS {
                let owners: Vec<_> =
                    (0..shards).filter(|s| owned(*s, shards).contains(&group)).collect();
                assert_eq!(owners, [owner(group, shards)]);
            }
        }
    }

    #[test]
    fn hashes_are_fixed_for_ever() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec!["a", "b"])),
        ];
        let seeded = xxh3_64_with_seed(b"a", xxh3_64_with_seed(&1i64.to_le_bytes(), 0));
        let hashes = hash_rows(&columns, 2).unwrap();
        assert_eq!(hashes[0], seeded);
        assert_eq!(hashes, [13_213_116_439_985_672_097, 8_772_451_577_997_710_365]);
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX]));
        let alone = [i64::MIN, -1, 0, 1, i64::MAX].map(hash_integer);
        assert_eq!(hash_rows(&[integers], 5).unwrap(), alone);
    }

    #[test]
    fn equal_keys_hash_alike_in_every_physical_form() {
        let hash = |column: ArrayRef| hash_rows(&[column], 2).unwrap();
        let text = ["orders", "payments-of-a-longer-name"];
        assert_eq!(
            hash(Arc::new(StringArray::from(text.to_vec()))),
            hash(Arc::new(StringViewArray::from(text.to_vec())))
        );
        assert_eq!(
            hash(Arc::new(Int32Array::from(vec![-7, 7]))),
            hash(Arc::new(Int64Array::from(vec![-7, 7])))
        );
        let zeros = hash(Arc::new(Float64Array::from(vec![0.0, -0.0])));
        assert_eq!(zeros[0], zeros[1]);
    }
}
