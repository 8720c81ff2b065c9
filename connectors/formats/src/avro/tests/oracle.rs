//! What we write arrow-avro reads, and the other way round; no damage reaches a neighbour.

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroBinaryFormat;
use proptest::prelude::*;

use super::*;
use crate::registry::framing;
use crate::testing::{check_counts, nested_rows};

/// A schema for [`nested_rows`].
const NESTED: &str = r#"{"type":"record","name":"r","namespace":"n.s","fields":[
    {"name":"n","type":["null","long"]},
    {"name":"x","type":["double","null"]},
    {"name":"name","type":["null","string"]},
    {"name":"ok","type":["null","boolean"]},
    {"name":"ts","type":["null",{"type":"long","logicalType":"local-timestamp-micros"}]},
    {"name":"price","type":["null",
        {"type":"bytes","logicalType":"decimal","precision":30,"scale":4}]},
    {"name":"list","type":["null",{"type":"array","items":["null","int"]}]},
    {"name":"row","type":["null",{"type":"record","name":"inner","fields":[
        {"name":"n","type":["null","long"]},{"name":"name","type":["null","string"]}]}]}]}"#;

/// The rows of payloads as arrow-avro reads them, in the columns of `schema`.
fn oracle(writer: &str, payloads: &[Vec<u8>], schema: &SchemaRef) -> RecordBatch {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(1), AvroSchema::new(writer.to_owned())).unwrap();
    // Its string views (59.3) lose nulls: they come as text.
    let builder = ReaderBuilder::new().with_writer_schema_store(store);
    let mut decoder = builder.with_batch_size(payloads.len()).build_decoder().unwrap();
    for payload in payloads {
        let mut framed = Vec::new();
        framing::write_header(1, &mut framed);
        framed.extend_from_slice(payload);
        assert_eq!(decoder.decode(&framed).unwrap(), framed.len());
    }
    let rows = decoder.flush().unwrap().unwrap();
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast(column, field.data_type()).unwrap())
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_the_oracle_reads_as_it_was(rows in nested_rows()) {
        let avro = given(NESTED);
        let payloads = encode_all(&mut avro.encoder(rows.schema()).unwrap(), &rows);
        prop_assert_eq!(&oracle(NESTED, &payloads, &rows.schema()), &rows);
        let mut decoder = avro.decoder(rows.schema()).unwrap();
        prop_assert_eq!(decode_all(&mut decoder, payloads.iter().map(Vec::as_slice)), rows);
    }

    #[test]
    fn what_the_oracle_writes_is_read_as_it_was(rows in nested_rows()) {
        let writer = AvroSchema::try_from(rows.schema().as_ref()).unwrap().json_string;
        let builder = WriterBuilder::new(rows.schema().as_ref().clone());
        let mut encoder = builder.build_encoder::<AvroBinaryFormat>().unwrap();
        encoder.encode(&rows).unwrap();
        let payloads = encoder.flush();
        let payloads: Vec<_> = payloads.iter().collect();
        let mut decoder = given(&writer).decoder(rows.schema()).unwrap();
        prop_assert_eq!(decode_all(&mut decoder, payloads.iter().map(|p| p.as_ref())), rows);
    }

    #[test]
    fn the_schema_of_a_table_reads_what_it_has_written(rows in nested_rows()) {
        // Milliseconds are what such a schema keeps.
        let whole = cast(rows.column(4), &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)).unwrap();
        let mut columns = rows.columns().to_vec();
        columns[4] = cast(&whole, &micros()).unwrap();
        let whole = RecordBatch::try_new(rows.schema(), columns).unwrap();
        let avro = AvroFormat { schema: None, registry: None };
        let payloads = encode_all(&mut avro.encoder(whole.schema()).unwrap(), &whole);
        let mut decoder = avro.decoder(whole.schema()).unwrap();
        prop_assert_eq!(decode_all(&mut decoder, payloads.iter().map(Vec::as_slice)), whole);
    }

    #[test]
    fn damaged_payloads_cost_nothing_but_themselves(
        rows in nested_rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 20)
    ) {
        let avro = given(NESTED);
        let mut payloads = encode_all(&mut avro.encoder(rows.schema()).unwrap(), &rows);
        for (payload, (at, byte)) in payloads.iter_mut().zip(&damage) {
            let at = at.index(payload.len());
            if byte % 4 == 0 { payload.truncate(at) } else { payload[at] = *byte }
        }
        let columns = rows.schema();
        check_counts(&|| Box::new(avro.decoder(columns.clone()).unwrap()), &payloads);
    }

    #[test]
    fn garbage_never_panics(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..10),
        names in any::<bool>()
    ) {
        // Every field read, and every field passed over.
        let columns = if names { schema(&[("list", DataType::List(Arc::new(Field::new("item", DataType::Int32, true)))), ("price", DataType::Decimal128(30, 4))]) } else { schema(&[("other", DataType::Int64)]) };
        let avro = given(NESTED);
        check_counts(&|| Box::new(avro.decoder(columns.clone()).unwrap()), &payloads);
    }

    #[test]
    fn every_truncation_is_a_reason(rows in nested_rows()) {
        let avro = given(NESTED);
        let payloads = encode_all(&mut avro.encoder(rows.schema()).unwrap(), &rows);
        let mut decoder = avro.decoder(rows.schema()).unwrap();
        for end in 0..payloads[0].len() {
            prop_assert!(decoder.decode(&payloads[0][..end]).is_err());
        }
        decoder.decode(&payloads[0]).unwrap();
        prop_assert_eq!(decoder.finish().unwrap(), rows.slice(0, 1));
    }

    #[test]
    fn decimals_of_any_size_read_back(value in any::<i64>(), more in 0u32..3) {
        let value = i128::from(value) * 10i128.pow(9 * more);
        let decimals = arrow::array::Decimal128Array::from(vec![value]);
        let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(38, 3).unwrap());
        let rows = RecordBatch::try_from_iter_with_nullable([("d", decimals, true)]).unwrap();
        for of in [r#""type":"bytes""#, r#""type":"fixed","name":"f","size":17"#] {
            let writer = record(&format!(
                r#"{{"name":"d","type":{{{of},"logicalType":"decimal","precision":38,"scale":3}}}}"#
            ));
            let payloads = encode_all(&mut given(&writer).encoder(rows.schema()).unwrap(), &rows);
            let back = read(&writer, &[("d", DataType::Decimal128(38, 3))], &payloads[0]);
            prop_assert_eq!(&back, &rows);
        }
    }
}
