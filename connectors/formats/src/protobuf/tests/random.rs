//! Random messages of any description.

use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Splitmix64: enough for tests, and the same for the same seed for ever.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small, large and special numbers, each often.
    fn bits(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(4),
            1 => (self.below(300) as i64 - 150) as u64,
            2 => [u64::MAX, i64::MAX as u64, i64::MIN as u64, i32::MIN as u64]
                [self.below(4) as usize],
            _ => self.next() >> self.below(64),
        }
    }

    fn text(&mut self) -> String {
        let letters = ['a', 'Z', ' ', 'é', '😀', '\0', '"'];
        (0..self.below(20)).map(|_| letters[self.below(letters.len() as u64) as usize]).collect()
    }
}

/// A message of which about half the fields are set, nested at most `depth` deep.
pub(super) fn message(of: &MessageDescriptor, random: &mut Random, depth: u64) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    match of.full_name() {
        "google.protobuf.Timestamp" => {
            let seconds = random.below(200_000_000_000) as i64 - 100_000_000_000;
            time(&mut message, seconds, random.below(1_000_000_000) as i32);
            return message;
        }
        "google.protobuf.Duration" => {
            let sign = if random.below(2) == 0 { 1 } else { -1 };
            let seconds = random.below(315_576_000_000) as i64;
            time(&mut message, sign * seconds, sign as i32 * random.below(1_000_000_000) as i32);
            return message;
        }
        _ => {}
    }
    for field in of.fields() {
        let is_message = matches!(field.kind(), Kind::Message(_));
        if random.below(2) == 0 || (is_message && depth == 0) {
            continue;
        }
        let value = if field.is_map() {
            map(&field, random, depth)
        } else if field.is_list() {
            Value::List((0..random.below(4)).map(|_| single(&field, random, depth)).collect())
        } else {
            single(&field, random, depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn time(message: &mut DynamicMessage, seconds: i64, nanos: i32) {
    message.set_field_by_number(1, Value::I64(seconds));
    message.set_field_by_number(2, Value::I32(nanos));
}

fn map(field: &FieldDescriptor, random: &mut Random, depth: u64) -> Value {
    let Kind::Message(entry) = field.kind() else { panic!("maps have entries") };
    let mut entries = std::collections::HashMap::new();
    for _ in 0..random.below(4) {
        let key: MapKey =
            single(&entry.map_entry_key_field(), random, depth).into_map_key().unwrap();
        entries.insert(key, single(&entry.map_entry_value_field(), random, depth));
    }
    Value::Map(entries)
}

fn single(field: &FieldDescriptor, random: &mut Random, depth: u64) -> Value {
    let bits = random.bits();
    match field.kind() {
        Kind::Bool => Value::Bool(bits & 1 == 1),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(bits as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(bits as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(bits as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(bits),
        Kind::Float => Value::F32(if bits == 0 { -0.0 } else { bits as i64 as f32 / 3.0 }),
        Kind::Double => Value::F64(match bits {
            0 => -0.0,
            1 => f64::NAN,
            2 => f64::INFINITY,
            bits => bits as i64 as f64 / 7.0,
        }),
        Kind::String => Value::String(random.text()),
        Kind::Bytes => Value::Bytes(Bytes::from(random.text().into_bytes())),
        Kind::Enum(values) => {
            let known: Vec<i32> = values.values().map(|value| value.number()).collect();
            let unknown = random.below(5) == 0;
            let known = known[random.below(known.len() as u64) as usize];
            Value::EnumNumber(if unknown { bits as i32 } else { known })
        }
        Kind::Message(of) => Value::Message(message(&of, random, depth.saturating_sub(1))),
    }
}
