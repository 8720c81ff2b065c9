//! Tables and views of a job file, checked when they are declared.
//!
//! A name whose declaration was wrong stays known as [`Relation::Broken`], so that statements that
//! use it are not reported again.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::LogicalPlan;
use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr};
use datafusion_sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Alignment, Buffer, RowFunction};
use tidemill_core::interceptor::{Interceptor, around_sink, around_source};
use tidemill_core::need::Need;
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::time::micros;
use tidemill_core::watermark::WatermarkStrategy;
use tidemill_core::{Error, ErrorKind};

use crate::clock::CLOCK;
use crate::demand;
use crate::diagnostic::{Fallible, Problem};
use crate::flow;
use crate::interval;
use crate::query;
use crate::statement::{ColumnKind, TableDeclaration};
use crate::token::{Name, is_word, parse_expr, span_of};
use crate::types::{sql_name, timestamp, timestamp_ltz};

/// What a name in `FROM` stands for.
#[derive(Clone)]
pub(crate) enum Relation {
    Table(Arc<Table>),
    View(Arc<LogicalPlan>),
    Broken,
}

/// Everything declared so far.
#[derive(Default)]
pub(crate) struct Catalog(BTreeMap<String, Relation>);

impl Catalog {
    pub fn get(&self, name: &str) -> Option<&Relation> {
        self.0.get(name)
    }

    pub fn insert(&mut self, name: &str, relation: Relation) {
        self.0.insert(name.to_owned(), relation);
    }

    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Whether a query reads something whose declaration was wrong.
    pub fn mentions_broken(&self, tokens: &[TokenWithSpan]) -> bool {
        tokens.windows(2).any(|pair| match &pair[1].token {
            Token::Word(word) => {
                let before = ["FROM", "JOIN", "TABLE"];
                before.iter().any(|before| is_word(&pair[0].token, before))
                    && matches!(self.get(&word.value), Some(Relation::Broken))
            }
            _ => false,
        })
    }
}

/// A declared table.
pub(crate) struct Table {
    pub name: Name,
    /// All columns in declared order, as queries see them.
    pub schema: SchemaRef,
    /// What the connector of a source sees.
    pub source_spec: TableSpec,
    /// What the connector of a sink sees: no virtual metadata columns.
    pub sink_spec: TableSpec,
    /// Computed columns, over the columns of the source.
    pub computed: Option<Computed>,
    /// The time column and its strategy.
    pub watermark: Option<(usize, WatermarkStrategy)>,
    /// The column declared `AS PROCTIME()`.
    pub processing_time: Option<usize>,
    pub rate_limit: Option<u64>,
    pub buffer: Buffer,
    pub alignment: Option<Alignment>,
    pub on_error: OnError,
    /// How a sink is called again.
    pub retry: RetrySettings,
    interceptors: Vec<Arc<dyn Interceptor>>,
    factory: Arc<dyn ConnectorFactory>,
    options: Vec<(Name, Name)>,
    source: OnceLock<Result<Arc<dyn Source>, Problem>>,
    sink: OnceLock<Result<Arc<dyn Sink>, Problem>>,
}

/// Options that every table takes, whatever its connector: for reading it, and for writing it.
const COMMON: [&str; 15] = [
    "connector",
    "interceptors",
    "rate-limit",
    "buffer.policy",
    "buffer.capacity.records",
    "buffer.capacity.bytes",
    "sink.breaker.threshold",
    "sink.breaker.pause",
    "sink.retry.deadline",
    "on-error",
    "scan.watermark.idle-timeout",
    "scan.watermark.alignment.group",
    "scan.watermark.alignment.max-drift",
    "scan.watermark.alignment.update-interval",
    "max-future",
];

/// The interceptors that tables may name.
pub(crate) type Interceptors = BTreeMap<String, Arc<dyn Interceptor>>;

