//! Data in a registry's frames, against a registry that runs.

use std::time::Duration;

use tidemill_core::ErrorKind;
use tidemill_registry::{Running, Server};

use super::*;
use crate::registry::framing;

fn start() -> (Running, Registry) {
    let server = Server::new().start("127.0.0.1:0").unwrap();
    let config = RegistryConfig::new(&server.url()).unwrap();
    let config = config.limits(Duration::from_secs(5), Duration::from_millis(1));
    (server, Registry::new(config).unwrap())
}

fn confluent(registry: &Registry, schema: Option<&str>) -> AvroFormat {
    let registry = AvroRegistry { registry: registry.clone(), subject: Some("t-value".into()) };
    AvroFormat { schema: schema.map(str::to_owned), registry: Some(registry) }
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    framing::write_header(id, &mut payload);
    payload.extend_from_slice(datum);
    payload
}

#[test]
fn each_record_is_read_by_the_schema_that_its_id_names() {
    let (server, registry) = start();
    let register = |fields: &str| {
        let definition = Definition::new(SchemaKind::Avro, record(fields));
        registry.register("t-value", &definition).unwrap()
    };
    let first = register(r#"{"name":"a","type":"int"}"#);
    let second = register(r#"{"name":"b","type":"string"},{"name":"a","type":["null","long"]}"#);
    let asked = server.requests().len();
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    let mut decoder = confluent(&registry, None).decoder(columns).unwrap();
    let (old, new) = (framed(first, &[2]), framed(second, &[2, b'x', 2, 4]));
    for payload in [&old, &new, &old] {
        decoder.decode(payload).unwrap();
    }
    assert!(decoder.decode(&new[..8]).unwrap_err().starts_with("a: the record ends"));
    assert!(decoder.decode(&new[..3]).unwrap_err().contains("frame"));
    assert!(decoder.decode(b"{}").unwrap_err().contains("0x7b"));
    decoder.decode(&new).unwrap();
    let rows = decoder.finish().unwrap();
    let a: Vec<_> = rows.column(0).as_primitive::<Int64Type>().iter().collect();
    let b: Vec<_> = rows.column(1).as_string_view().iter().collect();
    assert_eq!(a, [Some(1), Some(2), Some(1), Some(2)]);
    assert_eq!(b, [None, Some("x"), None, Some("x")]);
    assert_eq!(server.requests().len() - asked, 2, "a schema is asked for once");
}

#[test]
fn a_schema_that_does_not_fit_the_table_costs_only_its_records() {
    let (_server, registry) = start();
    let writer = record(r#"{"name":"a","type":"string"}"#);
    let id = registry.register("t-value", &Definition::new(SchemaKind::Avro, writer)).unwrap();
    let mut decoder =
        confluent(&registry, None).decoder(schema(&[("a", DataType::Int64)])).unwrap();
    let reason = decoder.decode(&framed(id, &[2, b'x'])).unwrap_err();
    assert!(reason.contains("a: the writer's schema has string"), "{reason}");
    assert_eq!(decoder.finish().unwrap().num_rows(), 0);
}

#[test]
fn an_unknown_id_is_a_reason_and_an_outage_is_nobodys_record() {
    let (server, registry) = start();
    let columns = schema(&[("a", DataType::Int64)]);
    let mut decoder = confluent(&registry, None).decoder(columns).unwrap();
    let reason = decoder.decode(&framed(77, &[2])).unwrap_err();
    assert!(reason.contains("no schema with id 77"), "{reason}");
    assert_eq!(decoder.finish().unwrap().num_rows(), 0);

    let fields = r#"{"name":"a","type":"long"}"#;
    let known = Definition::new(SchemaKind::Avro, record(fields));
    let known = framed(registry.register("t-value", &known).unwrap(), &[2]);
    decoder.decode(&known).unwrap();
    server.fail_next(usize::MAX, 500);
    decoder.decode(&framed(78, &[2])).unwrap_err();
    let asked = server.requests().len();
    decoder.decode(&framed(79, &[2])).unwrap_err();
    assert_eq!(server.requests().len(), asked, "one outage is waited out once");
    assert_eq!(decoder.finish().unwrap_err().kind(), ErrorKind::Transient);
    // It is empty now: what could be read is not there twice when it is read again.
    decoder.decode(&known).unwrap();
    assert_eq!((decoder.len(), decoder.finish().unwrap().num_rows()), (1, 1));
}

#[test]
fn what_a_sink_writes_a_source_reads() {
    let (_server, registry) = start();
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    let a = arrow::array::Int64Array::from(vec![Some(1), None]);
    let b = arrow::array::StringViewArray::from(vec![None, Some("x")]);
    let rows = RecordBatch::try_new(columns.clone(), vec![Arc::new(a), Arc::new(b)]).unwrap();
    let avro = confluent(&registry, None);
    let payloads = encode_all(&mut avro.encoder(columns.clone()).unwrap(), &rows);
    let latest = registry.latest("t-value").unwrap().unwrap();
    assert_eq!(framing::split(&payloads[0]).unwrap().0, latest.id);
    let mut decoder = avro.decoder(columns.clone()).unwrap();
    assert_eq!(decode_all(&mut decoder, payloads.iter().map(Vec::as_slice)), rows);

    let nameless = AvroRegistry { registry, subject: None };
    let nameless = AvroFormat { schema: None, registry: Some(nameless) };
    let error = nameless.encoder(columns).err().unwrap();
    assert_eq!(error.wrong_option(), Some("avro-confluent.subject"));
}
