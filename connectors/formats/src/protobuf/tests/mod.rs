//! The walk and its inverse against prost-reflect's messages, and what users see of either.

mod oracle;
mod random;
mod registry;
mod rules;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value as Json;

use self::random::Random;
use super::*;
use crate::testing::{check_counts, decode_all, encode_all};
use crate::{Decoder, Encoder};

const RICH: &str = include_str!("rich.proto");
const OLD: &str = include_str!("old.proto");

fn described(text: &str, name: &str) -> MessageDescriptor {
    let file = descriptors::of_text(text).unwrap();
    file.parent_pool().get_message_by_name(name).unwrap()
}

fn rich() -> MessageDescriptor {
    static RICH_MESSAGE: std::sync::LazyLock<MessageDescriptor> =
        std::sync::LazyLock::new(|| described(RICH, "rich.Rich"));
    RICH_MESSAGE.clone()
}

fn old() -> MessageDescriptor {
    static OLD_MESSAGE: std::sync::LazyLock<MessageDescriptor> =
        std::sync::LazyLock::new(|| described(OLD, "old.Old"));
    OLD_MESSAGE.clone()
}

fn decoder(message: &MessageDescriptor, schema: &SchemaRef) -> Box<dyn Decoder> {
    Box::new(ProtobufFormat::new(message.clone()).decoder(schema.clone()).unwrap())
}

fn encoder(message: &MessageDescriptor, schema: &SchemaRef) -> Box<dyn Encoder> {
    Box::new(ProtobufFormat::new(message.clone()).encoder(schema.clone()).unwrap())
}

fn rows_of(batch: &RecordBatch) -> Vec<Json> {
    let schema = batch.schema();
    (0..batch.num_rows()).map(|row| oracle::actual(batch.columns(), schema.fields(), row)).collect()
}

/// What prost-reflect makes of a payload, as a row; `None` where it, or the row, is refused.
fn judged(payload: &[u8], message: &MessageDescriptor, schema: &SchemaRef) -> Option<Json> {
    let decoded = DynamicMessage::decode(message.clone(), payload).ok()?;
    oracle::expected(&decoded, schema.fields())
}

/// A payload of up to three messages behind one another, which is one message: they merge.
fn payload(message: &MessageDescriptor, random: &mut Random) -> Vec<u8> {
    let pieces = 1 + random.below(3);
    (0..pieces).flat_map(|_| random::message(message, random, 4).encode_to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rows_are_what_the_messages_say(seed: u64) {
        for message in [rich(), old()] {
            let random = &mut Random(seed);
            let schema = schema(&message);
            let payloads: Vec<_> = (0..4).map(|_| payload(&message, random)).collect();
            let mut decoder = decoder(&message, &schema);
            let mut expected = Vec::new();
            for payload in &payloads {
                let judged = judged(payload, &message, &schema);
                let outcome = decoder.decode(payload);
                prop_assert_eq!(outcome.is_ok(), judged.is_some(), "{:?}", outcome);
                expected.extend(judged);
            }
            prop_assert_eq!(rows_of(&decoder.finish().unwrap()), expected);
        }
    }

    #[test]
    fn messages_are_what_the_rows_say(seed: u64) {
        for message in [rich(), old()] {
            let random = &mut Random(seed);
            let schema = schema(&message);
            let mut decoder = decoder(&message, &schema);
            for _ in 0..4 {
                // An old message may lack what it needs.
                let _ = decoder.decode(&payload(&message, random));
            }
            let batch = decoder.finish().unwrap();
            let payloads = encode_all(encoder(&message, &schema).as_mut(), &batch);
            let judged: Vec<_> =
                payloads.iter().map(|payload| judged(payload, &message, &schema).unwrap()).collect();
            prop_assert_eq!(&judged, &rows_of(&batch));
            let again = decode_all(decoder.as_mut(), payloads.iter().map(Vec::as_slice));
            prop_assert_eq!(rows_of(&again), judged);
        }
    }

    #[test]
    fn damage_costs_only_the_payload_that_has_it(seed: u64) {
        let random = &mut Random(seed);
        let message = rich();
        let schema = schema(&message);
        let mut payloads = Vec::new();
        for _ in 0..4 {
            let good = payload(&message, random);
            let mut bad = good.clone();
            for _ in 0..random.below(3) {
                if !bad.is_empty() {
                    let at = random.below(bad.len() as u64) as usize;
                    bad[at] ^= 1 << random.below(8);
                }
            }
            bad.truncate(random.below(bad.len() as u64 + 1) as usize);
            payloads.extend([good, bad]);
        }
        check_counts(&|| decoder(&message, &schema), &payloads);
        for payload in &payloads {
            let mut decoder = decoder(&message, &schema);
            if decoder.decode(payload).is_ok()
                && let Some(judged) = judged(payload, &message, &schema)
            {
                prop_assert_eq!(&rows_of(&decoder.finish().unwrap())[0], &judged);
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        check_counts(&|| decoder(&rich(), &schema(&rich())), &[bytes]);
    }
}

/// Where a table declares all of a message, the walk refuses the very payloads that prost-reflect does; and
/// numbers that exceed what the schema says, of which prost-reflect takes the lower half.
#[test]
fn damage_is_noticed_where_the_oracle_notices_it() {
    let (message, mut refused) = (described(RICH, "rich.Flat"), 0);
    let schema = schema(&message);
    for seed in 0..5_000 {
        let random = &mut Random(seed);
        let mut bytes = payload(&message, random);
        if bytes.is_empty() {
            continue;
        }
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        let outcome = decoder(&message, &schema).decode(&bytes);
        let judged = DynamicMessage::decode(message.clone(), bytes.as_slice()).map(drop);
        let cut = outcome.as_ref().is_err_and(|reason| reason.contains("written with a wider one"));
        assert!(cut || outcome.is_ok() == judged.is_ok(), "seed {seed}: {outcome:?}, {judged:?}");
        refused += usize::from(outcome.is_err());
    }
    assert!(refused > 1_000, "only {refused} were refused");
}
