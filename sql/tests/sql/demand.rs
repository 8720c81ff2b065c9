//! What sources are told that a job looks at, and how the parts of rows are called.

use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use tidemill_core::element::Epoch;
use tidemill_core::need::Need;
use tidemill_core::sink::Sink;
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_sql::Registry;

use crate::support::{connectors, plan, run};

/// A connector whose sources note what they are told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

struct Listening {
    schema: SchemaRef,
    told: Told,
}

impl ConnectorFactory for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn options(&self) -> Vec<OptionSpec> {
        Vec::new()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Listening { schema: table.schema.clone(), told: self.clone() }))
    }

    fn sink(&self, _: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::internal("it only listens"))
    }
}

impl Source for Listening {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(Vec::new())
    }

    fn open(
        &self,
        _: &SplitId,
        _: Option<&Offset>,
        _: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        Err(Error::internal("nothing to read"))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "told".to_owned()
    }

    fn reading(&self, needs: &[Need]) -> Option<Arc<dyn Source>> {
        let column = |(field, need): (&Arc<arrow::datatypes::Field>, &Need)| match need {
            Need::Nothing => None,
            Need::All => Some(field.name().clone()),
            Need::Fields(fields) => {
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                Some(format!("{}.{{{}}}", field.name(), fields.join(", ")))
            }
        };
        assert_eq!(needs.len(), self.schema.fields().len());
        let columns: Vec<String> =
            self.schema.fields().iter().zip(needs).filter_map(column).collect();
        self.told.0.lock().unwrap().push(columns.join(", "));
        None
    }
}

const TABLES: &str = "
CREATE TABLE t (
  id BIGINT, r ROW<a BIGINT, b STRING, c ROW<d BIGINT, e BIGINT>>, s ROW<at TIMESTAMP(3), x BIGINT>,
  m MAP<STRING, BIGINT>, unread STRING,
  ts AS s.at, twice AS r.a * 2,
  WATERMARK FOR ts AS ts
) WITH ('connector' = 'told');
CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
CREATE TABLE p (k STRING, n BIGINT) WITH ('connector' = 'print');
";

/// What the sources of a job are told, in the order of their names.
fn told(queries: &str) -> Vec<String> {
    let told = Told::default();
    let mut connectors = connectors();
    connectors.push(Arc::new(told.clone()));
    let text = format!("{TABLES} {queries}");
    if let Err(errors) = tidemill_sql::plan("job.sql", &text, &|_| None, &Registry::new(connectors))
    {
        panic!("{errors}");
    }
    let mut told = told.0.lock().unwrap().clone();
    told.sort();
    told
}

#[test]
fn sources_are_told_which_columns_and_fields_a_job_looks_at() {
    let cases = [
        ("INSERT INTO o SELECT id FROM t", "id, s.{at}"),
        ("INSERT INTO o SELECT r.a FROM t WHERE r.b = 'x'", "r.{a, b}, s.{at}"),
        ("INSERT INTO o SELECT r.c.d FROM t", "r.{c}, s.{at}"),
        ("INSERT INTO o SELECT twice FROM t", "r.{a}, s.{at}"),
        ("INSERT INTO o SELECT id FROM t WHERE r IS NOT NULL", "id, r, s.{at}"),
        ("INSERT INTO o SELECT m['k'] FROM t", "s.{at}, m"),
        (
            "INSERT INTO o SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY))
             GROUP BY window_start, window_end, s.x",
            "s.{at, x}",
        ),
        ("CREATE VIEW v AS SELECT r, s AS other FROM t; INSERT INTO o SELECT other.x FROM v", "s.{at, x}"),
        (
            "INSERT INTO o SELECT id FROM t; INSERT INTO p SELECT r.b, 1 FROM t",
            "id, r.{b}, s.{at}",
        ),
        (
            "INSERT INTO o SELECT n FROM (SELECT id AS n, m FROM t UNION ALL SELECT r.a, m FROM t)",
            "id, r.{a}, s.{at}",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(told(&format!("{query};")), [expected], "{query}");
    }
}

#[test]
fn a_query_that_reads_the_clock_has_a_source_of_its_own() {
    let queries = "CREATE VIEW v AS SELECT *, PROCTIME() AS p FROM t WHERE id > 0;
        INSERT INTO o SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(p), INTERVAL '1' DAY))
        GROUP BY window_start, window_end;
        INSERT INTO o SELECT r.a FROM v;";
    assert_eq!(told(queries), ["id, r.{a}, s.{at}", "id, s.{at}"]);
}

const ROWS: &str = r#"
{"id": 1, "r": {"a": 10, "b": "x"}, "price": "1.5"}
{"id": 2, "r": {"a": 20, "b": "y"}, "price": "2.5"}
"#;

fn results(query: &str) -> Vec<String> {
    let text = format!(
        "CREATE TABLE t (id BIGINT, r ROW<a BIGINT, b STRING>, price DECIMAL(10, 1)) WITH ('connector' = 'datagen');
         CREATE TABLE o (x BIGINT, y BIGINT) WITH ('connector' = 'print');
         CREATE TABLE d (x DECIMAL(12, 3)) WITH ('connector' = 'print');
         {query};"
    );
    match plan(&text) {
        Ok(job) => run(&job, &[("t", ROWS)]).into_values().next().unwrap(),
        Err(errors) => vec![errors.to_string()],
    }
}

#[test]
fn fields_are_called_after_themselves() {
    let cases = [
        "CREATE VIEW v AS SELECT r.a, id FROM t; INSERT INTO o SELECT a, id FROM v",
        "INSERT INTO o SELECT a, id FROM (SELECT t.r.a, t.id FROM t)",
        "CREATE VIEW v AS SELECT id AS a, r.a FROM t; INSERT INTO o SELECT a0, a FROM v",
        "INSERT INTO o SELECT q.a, q.id FROM (SELECT r.a, x.id FROM t AS x) AS q",
    ];
    for query in cases {
        assert_eq!(results(query), ["10 | 1", "20 | 2"], "{query}");
    }
}

#[test]
fn a_product_goes_into_a_decimal_of_its_scale() {
    assert_eq!(results("INSERT INTO d SELECT 0.25 * price FROM t"), ["0.375", "0.625"]);
    assert_eq!(results("INSERT INTO d SELECT 0.908 * id FROM t"), ["0.908", "1.816"]);
    let refused = results("INSERT INTO d SELECT 0.0001 * id FROM t").remove(0);
    assert!(refused.contains("does not fit into column 'x'"), "{refused}");
}