/// The columns of a table of which some are computed.
#[derive(Clone)]
pub(crate) struct Computed {
    /// All columns over those of the source, as the runtime computes them.
    pub function: Arc<dyn RowFunction>,
    /// The same as expressions.
    pub columns: Vec<Expr>,
    /// What these are over.
    pub over: DFSchema,
}

/// What a table's declaration depends on besides itself.
pub(crate) struct Defaults<'a> {
    pub on_error: OnError,
    pub idle_timeout: Option<Duration>,
    pub interceptors: &'a Interceptors,
}

/// Plans computed columns: expressions with their names over the columns of a source, to which the
/// result adds them in declared order.
pub(crate) type ComputedPlanner<'a> =
    dyn Fn(&TableSpec, &TableDeclaration) -> Fallible<Computed> + 'a;

impl Table {
    /// Checks a declaration.
    pub fn declare(
        declaration: TableDeclaration,
        connectors: &[Arc<dyn ConnectorFactory>],
        defaults: &Defaults<'_>,
        plan_computed: &ComputedPlanner<'_>,
    ) -> Fallible<Self> {
        let factory = connector(&declaration, connectors)?;
        check_option_names(&declaration, factory.as_ref())?;
        let source_spec = table_spec(&declaration, true)?;
        let sink_spec = table_spec(&declaration, false)?;
        let has_computed =
            declaration.columns.iter().any(|c| matches!(c.kind, ColumnKind::Computed(_)));
        let computed =
            if has_computed { Some(plan_computed(&source_spec, &declaration)?) } else { None };
        let schema = computed.as_ref().map_or(source_spec.schema.clone(), |c| c.function.schema());
        let options = source_spec.options.clone();
        let at_option =
            |error: Error| option_problem(&error, &declaration.options, &declaration.name);
        let common = common_options(&options, defaults).map_err(at_option)?;
        let watermark = match &declaration.watermark {
            Some(watermark) => Some(time_column(watermark, &schema, &common)?),
            None => None,
        };
        let is_processing =
            |kind: &ColumnKind| matches!(kind, ColumnKind::Computed(tokens) if is_proctime(tokens));
        let processing_time = declaration.columns.iter().position(|c| is_processing(&c.kind));
        Ok(Self {
            name: declaration.name,
            schema,
            source_spec,
            sink_spec,
            computed,
            watermark,
            processing_time,
            rate_limit: common.rate_limit,
            buffer: common.buffer,
            retry: common.retry,
            alignment: common.alignment,
            on_error: common.on_error,
            interceptors: common.interceptors,
            factory,
            options: declaration.options,
            source: OnceLock::new(),
            sink: OnceLock::new(),
        })
    }

    /// The table with the wall clock as its last column, which no query has declared.
    pub fn with_clock(&self) -> Result<Self, DataFusionError> {
        let spec = &self.source_spec;
        let over = DFSchema::try_from_qualified_schema(spec.name.as_str(), &spec.schema)?;
        let mut columns = match &self.computed {
            Some(computed) => computed.columns.clone(),
            None => over.columns().into_iter().map(Expr::Column).collect(),
        };
        columns.push(query::wall_clock().alias(CLOCK));
        let computed = query::compute(spec, columns, over)?;
        Ok(Self {
            name: self.name.clone(),
            schema: computed.function.schema(),
            source_spec: spec.clone(),
            sink_spec: self.sink_spec.clone(),
            processing_time: Some(computed.columns.len() - 1),
            computed: Some(computed),
            watermark: self.watermark,
            rate_limit: self.rate_limit,
            buffer: self.buffer,
            retry: self.retry,
            alignment: self.alignment.clone(),
            on_error: self.on_error,
            interceptors: self.interceptors.clone(),
            factory: self.factory.clone(),
            options: self.options.clone(),
            source: OnceLock::new(),
            sink: OnceLock::new(),
        })
    }

