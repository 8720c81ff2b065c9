//! Frames of a registry: evolution, bad ids, and outages.

use arrow::datatypes::DataType;
use serde_json::json;
use tidemill_core::ErrorKind;
use tidemill_registry::{Running, Server};

use super::*;
use crate::registry::framing;

const V1: &str = "syntax = \"proto3\"; package shop; message Other { bool x = 1; } \
                  message Order { int64 id = 1; string note = 2; message Line { int32 n = 1; } }";

/// Of a later version: `id` has another number, `note` another name, `paid` is new.
const V2: &str = "syntax = \"proto3\"; package shop; message Order { int64 id = 9; string remark = 2; \
                  bool paid = 3; } message Other {}";

struct Shop {
    server: Running,
    registry: Registry,
}

impl Shop {
    fn open() -> Self {
        let server = Server::new().start("127.0.0.1:0").unwrap();
        let registry = Registry::new(RegistryConfig::new(&server.url()).unwrap()).unwrap();
        Self { server, registry }
    }

    fn register(&self, text: &str) -> u32 {
        let definition = Definition::new(SchemaKind::Protobuf, text);
        self.registry.register("orders-value", &definition).unwrap()
    }

    fn format(&self, more: &[(&str, &str)]) -> ProtobufFormat {
        let url = self.server.url();
        let limits = [("url", url.as_str()), ("deadline", "300 ms"), ("request-timeout", "200 ms")];
        let options = limits.iter().chain(more);
        let options = options.map(|(name, value)| (format!("protobuf-confluent.{name}"), *value));
        ProtobufFormat::parse_confluent(&options.collect()).unwrap()
    }
}

fn framed(id: u32, indexes: &[usize], message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    framing::write_header(id, &mut payload);
    framing::write_indexes(indexes, &mut payload);
    payload.extend_from_slice(message);
    payload
}

fn orders() -> SchemaRef {
    crate::testing::schema(&[
        ("id", DataType::Int64),
        ("note", DataType::Utf8View),
        ("paid", DataType::Boolean),
    ])
}

#[test]
fn every_writers_schema_is_read_by_the_names_in_it() {
    let shop = Shop::open();
    let (v1, v2) = (shop.register(V1), shop.register(V2));
    let first = framed(v1, &[1], &[8, 7, 0x12, 1, b'a']);
    let second = framed(v2, &[0], &[72, 8, 0x12, 1, b'b', 0x18, 1]);
    let mut decoder = shop.format(&[]).decoder(orders()).unwrap();
    let rows = rows_of(&decode_all(&mut decoder, [&first, &second, &first].map(|p| p.as_slice())));
    let old = json!({"id": "7", "note": "a", "paid": null});
    assert_eq!(rows, [old.clone(), json!({"id": "8", "note": null, "paid": true}), old]);
    let asked = shop.server.requests().iter().filter(|r| r.starts_with("GET /schemas")).count();
    assert_eq!(asked, 2, "each schema is fetched once");
}

#[test]
fn payloads_that_fit_no_schema_cost_only_themselves() {
    let shop = Shop::open();
    let v1 = shop.register(V1);
    let avro = Definition::new(SchemaKind::Avro, "\"string\"");
    let avro = shop.registry.register("strings-value", &avro).unwrap();
    let only = shop.format(&[("message", "shop.Order")]);
    let mut decoder = only.decoder(orders()).unwrap();
    for (payload, says) in [
        (framed(v1, &[2], &[]), "message indexes [2] lead to no message"),
        (framed(v1, &[1, 0], &[]), "the message is a shop.Order.Line, and not a shop.Order"),
        (framed(v1, &[0], &[]), "the message is a shop.Other"),
        (framed(avro, &[0], &[]), "is AVRO, and no Protobuf"),
        (framed(4_711, &[0], &[]), "no schema with id 4711"),
        (framed(v1, &[1], &[8]), "id: byte 1: the payload ends within a varint"),
        (b"{\"id\": 1}".to_vec(), "the first byte is 0x7b"),
        (vec![0, 0, 0], "3 bytes"),
        (vec![], "empty"),
    ] {
        let reason = decoder.decode(&payload).unwrap_err();
        assert!(reason.contains(says), "{reason}");
        decoder.decode(&framed(v1, &[1], &[8, 1])).unwrap();
    }
    assert_eq!(decoder.finish().unwrap().num_rows(), 9);
    let mut mistyped =
        shop.format(&[]).decoder(crate::testing::schema(&[("id", DataType::Utf8View)])).unwrap();
    let reason = mistyped.decode(&framed(v1, &[1], &[8, 1])).unwrap_err();
    assert!(reason.contains(&format!("schema {v1}: column 'id' is STRING")), "{reason}");
}

