//! Data of one schema in the columns of another: the specification's rules of resolution.

use arrow::array::Array;

use super::*;

/// A decoder as a registry's would be: the writer's schema is not the reader's.
fn resolved(writer: &str, reader: &str, columns: Vec<Field>) -> Result<AvroDecoder, String> {
    let columns: SchemaRef = Arc::new(Columns::new(columns));
    let writer = Schema::parse(writer, &[]).unwrap();
    let reader = Arc::new(Schema::parse(reader, &[]).unwrap());
    let plan = plan::Plan::new(Arc::new(writer), columns.fields(), Some(&reader))?;
    Ok(AvroDecoder::of_plan(columns, plan).unwrap())
}

#[test]
fn numbers_and_texts_are_promoted_and_nothing_else() {
    let types = [
        ("int", &[0x0a][..]),
        ("long", &[0x0a]),
        ("float", &[0, 0, 0xa0, 0x40]),
        ("double", &[0, 0, 0, 0, 0, 0, 0x14, 0x40]),
        ("string", &[0x02, b'5']),
        ("bytes", &[0x02, b'5']),
        ("boolean", &[1]),
    ];
    let columns = [
        (DataType::Int32, "int"),
        (DataType::Int64, "int long"),
        (DataType::Float32, "int long float"),
        (DataType::Float64, "int long float double"),
        (DataType::Utf8View, "string bytes"),
        (DataType::BinaryView, "string bytes"),
        (DataType::Boolean, "boolean"),
    ];
    for (data_type, readable) in columns {
        for (from, payload) in &types {
            let writer = record(&format!(r#"{{"name":"a","type":"{from}"}}"#));
            let decoder = given(&writer).decoder(schema(&[("a", data_type.clone())]));
            if readable.split(' ').any(|name| name == *from) {
                let rows = decode_all(&mut decoder.unwrap(), [*payload]);
                let text = arrow::compute::cast(rows.column(0), &DataType::Utf8).unwrap();
                let text = text.as_string::<i32>().value(0);
                assert!(matches!(text, "5" | "5.0" | "true"), "{from} as {data_type}: {text}");
            } else {
                let why = decoder.err().unwrap().to_string();
                let wanted = format!("a: the writer's schema has {from}, which cannot be read as");
                assert!(why.starts_with(&wanted), "{why}");
            }
        }
    }
}

#[test]
fn fields_go_by_name_and_alias_and_defaults_fill_what_is_missing() {
    let writer = record(concat!(
        r#"{"name":"tree","type":{"type":"record","name":"tree","fields":["#,
        r#"{"name":"left","type":["null","tree"]},{"name":"size","type":"int"}]}},"#,
        r#"{"name":"gone","type":{"type":"map","values":"bytes"}},"#,
        r#"{"name":"old","type":"int"},{"name":"b","type":"string"}"#
    ));
    let reader = record(concat!(
        r#"{"name":"b","type":"string"},"#,
        r#"{"name":"new","type":"long","aliases":["older","old"]},"#,
        r#"{"name":"tags","type":{"type":"array","items":"string"},"default":["x","y"]},"#,
        r#"{"name":"tree","type":{"type":"record","name":"tree","fields":["#,
        r#"{"name":"size","type":"int"},{"name":"color","type":"string","default":"red"}]}},"#,
        r#"{"name":"note","type":["null","string"],"default":null}"#
    ));
    let tree = Fields::from(vec![
        Field::new("color", DataType::Utf8View, false),
        Field::new("size", DataType::Int32, false),
    ]);
    let tags = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, false)));
    let columns = vec![
        Field::new("b", DataType::Utf8View, false),
        Field::new("new", DataType::Int64, false),
        Field::new("tags", tags, false),
        Field::new("tree", DataType::Struct(tree), false),
        Field::new("note", DataType::Utf8View, true),
    ];
    let mut decoder = resolved(&writer, &reader, columns).unwrap();
    // tree { left: { left: null, size: 1 }, size: 2 }, gone { k: [9] }, old 7, b "x"
    let payload = [2, 0, 2, 4, 2, 2, b'k', 2, 9, 0, 14, 2, b'x'];
    let rows = decode_all(&mut decoder, [&payload[..], &payload]);
    assert_eq!(rows.column(0).as_string_view().value(1), "x");
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(1), 7);
    let tags = rows.column(2).as_list::<i32>().value(1);
    assert_eq!(tags.as_string_view().iter().flatten().collect::<Vec<_>>(), ["x", "y"]);
    let tree = rows.column(3).as_struct();
    assert_eq!(tree.column(0).as_string_view().value(1), "red");
    assert_eq!(tree.column(1).as_primitive::<Int32Type>().value(1), 2);
    assert_eq!(rows.column(4).null_count(), 2);

    let missing = vec![Field::new("id", DataType::Int64, false)];
    let why = resolved(&writer, &reader, missing).err().unwrap();
    assert_eq!(why, "id: the column is NOT NULL, and the writer's schema has no such field");
}