    /// What the source must give for a job that looks at no more than this of the table.
    pub fn needs_of_source(&self, mut needs: Vec<Need>) -> Vec<Need> {
        if let Some((time, _)) = self.watermark {
            needs[time] = Need::All;
        }
        match &self.computed {
            Some(computed) => demand::of_columns(&computed.columns, &needs, &computed.over),
            None => needs,
        }
    }

    /// The source that reads the table: one, however many queries read it.
    pub fn source(&self) -> Fallible<Arc<dyn Source>> {
        let make = || {
            let source = self.factory.source(&self.source_spec).map_err(|e| self.problem(&e))?;
            let given = source.schema();
            let same = given.fields().len() == self.source_spec.schema.fields().len()
                && given
                    .fields()
                    .iter()
                    .zip(self.source_spec.schema.fields())
                    .all(|(a, b)| a.data_type() == b.data_type());
            if same {
                return Ok(match self.interceptors.as_slice() {
                    [] => source,
                    interceptors => around_source(source, interceptors.to_vec()),
                });
            }
            let message = format!(
                "connector '{}' reads other columns than table '{}' declares",
                self.factory.name(),
                self.name.text
            );
            Err(Problem::new(self.name.span, message))
        };
        self.source.get_or_init(make).clone()
    }

    /// The sink that writes the table: one, however many queries write it.
    pub fn sink(&self) -> Fallible<Arc<dyn Sink>> {
        let make = || {
            let sink = self.factory.sink(&self.sink_spec).map_err(|error| self.problem(&error))?;
            Ok(match self.interceptors.as_slice() {
                [] => sink,
                interceptors => around_sink(sink, interceptors.to_vec()),
            })
        };
        self.sink.get_or_init(make).clone()
    }

    fn problem(&self, error: &Error) -> Problem {
        option_problem(error, &self.options, &self.name)
    }
}

/// A connector's error, at the option that it is about.
fn option_problem(error: &Error, options: &[(Name, Name)], table: &Name) -> Problem {
    let named = |(key, value): &(Name, Name)| match error.wrong_option() {
        Some(option) if option == key.text => Some(value.span),
        _ => None,
    };
    let span = options.iter().find_map(named).unwrap_or(table.span);
    let message = if error.kind() == ErrorKind::Configuration {
        error.to_string()
    } else {
        format!("table '{}': {error}", table.text)
    };
    Problem::new(span, message)
}

fn connector(
    declaration: &TableDeclaration,
    connectors: &[Arc<dyn ConnectorFactory>],
) -> Fallible<Arc<dyn ConnectorFactory>> {
    let names = || connectors.iter().map(|factory| factory.name());
    let Some((_, value)) = declaration.options.iter().find(|(key, _)| key.text == "connector")
    else {
        let message = format!("table '{}' has no option 'connector'", declaration.name.text);
        let list = names().collect::<Vec<_>>().join(", ");
        return Err(Problem::new(declaration.name.span, message)
            .help(format!("add 'connector' = '…' to WITH; connectors: {list}")));
    };
    connectors.iter().find(|factory| factory.name() == value.text).cloned().ok_or_else(|| {
        Problem::new(value.span, format!("unknown connector '{}'", value.text)).suggest_or_list(
            &value.text,
            "connectors",
            names(),
        )
    })
}

fn check_option_names(
    declaration: &TableDeclaration,
    factory: &dyn ConnectorFactory,
) -> Fallible<()> {
    let known = factory.options();
    for (key, _) in &declaration.options {
        let is_known = COMMON.contains(&key.text.as_str())
            || known.iter().any(|option| option.matches(&key.text));
        if !is_known {
            let names = known.iter().map(|option| option.name).chain(COMMON);
            let connector = factory.name();
            let message = format!("connector '{connector}' has no option '{}'", key.text);
            return Err(
                Problem::new(key.span, message).suggest_or_list(&key.text, "options", names)
            );
        }
    }
    Ok(())
}