#[test]
fn an_outage_is_no_bad_record_and_passes() {
    let shop = Shop::open();
    let v1 = shop.register(V1);
    let payload = framed(v1, &[1], &[8, 1]);
    let mut decoder = shop.format(&[]).decoder(orders()).unwrap();
    shop.server.fail_next(usize::MAX, 503);
    decoder.decode(&payload).unwrap_err();
    let asked = shop.server.requests().len();
    decoder.decode(&payload).unwrap_err();
    assert_eq!(shop.server.requests().len(), asked, "one outage is waited out once");
    assert_eq!(decoder.finish().unwrap_err().kind(), ErrorKind::Transient);
}

#[test]
fn a_sink_registers_its_file_or_takes_the_latest_schema() {
    let shop = Shop::open();
    let subject = ("subject", "orders-value");
    let no_rows = RecordBatch::new_empty(orders());
    let mut encoder = shop.format(&[subject]).encoder(orders()).unwrap();
    let missing = encoder.encode(&no_rows, &mut |_| {}).unwrap_err();
    assert!(missing.to_string().contains("has no schema"), "{missing}");
    let nowhere = shop.format(&[]).encoder(orders()).map(drop).unwrap_err();
    assert_eq!(nowhere.wrong_option(), Some("protobuf-confluent.subject"));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), V1).unwrap();
    let path = file.path().to_str().unwrap();
    let named = ("message", "shop.Order");
    let columns = crate::testing::schema(&[("id", DataType::Int64)]);
    let rows = |decoder: &mut dyn Decoder, payload: &[u8]| decode_all(decoder, [payload]);
    let plain = ProtobufFormat::new(described(V1, "shop.Order"));
    let batch = rows(&mut plain.decoder(columns.clone()).unwrap(), &[8, 5]);
    for more in [&[subject, named, ("file", path)][..], &[subject, named]] {
        let format = shop.format(more);
        let payloads = encode_all(&mut format.encoder(columns.clone()).unwrap(), &batch);
        assert_eq!(payloads, [framed(1, &[1], &[8, 5])]);
        let again = rows(&mut format.decoder(columns.clone()).unwrap(), &payloads[0]);
        assert_eq!(again, batch);
    }
    assert_eq!(shop.registry.latest("orders-value").unwrap().unwrap().definition.text, V1);

    let typo = crate::testing::schema(&[("idd", DataType::Int64)]);
    let mut decoder = shop.format(&[subject, named]).decoder(typo.clone()).unwrap();
    decoder.decode(&framed(1, &[1], &[8, 5])).unwrap_err();
    let refused = decoder.finish().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Configuration);
    assert!(refused.to_string().contains("did you mean 'id'?"), "{refused}");
    let offline = shop.format(&[subject, named, ("file", path)]);
    let asked = shop.server.requests().len();
    assert!(offline.encoder(typo).is_err(), "a file is checked without the registry");
    assert_eq!(shop.server.requests().len(), asked);
    let columns = shop.format(&[subject, named]).schema().unwrap();
    assert_eq!(columns.fields().len(), 2);
}

#[test]
fn imports_come_from_the_registry() {
    use crate::registry::Reference;
    let shop = Shop::open();
    let base = "syntax = \"proto3\"; package base; message Money { int64 cents = 1; }";
    let base = Definition::new(SchemaKind::Protobuf, base);
    shop.registry.register("money", &base).unwrap();
    let order = Definition {
        references: vec![Reference {
            name: "money.proto".into(),
            subject: "money".into(),
            version: 1,
        }],
        ..Definition::new(
            SchemaKind::Protobuf,
            "syntax = \"proto3\"; import \"money.proto\"; import \"google/protobuf/timestamp.proto\"; \
             message Order { base.Money price = 1; google.protobuf.Timestamp at = 2; }",
        )
    };
    shop.registry.register("orders-value", &order).unwrap();
    let format = shop.format(&[("subject", "orders-value")]);
    let schema = format.schema().unwrap();
    assert_eq!(sql_type(schema.field(0).data_type()), "ROW<`cents` BIGINT>");
    let mut decoder = format.decoder(schema).unwrap();
    let batch = decode_all(&mut decoder, [framed(2, &[0], &[10, 2, 8, 42]).as_slice()]);
    assert_eq!(rows_of(&batch)[0]["price"], json!({"cents": "42"}));
}

#[test]
fn message_indexes_lead_to_messages_and_back() {
    let message = "message A { map<string, int32> m = 1; message B { message C {} } message D {} }";
    let file =
        descriptors::of_text(&format!("syntax = \"proto3\"; message Z {{}} {message}")).unwrap();
    for (name, indexes) in
        [("Z", &[0][..]), ("A", &[1]), ("A.B", &[1, 0]), ("A.B.C", &[1, 0, 0]), ("A.D", &[1, 1])]
    {
        let message = file.parent_pool().get_message_by_name(name).unwrap();
        assert_eq!(descriptors::indexes_of(&message), indexes);
        assert_eq!(descriptors::at_indexes(&file, indexes), Ok(message));
    }
}
