//! The rules one by one, and what is said where they are broken.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::json;

use super::super::wire::WireType::{self, EndGroup, Fixed32, Fixed64, Length, StartGroup, Varint};
use super::super::wire::{put_bytes, put_tag, put_varint};
use super::*;

fn table(columns: &[(&str, DataType)]) -> SchemaRef {
    crate::testing::schema(columns)
}

fn of(text: &str) -> MessageDescriptor {
    described(&format!("syntax = \"proto3\"; {text}"), "M")
}

/// A message of hand-made fields: number, wire type, bytes of the value.
fn wire(fields: &[(u32, WireType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, wire_type, value) in fields {
        put_tag(*number, *wire_type, &mut out);
        match wire_type {
            Length => put_bytes(value, &mut out),
            _ => out.extend_from_slice(value),
        }
    }
    out
}

fn decoded(
    message: &MessageDescriptor,
    schema: &SchemaRef,
    payload: &[u8],
) -> Result<Json, String> {
    let mut decoder = decoder(message, schema);
    decoder.decode(payload)?;
    Ok(rows_of(&decoder.finish().unwrap()).remove(0))
}

fn refusal(message: &MessageDescriptor, columns: &[(&str, DataType)]) -> String {
    let outcome = ProtobufFormat::new(message.clone()).decoder(table(columns));
    outcome.map(drop).unwrap_err().to_string()
}

#[test]
fn a_table_declares_what_it_wants_and_the_rest_is_stepped_over() {
    let message = of("message M { int32 a = 1; string b = 2; M c = 3; }");
    let schema = table(&[("b", DataType::Utf8View)]);
    let payload = wire(&[
        (1, Varint, &[5]),
        (900, StartGroup, &[]),
        (7, Length, b"in the group"),
        (8, StartGroup, &[]),
        (8, EndGroup, &[]),
        (900, EndGroup, &[]),
        (2, Length, b"first"),
        (55, Fixed32, &[0; 4]),
        (56, Fixed64, &[0; 8]),
        (2, Length, b"last"),
    ]);
    assert_eq!(decoded(&message, &schema, &payload), Ok(json!({"b": "last"})));
    let unclosed = wire(&[(900, StartGroup, &[]), (901, EndGroup, &[])]);
    assert!(decoded(&message, &schema, &unclosed).unwrap_err().contains("never began"));
}

#[test]
fn presence_is_what_the_file_says() {
    let message = of("message M { int32 plain = 1; optional int32 maybe = 2; M inner = 3; \
                      repeated int32 many = 4; map<string, int32> pairs = 5; }");
    let schema = schema(&message);
    assert_eq!(
        decoded(&message, &schema, &[]).unwrap(),
        json!({"plain": "0", "maybe": null, "many": [], "pairs": {}})
    );

    let payload = wire(&[(1, Varint, &[9])]);
    assert_eq!(
        decoded(&old(), &super::super::schema(&old()), &payload).unwrap(),
        json!({"id": "9", "name": "anon", "count": null, "level": "HIGH", "plain_level": null,
               "packed": [], "loose": [], "ratio": "-1.5", "ok": true})
    );
    let reason = decoded(&old(), &super::super::schema(&old()), &[]).unwrap_err();
    assert_eq!(reason, "id: a required field is missing");
}

#[test]
fn a_oneof_is_its_members_and_the_name_of_the_one_that_is_set() {
    let message =
        of("message M { oneof kind { string created = 1; N deleted = 2; E archived = 3; } } \
                      message N { int32 id = 1; } message E {}");
    let schema = schema(&message);
    let row = |payload: &[u8]| decoded(&message, &schema, payload).unwrap();
    assert_eq!(row(&[]), json!({"kind": null, "created": null, "deleted": null}));
    let deleted = wire(&[(2, Length, &[8, 7])]);
    let expected = json!({"kind": "deleted", "created": null, "deleted": {"id": "7"}});
    assert_eq!(row(&deleted), expected);
    // The last member counts, and nothing of those before it is left.
    let twice = [wire(&[(1, Length, b"x")]), deleted.clone()].concat();
    assert_eq!(row(&twice), expected);
    let back = [deleted, wire(&[(1, Length, b"x")])].concat();
    assert_eq!(row(&back), json!({"kind": "created", "created": "x", "deleted": null}));
    // A message without fields has no column, and is named all the same.
    let archived = wire(&[(3, Length, b"")]);
    assert_eq!(row(&archived)["kind"], "archived");
    let mut decoder = decoder(&message, &schema);
    decoder.decode(&archived).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(encode_all(encoder(&message, &schema).as_mut(), &batch), [archived]);
    // Only the name is wanted.
    let kind = table(&[("kind", DataType::Utf8View)]);
    assert_eq!(decoded(&message, &kind, &back).unwrap(), json!({"kind": "created"}));
}

#[test]
fn bad_payloads_are_told_by_their_path() {
    let message = of("message M { repeated N items = 1; map<string, N> by = 2; uint64 big = 3; } \
                      message N { string text = 1; int32 n = 2; T at = 3; } message T { bool x = 1; }");
    let mut columns: Vec<Field> = schema(&message).fields().iter().map(|f| (**f).clone()).collect();
    columns[2] = Field::new("big", DataType::Int64, true);
    let schema = Arc::new(Schema::new(columns));
    let reason = |payload: &[u8]| decoded(&message, &schema, payload).unwrap_err();
    let good = wire(&[(1, Length, b"ok")]);
    let bad_text = wire(&[(1, Length, &[0xff])]);
    let items = wire(&[(1, Length, &good), (1, Length, &bad_text)]);
    assert_eq!(reason(&items), "items[1].text: invalid UTF-8");
    let short = wire(&[(1, Length, &[10, 5, b'x'])]);
    assert_eq!(reason(&short), "items[0].text: byte 4: 5 bytes are wanted where 1 are left");
    let entry = wire(&[(1, Length, b"k"), (2, Length, &wire(&[(2, Length, b"x")]))]);
    let by = reason(&wire(&[(2, Length, &entry)]));
    assert!(by.starts_with("by{entry 0}.n: the payload has wire type 2 where the schema wants 0"));
    let mut big = wire(&[(3, Varint, &[])]);
    put_varint(u64::MAX, &mut big);
    assert!(reason(&big).starts_with("big: 18446744073709551615 exceeds a BIGINT"));
    for (payload, says) in [
        (&[0x08][..], "wire type 0"),
        (&[0x1a][..], "wire type 2"),
        (&[0x18, 0x80], "the payload ends within a varint"),
        (&[0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], "64 bits hold no varint"),
        (&[0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], "64 bits hold no varint"),
        (&[0x00], "no field's tag"),
        (&[0x0f], "no field's tag"),
        (&[0x24], "never began"),
        (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "bytes are wanted"),
    ] {
        assert!(reason(payload).contains(says), "{payload:?}: {}", reason(payload));
    }
}

#[test]
fn nesting_has_an_end() {
    let groups: Vec<u8> = std::iter::repeat_n(0x13, 100_000).collect();
    let message = of("message M { int32 a = 1; M b = 3; }");
    let deep = decoded(&message, &table(&[("a", DataType::Int32)]), &groups).unwrap_err();
    assert!(deep.contains("nested more than 100 deep"), "{deep}");
}

#[test]
fn numbers_without_a_name_stay_numbers_and_read_back() {
    let message = of("enum E { ZERO = 0; ONE = 1; ALSO_ONE = 1; option allow_alias = true; } \
                      message M { E e = 1; repeated E es = 2; }");
    let schema = schema(&message);
    let payload = wire(&[(1, Varint, &[1]), (2, Length, &[0, 1, 77])]);
    let row = decoded(&message, &schema, &payload).unwrap();
    assert_eq!(row, json!({"e": "ONE", "es": ["ZERO", "ONE", "77"]}));
    let mut decoder = decoder(&message, &schema);
    decoder.decode(&payload).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(encode_all(encoder(&message, &schema).as_mut(), &batch)[0], payload);
    let numbers = table(&[("e", DataType::Int32)]);
    assert_eq!(decoded(&message, &numbers, &payload).unwrap(), json!({"e": "1"}));
}

#[test]
fn times_have_columns_of_their_own() {
    const IMPORTS: &str = "import \"google/protobuf/timestamp.proto\"; \
                           import \"google/protobuf/duration.proto\";";
    let message = of(&format!(
        "{IMPORTS} message M {{ google.protobuf.Timestamp at = 1; google.protobuf.Duration took = 2; }}"
    ));
    let mut before_1970 = wire(&[(1, Varint, &[])]);
    put_varint(-1i64 as u64, &mut before_1970);
    before_1970.extend([0x10, 1]);
    let second_and_a_half = [0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
    let payload = wire(&[(1, Length, &before_1970), (2, Length, &second_and_a_half)]);
    let row = |columns: &[(&str, DataType)]| decoded(&message, &table(columns), &payload).unwrap();
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(
        row(&[("at", micros.clone()), ("took", DataType::Int64)]),
        json!({"at": "-1000000", "took": "1500000"})
    );
    let parts = vec![
        Field::new("seconds", DataType::Int64, true),
        Field::new("nanos", DataType::Int32, true),
    ];
    assert_eq!(
        row(&[("at", DataType::Struct(Fields::from(parts)))]),
        json!({"at": {"seconds": "-1", "nanos": "1"}})
    );
    let no_time = wire(&[(1, Length, &[0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03])]);
    let reason = decoded(&message, &table(&[("at", micros.clone())]), &no_time).unwrap_err();
    assert_eq!(reason, "at: 1000000000 nanos are no fraction of a second");
    let mut far = wire(&[(1, Varint, &[])]);
    put_varint(i64::MAX as u64, &mut far);
    let far = wire(&[(1, Length, &far)]);
    let reason = decoded(&message, &table(&[("at", micros)]), &far).unwrap_err();
    assert!(reason.contains("is not a valid TIMESTAMP"), "{reason}");
}

#[test]
fn a_table_that_does_not_fit_is_told_why_and_what_would() {
    let message = of("import \"google/protobuf/timestamp.proto\"; \
                      message M { int64 amount = 1; repeated string tags = 2; N inner = 3; \
                      google.protobuf.Timestamp at = 4; map<int32, N> by = 5; oneof kind { bool a = 6; } } \
                      message N { double x = 1; uint64 n = 2; }");
    let inner = |name: &str, data_type: DataType| {
        DataType::Struct(vec![Field::new(name, data_type, true)].into())
    };
    for (column, data_type, says) in [
        (
            "amonut",
            DataType::Int64,
            "column 'amonut': message M has no such field: did you mean 'amount'?",
        ),
        ("zzz", DataType::Int64, "it has amount, tags, inner, at, by, a, kind"),
        (
            "amount",
            DataType::Int32,
            "column 'amount' is INT, and field 'amount' of message M is int64: declare it BIGINT",
        ),
        ("tags", DataType::Utf8View, "is repeated string: declare it ARRAY<…>"),
        ("inner", DataType::Utf8View, "is N: declare it ROW<…>"),
        ("inner", inner("y", DataType::Float64), "column 'inner.y': message N has no such field"),
        ("inner", inner("x", DataType::Float32), "column 'inner.x' is FLOAT"),
        ("inner", inner("n", DataType::Int32), "declare it DECIMAL(20, 0) or BIGINT"),
        ("at", DataType::Int64, "declare it TIMESTAMP, TIMESTAMP_LTZ or ROW"),
        ("by", DataType::Utf8View, "is map<int32, N>: declare it MAP<…>"),
        ("kind", DataType::Int32, "which member of a oneof is set: declare it STRING"),
    ] {
        let refused = refusal(&message, &[(column, data_type)]);
        assert!(refused.contains(says), "{refused}");
    }
    let group = refusal(&old(), &[("id", DataType::Int32), ("extra", inner("a", DataType::Int32))]);
    assert!(group.contains("groups are not read"), "{group}");
}

#[test]
fn rows_that_are_no_message_are_permanent_errors_by_path() {
    let required = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, true)]));
    let error = |message: &MessageDescriptor, schema: &SchemaRef, row: Json| {
        let mut rows = crate::decoder("json", schema.clone(), &Options::default()).unwrap();
        rows.decode(row.to_string().as_bytes()).unwrap();
        let batch = rows.finish().unwrap();
        let error = encoder(message, schema).encode(&batch, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), tidemill_core::ErrorKind::Permanent);
        error.to_string()
    };
    let says = error(&old(), &required, json!({}));
    assert_eq!(says, "row 0 is no such message: id: a required field is null");
    let message =
        of("enum E { ZERO = 0; } message M { E e = 1; uint32 n = 2; repeated int32 xs = 3; \
                      oneof kind { string a = 4; string b = 5; } }");
    let schema = schema(&message);
    for (row, says) in [
        (json!({"e": "TWO"}), "e: 'TWO' is not in the enum"),
        (json!({"n": -1}), "n: -1 exceeds the field's type"),
        (json!({"xs": [1, null]}), "xs[1]: lists and maps of messages hold no null"),
        (json!({"a": "x", "b": "y"}), "kind: 'a' and 'b' are both set"),
        (json!({"kind": "c"}), "kind: 'c' is no member of the oneof"),
    ] {
        let error = error(&message, &schema, row);
        assert!(error.ends_with(says), "{error}");
    }
}