fn table_spec(declaration: &TableDeclaration, of_source: bool) -> Fallible<TableSpec> {
    let mut fields = Vec::new();
    let mut metadata = Vec::new();
    for column in &declaration.columns {
        let sql_type = match &column.kind {
            ColumnKind::Physical(sql_type) => sql_type,
            ColumnKind::Metadata { is_virtual: true, .. } if !of_source => continue,
            ColumnKind::Metadata { sql_type, key, .. } => {
                metadata.push((fields.len(), key.clone()));
                sql_type
            }
            ColumnKind::Computed(_) => continue,
        };
        let data_type = sql_type.data_type.clone();
        fields.push(Field::new(&column.name.text, data_type, sql_type.nullable));
    }
    let schema = Arc::new(Schema::new(fields));
    let indices = |names: &[Name], what: &str| {
        let index = |name: &Name| {
            let fields = schema.fields();
            let found = fields.iter().position(|field| *field.name() == name.text);
            found.ok_or_else(|| {
                Problem::new(name.span, format!("{what} names no physical column: '{}'", name.text))
                    .suggest(&name.text, fields.iter().map(|field| field.name().as_str()))
            })
        };
        names.iter().map(index).collect::<Fallible<Vec<usize>>>()
    };
    Ok(TableSpec {
        name: declaration.name.text.clone(),
        metadata,
        primary_key: indices(&declaration.primary_key, "PRIMARY KEY")?,
        partitioned_by: indices(&declaration.partitioned_by, "PARTITIONED BY")?,
        options: declaration.options.iter().map(|(k, v)| (&k.text, &v.text)).collect(),
        schema: schema.clone(),
    })
}

struct CommonOptions {
    rate_limit: Option<u64>,
    buffer: Buffer,
    retry: RetrySettings,
    on_error: OnError,
    idle_after: Option<Duration>,
    max_future: i64,
    alignment: Option<Alignment>,
    interceptors: Vec<Arc<dyn Interceptor>>,
}

fn common_options(options: &Options, defaults: &Defaults<'_>) -> Result<CommonOptions, Error> {
    let rate_limit = options.parsed::<u64>("rate-limit")?;
    if rate_limit == Some(0) {
        return Err(Error::option("rate-limit", "option 'rate-limit' must be at least 1 row/s"));
    }
    let choices = ["fail", "skip", "dead-letter"];
    let on_error = match options.get("on-error") {
        None => defaults.on_error,
        Some(_) => [OnError::Fail, OnError::Skip, OnError::DeadLetter]
            [options.choice("on-error", &choices, 0)?],
    };
    // Zero turns the timeout off, as in Flink.
    let idle_after = options.duration("scan.watermark.idle-timeout")?.or(defaults.idle_timeout);
    let max_future = match options.duration("max-future")? {
        None => WatermarkStrategy::MAX_FUTURE,
        Some(duration) => micros(duration)
            .ok_or_else(|| Error::option("max-future", "option 'max-future' is too long"))?,
    };
    let idle_after = idle_after.filter(|duration| !duration.is_zero());
    let alignment = alignment(options)?;
    let interceptors = interceptors(options, defaults.interceptors)?;
    let (buffer, retry) = (flow::buffer(options)?, flow::retry(options)?);
    Ok(CommonOptions {
        rate_limit,
        buffer,
        retry,
        on_error,
        idle_after,
        max_future,
        alignment,
        interceptors,
    })
}

/// `'interceptors' = 'a, b'`.
fn interceptors(
    options: &Options,
    known: &Interceptors,
) -> Result<Vec<Arc<dyn Interceptor>>, Error> {
    const KEY: &str = "interceptors";
    let names = options.get(KEY).into_iter().flat_map(|names| names.split(',')).map(str::trim);
    let find = |name: &str| {
        known.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let names = names.join("', '");
            Error::option(KEY, format!("there is no interceptor '{name}', only '{names}'"))
        })
    };
    names.map(find).collect()
}

