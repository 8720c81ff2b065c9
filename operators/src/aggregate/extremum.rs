//! Minimum and maximum of floats in a total order.
//!
//! Comparing floats as they are is no order: with a NaN among them the result depends on who comes
//! first. Here `-inf < … < -0.0 < 0.0 < … < inf < NaN`, all NaNs being one, as Arrow and PostgreSQL
//! sort them. Each value becomes an integer of the same order, so that there is nothing else to it.
//!
//! Invariant: the sentinels are the order of no value.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float16Type, Float32Type, Float64Type};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

use super::selection::selected;

/// Which end of the order is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extremum {
    Min,
    Max,
}

impl Extremum {
    /// An accumulator over values of a float type, without groups.
    pub fn accumulator(self, values: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match values {
            DataType::Float16 => Box::new(ExtremumAccumulator::<Float16Type>::new(self)),
            DataType::Float32 => Box::new(ExtremumAccumulator::<Float32Type>::new(self)),
            DataType::Float64 => Box::new(ExtremumAccumulator::<Float64Type>::new(self)),
            other => return internal_err!("{other} is not a float"),
        })
    }

    /// The state column of the aggregate called `name`.
    pub fn state_field(self, name: &str, values: &DataType) -> FieldRef {
        Arc::new(Field::new(format!("{name}[value]"), values.clone(), true))
    }

    /// What a group without values holds: all NaNs being one, it is the order of none.
    const fn sentinel(self) -> i64 {
        match self {
            Self::Min => i64::MAX,
            Self::Max => i64::MIN,
        }
    }
}

/// A float type whose values are doubles, too.
trait Float: ArrowPrimitiveType {
    fn widen(value: Self::Native) -> f64;
    /// Back from the double that it was widened to.
    fn narrow(value: f64) -> Self::Native;
}

impl Float for Float16Type {
    fn widen(value: Self::Native) -> f64 {
        f64::from(value)
    }

    fn narrow(value: f64) -> Self::Native {
        Self::Native::from_f64(value)
    }
}

impl Float for Float32Type {
    fn widen(value: f32) -> f64 {
        f64::from(value)
    }

    fn narrow(value: f64) -> f32 {
        value as f32
    }
}

impl Float for Float64Type {
    fn widen(value: f64) -> f64 {
        value
    }

    fn narrow(value: f64) -> f64 {
        value
    }
}

/// Place of a double in the total order.
#[inline(always)]
pub(super) fn order(x: f64) -> i64 {
    let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() } as i64;
    flip(bits)
}

/// The same of one that is a number.
#[inline(always)]
pub(super) fn order_of_number(x: f64) -> i64 {
    flip(x.to_bits() as i64)
}

/// The double that has a place in the total order.
pub(super) fn value_at(place: i64) -> f64 {
    f64::from_bits(flip(place) as u64)
}

/// Bits of a double to its place in the order, and back: negative numbers are mirrored.
#[inline(always)]
fn flip(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The smallest or greatest value by group.
#[derive(Debug)]
struct ExtremumAccumulator<T: ArrowPrimitiveType> {
    extremum: Extremum,
    places: Vec<i64>,
    values: PhantomData<T::Native>,
}

impl<T: Float> ExtremumAccumulator<T> {
    fn new(extremum: Extremum) -> Self {
        Self { extremum, places: Vec::new(), values: PhantomData }
    }

    fn update(
        &mut self,
        values: &PrimitiveArray<T>,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        better: impl Fn(i64, i64) -> i64,
    ) {
        match selected(values.nulls(), filter) {
            None => {
                for (group, x) in group_indices.iter().zip(values.values()) {
                    let place = &mut self.places[*group];
                    *place = better(*place, order(T::widen(*x)));
                }
            }
            Some(rows) => {
                for row in rows.set_indices() {
                    let place = &mut self.places[group_indices[row]];
                    *place = better(*place, order(T::widen(values.value(row))));
                }
            }
        }
    }
}

impl<T: Float> GroupsAccumulator for ExtremumAccumulator<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.places.resize(total_num_groups, self.extremum.sentinel());
        let values = values[0].as_primitive();
        match self.extremum {
            Extremum::Min => self.update(values, group_indices, opt_filter, i64::min),
            Extremum::Max => self.update(values, group_indices, opt_filter, i64::max),
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let none = self.extremum.sentinel();
        let places = emit_to.take_needed(&mut self.places);
        let value = |place: i64| (place != none).then(|| T::narrow(value_at(place)));
        Ok(Arc::new(places.into_iter().map(value).collect::<PrimitiveArray<T>>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut each = Self::new(self.extremum);
        let rows: Vec<_> = (0..values[0].len()).collect();
        each.update_batch(values, &rows, opt_filter, rows.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.places.capacity() * size_of::<i64>()
    }
}