#[test]
fn columns_of_a_message_are_printed_as_sql_says_them() {
    let message = of("import \"google/protobuf/timestamp.proto\"; message M { uint64 id = 1; \
                      map<string, N> by = 2; repeated bytes raw = 3; google.protobuf.Timestamp at = 4; \
                      M again = 5; oneof kind { N n = 6; } } message N { int32 x = 1; }");
    let schema = schema(&message);
    let types: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), sql_type(field.data_type())))
        .collect();
    assert_eq!(
        types,
        [
            "id DECIMAL(20, 0)",
            "by MAP<STRING, ROW<`x` INT>>",
            "raw ARRAY<BYTES>",
            "at TIMESTAMP_LTZ(6)",
            "kind STRING",
            "n ROW<`x` INT>",
        ]
    );
}

#[test]
fn descriptions_come_from_files_and_sets() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("shared")).unwrap();
    std::fs::write(
        path("shared/base.proto"),
        "syntax = \"proto3\"; package b; message B { int32 x = 1; }",
    )
    .unwrap();
    let main =
        "syntax = \"proto3\"; package a; import \"base.proto\"; message A { b.B inner = 1; }";
    std::fs::write(path("main.proto"), main).unwrap();
    let (file, shared, both) = (
        path("main.proto"),
        path("shared"),
        format!("{}, {}", folder.path().display(), path("shared")),
    );
    let parse = |pairs: &[(&str, &str)]| {
        let options =
            pairs.iter().map(|(name, value)| (format!("protobuf.{name}"), *value)).collect();
        ProtobufFormat::parse(&options)
    };
    let good = parse(&[("file", &file), ("import-path", &both), ("message", "a.A")]).unwrap();
    assert_eq!(sql_type(good.schema().unwrap().field(0).data_type()), "ROW<`x` INT>");

    let pool =
        descriptors::compile(Path::new(&file), &[folder.path().into(), shared.into()]).unwrap();
    std::fs::write(path("main.desc"), pool.encode_to_vec()).unwrap();
    let set = parse(&[("descriptor-set", &path("main.desc")), ("message", ".a.A")]).unwrap();
    assert_eq!(set.schema().unwrap(), good.schema().unwrap());

    std::fs::write(path("bad.proto"), "syntax = \"proto3\";\nmessage A { int32 x = ; }").unwrap();
    for (pairs, option, says) in [
        (vec![], "file", "needs 'protobuf.file' or 'protobuf.descriptor-set'"),
        (vec![("file", file.as_str())], "file", "base.proto"),
        (vec![("file", file.as_str()), ("import-path", &both)], "message", "is required"),
        (
            vec![("file", file.as_str()), ("import-path", &both), ("message", "a.C")],
            "message",
            "there is no message 'a.C'; there is b.B, a.A",
        ),
        (vec![("file", &path("bad.proto"))], "file", "does not compile"),
        (vec![("descriptor-set", &path("bad.proto"))], "descriptor-set", "no descriptor set"),
        (vec![("descriptor-set", &path("none"))], "descriptor-set", "cannot read"),
    ] {
        let error = parse(&pairs).unwrap_err();
        assert_eq!(error.wrong_option(), Some(format!("protobuf.{option}").as_str()), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