#[test]
fn a_branch_that_does_not_fit_costs_only_who_uses_it() {
    let writer = record(r#"{"name":"a","type":["null","string","long","int"]}"#);
    let columns = [("a", DataType::Int64)];
    let mut decoder = given(&writer).decoder(schema(&columns)).unwrap();
    decoder.decode(&[4, 14]).unwrap();
    let reason = decoder.decode(&[2, 2, b'x']).unwrap_err();
    assert_eq!(reason, "a: the writer's schema has string, which cannot be read as BIGINT");
    decoder.decode(&[0]).unwrap();
    decoder.decode(&[6, 16]).unwrap();
    let rows = decoder.finish().unwrap();
    let a: Vec<_> = rows.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(a, [Some(7), None, Some(8)]);
    assert!(refused(&writer, &[("a", DataType::Boolean)]).contains("has string, which"));
}

#[test]
fn a_topic_of_several_kinds_of_records_is_a_union() {
    let kind = |name: &str, field: &str| {
        format!(
            r#"{{"type":"record","name":"{name}","fields":[{{"name":"{field}","type":"int"}}]}}"#
        )
    };
    let writer = format!("[{},{}]", kind("a", "x"), kind("b", "y"));
    let columns = [("x", DataType::Int32), ("y", DataType::Int32)];
    let mut decoder = given(&writer).decoder(schema(&columns)).unwrap();
    let rows = decode_all(&mut decoder, [&[0, 2][..], &[2, 4]]);
    let x: Vec<_> = rows.column(0).as_primitive::<Int32Type>().iter().collect();
    let y: Vec<_> = rows.column(1).as_primitive::<Int32Type>().iter().collect();
    assert_eq!((x, y), (vec![Some(1), None], vec![None, Some(2)]));
    assert!(decoder.decode(&[4]).unwrap_err().contains("no branch number 2"));
}

#[test]
fn times_are_read_in_the_unit_that_the_schema_says() {
    let long = |logical: &str| {
        record(&format!(r#"{{"name":"t","type":{{"type":"long","logicalType":"{logical}"}}}}"#))
    };
    // -1.5 s in the unit of each.
    for (logical, payload) in [
        ("timestamp-millis", &[0xb7, 0x17][..]),
        ("local-timestamp-millis", &[0xb7, 0x17]),
        ("timestamp-micros", &[0xbf, 0x8d, 0xb7, 0x01]),
        ("timestamp-nanos", &[0xff, 0xbb, 0xc1, 0x96, 0x0b]),
        ("unknown-to-us", &[0xb7, 0x17]),
    ] {
        let rows = read(&long(logical), &[("t", micros())], payload);
        let t = rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!(t, -1_500_000, "{logical}");
    }
    let too_far = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let reason = reason(&long("timestamp-millis"), &[("t", micros())], &too_far);
    assert_eq!(reason, "t: -9223372036854775808 is not a valid TIMESTAMP");
    let date = record(r#"{"name":"d","type":{"type":"int","logicalType":"date"}}"#);
    let rows = read(&date, &[("d", DataType::Date32)], &[1]);
    assert_eq!(rows.column(0).as_primitive::<Date32Type>().value(0), -1);
    assert!(refused(&date, &[("d", micros())]).contains("has date, which"));
}

#[test]
fn values_nested_without_end_are_a_reason_and_no_stack_overflow() {
    let writer = record(concat!(
        r#"{"name":"list","type":{"type":"record","name":"list","fields":["#,
        r#"{"name":"next","type":["null","list"]}]}}"#
    ));
    let reason = reason(&writer, &[("a", DataType::Int64)], &[2; 100_000]);
    assert_eq!(reason, "list: values are nested more than 128 deep");
}

#[test]
fn types_of_other_schemas_are_found_by_their_names() {
    let reference = r#"{"type":"record","name":"Money","namespace":"shop","fields":[
        {"name":"cents","type":"long"}]}"#;
    let text = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"total","type":"Money"},{"name":"paid","type":["null","shop.Money"]}]}"#;
    assert!(Schema::parse(text, &[]).unwrap_err().contains("type 'Money' is not declared"));
    let schema = Schema::parse(text, &[reference.to_owned()]).unwrap();
    let fields = schema.fields(&schema.root).unwrap();
    assert_eq!(schema.describe(&fields[0].data_type), "record shop.Money");
    assert_eq!(schema.describe(&fields[1].data_type), "union of null, record shop.Money");
}