/// `'scan.watermark.alignment.*'`. Here progress is looked at before every read, so that an update
/// interval has nothing to say; it is checked all the same.
fn alignment(options: &Options) -> Result<Option<Alignment>, Error> {
    const GROUP: &str = "scan.watermark.alignment.group";
    const MAX_DRIFT: &str = "scan.watermark.alignment.max-drift";
    options.duration("scan.watermark.alignment.update-interval")?;
    let max_drift = match options.duration(MAX_DRIFT)? {
        None => None,
        Some(drift) => Some(micros(drift).ok_or_else(|| {
            Error::option(MAX_DRIFT, format!("option '{MAX_DRIFT}' is too long"))
        })?),
    };
    match (options.get(GROUP), max_drift) {
        (None, None) => Ok(None),
        (Some(group), Some(max_drift)) => {
            Ok(Some(Alignment { group: group.to_owned(), max_drift }))
        }
        (Some(_), None) => Err(Error::option(GROUP, format!("say how far, with '{MAX_DRIFT}'"))),
        (None, Some(_)) => Err(Error::option(
            MAX_DRIFT,
            format!("say which sources wait for one another, with '{GROUP}'"),
        )),
    }
}

/// Whether an expression is `PROCTIME()`.
pub(crate) fn is_proctime(tokens: &[TokenWithSpan]) -> bool {
    matches!(tokens, [name, open, close]
        if is_word(&name.token, "PROCTIME") && open.token == Token::LParen && close.token == Token::RParen)
}

fn time_column(
    (column, expression): &(Name, Vec<TokenWithSpan>),
    schema: &Schema,
    options: &CommonOptions,
) -> Fallible<(usize, WatermarkStrategy)> {
    let Some(index) = schema.fields().iter().position(|field| *field.name() == column.text) else {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        return Err(Problem::new(column.span, format!("unknown column '{}'", column.text))
            .suggest_or_list(&column.text, "columns", names));
    };
    let data_type = schema.field(index).data_type();
    if *data_type != timestamp() && *data_type != timestamp_ltz() {
        let help = match data_type {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                "declare at most 6 digits: TIMESTAMP(6)"
            }
            DataType::Int64 => "add a column: t AS TO_TIMESTAMP_LTZ(millis, 3)",
            DataType::Utf8View => {
                "declare it TIMESTAMP(3), or add a column: t AS TO_TIMESTAMP(text)"
            }
            _ => "declare it TIMESTAMP(3) or TIMESTAMP_LTZ(3)",
        };
        let name = sql_name(data_type);
        let message = format!("column '{}' is {name}, which cannot be event time", column.text);
        return Err(Problem::new(column.span, message).help(help));
    }
    let bound = watermark_bound(column, expression)?;
    let strategy =
        WatermarkStrategy { bound, idle_after: options.idle_after, max_future: options.max_future };
    Ok((index, strategy))
}

/// The bound in `ts` or `ts - INTERVAL '5' SECOND`, in microseconds.
fn watermark_bound(column: &Name, expression: &[TokenWithSpan]) -> Fallible<i64> {
    let span: Span = span_of(expression);
    let is_column =
        |expr: &SqlExpr| matches!(expr, SqlExpr::Identifier(ident) if ident.value == column.text);
    let bound = match parse_expr(expression)? {
        expr if is_column(&expr) => Some(0),
        SqlExpr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(&left) => {
            match *right {
                SqlExpr::Interval(interval) => interval::micros(&interval)?,
                _ => None,
            }
        }
        _ => None,
    };
    match bound {
        Some(bound) if bound >= 0 => Ok(bound),
        Some(_) => Err(Problem::new(span, "a watermark cannot run ahead of the rows")
            .help("write a positive INTERVAL")),
        None => Err(Problem::new(span, "this watermark is not supported")
            .help(format!("write {0} AS {0}, or {0} AS {0} - INTERVAL '5' SECOND", column.text))),
    }
}
