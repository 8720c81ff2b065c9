//! Rows, arrays and maps within rows: declared, taken apart, put together, grouped by.

use crate::support::{plan, run};

const TABLES: &str = "
CREATE TABLE t (
  id BIGINT,
  customer ROW<name STRING, address ROW<city STRING, zip INT> NOT NULL, `key` STRING>,
  items ARRAY<ROW<sku STRING, price DECIMAL(10, 2)>>,
  tags MAP<STRING, STRING>,
  counts MAP<STRING, ARRAY<INT>>,
  ts TIMESTAMP(3),
  city AS customer.address.city,
  WATERMARK FOR ts AS ts
) WITH ('connector' = 'datagen');
";

const ROWS: &str = r#"
{"id": 1, "customer": {"name": "ann", "address": {"city": "Ulm", "zip": 7}, "key": "k"}, "items": [{"sku": "a", "price": 1.5}, {"sku": "b", "price": 2}], "tags": {"color": "red"}, "counts": {"x": [1, 2]}, "ts": "2024-01-01T00:00:10"}
{"id": 2, "customer": null, "items": [], "tags": {}, "counts": null, "ts": "2024-01-01T00:00:20"}
"#;

/// The first column of a query's rows, which have a column of this type.
fn results(column: &str, query: &str) -> Vec<String> {
    let sink = format!("CREATE TABLE o (v {column}) WITH ('connector' = 'print');");
    match plan(&format!("{TABLES} {sink} INSERT INTO o {query};")) {
        Ok(job) => run(&job, &[("t", ROWS)]).remove("o").unwrap(),
        Err(errors) => vec![format!("{errors}")],
    }
}

#[test]
fn parts_of_nested_values_are_taken_as_flink_takes_them() {
    let cases = [
        ("STRING", "customer.name", "ann", "null"),
        ("STRING", "t.customer.name", "ann", "null"),
        ("STRING", "customer.address.city", "Ulm", "null"),
        ("STRING", "t.customer.address.city", "Ulm", "null"),
        ("BIGINT", "customer.address.zip + 1", "8", "null"),
        ("STRING", "customer.`key`", "k", "null"),
        ("STRING", "city", "Ulm", "null"),
        ("STRING", "UPPER(customer.name)", "ANN", "null"),
        ("STRING", "items[1].sku", "a", "null"),
        ("DECIMAL(10, 2)", "items[2].price", "2.00", "null"),
        ("STRING", "items[3].sku", "null", "null"),
        ("STRING", "t.items[2].sku", "b", "null"),
        ("STRING", "tags['color']", "red", "null"),
        ("STRING", "tags['none']", "null", "null"),
        ("STRING", "tags[LOWER('COLOR')]", "red", "null"),
        ("STRING", "tags[customer.name]", "null", "null"),
        ("INT", "counts['x'][2]", "2", "null"),
        ("BIGINT", "CARDINALITY(items)", "2", "0"),
        ("BIGINT", "CARDINALITY(tags)", "1", "0"),
        ("BOOLEAN", "customer IS NULL", "false", "true"),
        ("BOOLEAN", "customer.name = 'ann'", "true", "null"),
    ];
    let mut wrong = Vec::new();
    for (column, expression, first, second) in cases {
        let found = results(column, &format!("SELECT {expression} FROM t"));
        if found != [first, second] {
            wrong.push(format!("{expression} = {found:?}, not {first}, {second}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nested_values_are_put_together_and_passed_on() {
    let cases = [
        ("ARRAY<BIGINT>", "ARRAY[1, customer.address.zip]", "[1, 7]"),
        ("ROW<a BIGINT, b STRING>", "ROW(id, 'x')", "{a: 1, b: x}"),
        ("ROW<a BIGINT, b STRING>", "(id, 'x')", "{a: 1, b: x}"),
        // By position, whatever the names.
        (
            "ROW<sku STRING, tags ROW<b BIGINT, a DOUBLE>>",
            "ROW('x', ROW(id, 2))",
            "{sku: x, tags: {b: 1, a: 2.0}}",
        ),
        ("ARRAY<BIGINT>", "CAST(ARRAY[1, 2] AS ARRAY<BIGINT>)", "[1, 2]"),
        ("ARRAY<INT>", "CAST(ARRAY[1, 2] AS ARRAY<INT>)", "[1, 2]"),
        (
            "ROW<name STRING, address ROW<city STRING, zip INT> NOT NULL, `key` STRING>",
            "customer",
            "{name: ann, address: {city: Ulm, zip: 7}, key: k}",
        ),
        (
            "ARRAY<ROW<sku STRING, price DECIMAL(10, 2)>>",
            "items",
            "[{sku: a, price: 1.50}, {sku: b, price: 2.00}]",
        ),
        (
            "ARRAY<ROW<article STRING, price DECIMAL(12, 2)>>",
            "items",
            "[{article: a, price: 1.50}, {article: b, price: 2.00}]",
        ),
        ("MAP<STRING, STRING>", "tags", "{color: red}"),
    ];
    let mut wrong = Vec::new();
    for (column, expression, first) in cases {
        let found = results(column, &format!("SELECT {expression} FROM t WHERE id = 1"));
        if found != [first] {
            wrong.push(format!("{expression} = {found:?}, not {first}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn windows_are_grouped_by_parts_of_nested_values() {
    let query = "SELECT customer.address.city || ':' || CAST(COUNT(*) AS STRING)
        FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        WHERE customer IS NOT NULL
        GROUP BY window_start, window_end, customer.address.city";
    assert_eq!(results("STRING", query), ["Ulm:1"]);
    let query = "SELECT SUM(items[1].price) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        GROUP BY window_start, window_end";
    assert_eq!(results("DECIMAL(38, 2)", query), ["1.50"]);
}

#[test]
fn a_field_that_is_not_there_is_named() {
    let found = results("STRING", "SELECT customer.nme FROM t").concat();
    assert!(found.contains("nme"), "{found}");
    let found = results("STRING", "SELECT customer.address.town FROM t").concat();
    assert!(found.contains("town"), "{found}");
}
