//! The functions that a job file may call: DataFusion's, Flink's spellings of them, Flink's own
//! that DataFusion lacks, and the user's.
//!
//! Invariant: a function here is a pure function of its arguments. Whatever looks at a clock or a
//! random number is refused by name, because output must be the same in every run.

mod access;
mod datetime;
mod pattern;
mod strict;
mod strings;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::{AggregateUDF, ScalarUDF};

pub(crate) use access::field_access;

/// All functions by their name in small letters.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    users: Vec<String>,
}

/// Flink's name, and the function of DataFusion that does the same.
const SCALAR_SPELLINGS: [(&str, &str); 6] = [
    ("sign", "signum"),
    ("char_length", "character_length"),
    ("ifnull", "coalesce"),
    ("nvl", "coalesce"),
    ("truncate", "trunc"),
    ("ceiling", "ceil"),
];

const AGGREGATE_SPELLINGS: [(&str, &str); 5] = [
    ("listagg", "string_agg"),
    ("approx_count_distinct", "approx_distinct"),
    ("percentile", "percentile_cont"),
    ("variance", "var_samp"),
    ("every", "bool_and"),
];

/// DataFusion's functions that are left out: they are refused with a reason instead.
const LEFT_OUT: [&str; 9] = [
    "now",
    "current_date",
    "current_time",
    "random",
    "uuid",
    "current_timestamp",
    "today",
    "grouping",
    "version",
];

impl Functions {
    /// The built-in ones and the user's, which win over built-in ones of the same name.
    pub fn new(scalars: &[Arc<ScalarUDF>], aggregates: &[Arc<AggregateUDF>]) -> Self {
        let mut functions =
            Self { scalars: BTreeMap::new(), aggregates: BTreeMap::new(), users: Vec::new() };
        let built_in = datafusion_functions::all_default_functions();
        let nested = datafusion_functions_nested::all_default_nested_functions();
        for function in built_in.into_iter().chain(nested) {
            functions.add_scalar(&function);
        }
        for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
            functions.add_aggregate(&function);
        }
        for name in strict::NAMES {
            if let Some(lenient) = functions.scalars.get(name).cloned() {
                functions.add_scalar(&strict::strict(lenient));
            }
        }
        for (flink, name) in SCALAR_SPELLINGS {
            if let Some(function) = functions.scalars.get(name).cloned() {
                functions.scalars.insert(flink.to_owned(), function);
            }
        }
        for (flink, name) in AGGREGATE_SPELLINGS {
            if let Some(function) = functions.aggregates.get(name).cloned() {
                functions.aggregates.insert(flink.to_owned(), function);
            }
        }
        for function in datetime::functions().into_iter().chain(strings::functions()) {
            functions.add_scalar(&function);
        }
        for name in LEFT_OUT {
            functions.scalars.remove(name);
            functions.aggregates.remove(name);
        }
        for function in scalars {
            functions.users.push(function.name().to_lowercase());
            functions.add_scalar(function);
        }
        for function in aggregates {
            functions.users.push(function.name().to_lowercase());
            functions.add_aggregate(function);
        }
        functions
    }

    fn add_scalar(&mut self, function: &Arc<ScalarUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(|s| &**s))
        {
            self.scalars.insert(name.to_lowercase(), function.clone());
        }
    }

    fn add_aggregate(&mut self, function: &Arc<AggregateUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(|s| &**s))
        {
            self.aggregates.insert(name.to_lowercase(), function.clone());
        }
    }

    pub fn scalar(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.scalars.get(&name.to_lowercase())
    }

    pub fn aggregate(&self, name: &str) -> Option<&Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_lowercase())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.scalar(name).is_some() || self.aggregate(name).is_some()
    }

    pub fn is_users(&self, name: &str) -> bool {
        self.users.contains(&name.to_lowercase())
    }

    /// All names, in capital letters as Flink's documentation writes them.
    pub fn names(&self) -> Vec<String> {
        let more = [
            "DAYOFWEEK",
            "IF",
            "MOD",
            "TIMESTAMPADD",
            "TIMESTAMPDIFF",
            "TUMBLE_START",
            "TUMBLE_END",
        ];
        let known = self.scalars.keys().chain(self.aggregates.keys()).map(|n| n.to_uppercase());
        known.chain(more.map(str::to_owned)).collect()
    }
}

/// What the planner calls a function that Flink spells otherwise.
pub(crate) fn planner_name(flink: &str) -> Option<&'static str> {
    let spellings = SCALAR_SPELLINGS.iter().chain(&AGGREGATE_SPELLINGS);
    let is_it = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(flink);
    spellings.into_iter().find(is_it).map(|(_, name)| *name)
}

/// What turns syntax that is no plain call (`EXTRACT`, `a[1]`, `row.field`) into functions.
pub(crate) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![
        Arc::new(access::AccessPlanner),
        Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
    ]
}

/// Why a function is refused that would not give the same result in every run, and what to do.
pub(crate) fn nondeterministic(
    name: &str,
    arguments: Option<usize>,
) -> Option<(String, &'static str)> {
    match name {
        "NOW"
        | "CURRENT_TIMESTAMP"
        | "LOCALTIMESTAMP"
        | "CURRENT_DATE"
        | "CURRENT_TIME"
        | "LOCALTIME"
        | "CURRENT_ROW_TIMESTAMP" => {}
        "UNIX_TIMESTAMP" if arguments == Some(0) => {}
        "PROCTIME" => {
            return Some((
                "PROCTIME() stands alone in a SELECT list, or in a table's declaration".to_owned(),
                "declare a column `p AS PROCTIME()` in CREATE TABLE and use that",
            ));
        }
        "RAND" | "RANDOM" | "RAND_INTEGER" | "UUID" => {
            return Some((
                format!("{name} is refused: its result would differ after a restart"),
                "derive what you need from columns, for example MD5(id)",
            ));
        }
        "COLLECT" => {
            return Some((
                "COLLECT is not supported: there is no MULTISET".to_owned(),
                "write ARRAY_AGG",
            ));
        }
        _ => return None,
    }
    Some((
        format!("{name} is refused: it reads the clock, so its result would differ in every run"),
        "use the row's event time, or a column `p AS PROCTIME()`",
    ))
}

/// Whether Flink has a built-in function of this name.
pub(crate) fn is_flink_function(name: &str) -> bool {
    FLINK.contains(&name)
}

const FLINK: &[&str] = &[
    "ABS",
    "ACOS",
    "APPROX_COUNT_DISTINCT",
    "ARRAY_AGG",
    "ARRAY_APPEND",
    "ARRAY_CONCAT",
    "ARRAY_CONTAINS",
    "ARRAY_DISTINCT",
    "ARRAY_EXCEPT",
    "ARRAY_INTERSECT",
    "ARRAY_JOIN",
    "ARRAY_MAX",
    "ARRAY_MIN",
    "ARRAY_POSITION",
    "ARRAY_PREPEND",
    "ARRAY_REMOVE",
    "ARRAY_REVERSE",
    "ARRAY_SLICE",
    "ARRAY_SORT",
    "ARRAY_UNION",
    "ASCII",
    "ASIN",
    "ATAN",
    "ATAN2",
    "AVG",
    "BTRIM",
    "CARDINALITY",
    "CEIL",
    "CEILING",
    "CHARACTER_LENGTH",
    "CHAR_LENGTH",
    "CHR",
    "COALESCE",
    "CONCAT",
    "CONCAT_WS",
    "COS",
    "COSH",
    "COT",
    "COUNT",
    "DATE_FORMAT",
    "DECODE",
    "DEGREES",
    "ENCODE",
    "EXP",
    "EXTRACT",
    "FIRST_VALUE",
    "FLOOR",
    "FROM_UNIXTIME",
    "GREATEST",
    "IF",
    "IFNULL",
    "INITCAP",
    "INSTR",
    "LAST_VALUE",
    "LEAST",
    "LEFT",
    "LISTAGG",
    "LN",
    "LOG",
    "LOG10",
    "LOG2",
    "LOWER",
    "LPAD",
    "LTRIM",
    "MAP_ENTRIES",
    "MAP_KEYS",
    "MAP_VALUES",
    "MAX",
    "MD5",
    "MIN",
    "NULLIF",
    "OVERLAY",
    "PERCENTILE",
    "PI",
    "POSITION",
    "POWER",
    "RADIANS",
    "REGEXP",
    "REGEXP_COUNT",
    "REGEXP_EXTRACT",
    "REGEXP_INSTR",
    "REGEXP_REPLACE",
    "REPEAT",
    "REPLACE",
    "REVERSE",
    "RIGHT",
    "ROUND",
    "ROW",
    "RPAD",
    "RTRIM",
    "SHA224",
    "SHA256",
    "SHA384",
    "SHA512",
    "SIGN",
    "SIN",
    "SINH",
    "SPLIT_INDEX",
    "SQRT",
    "STARTSWITH",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "SUBSTR",
    "SUBSTRING",
    "SUM",
    "TAN",
    "TANH",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
    "TO_DATE",
    "TO_TIMESTAMP",
    "TO_TIMESTAMP_LTZ",
    "TRANSLATE",
    "TRIM",
    "TRUNCATE",
    "UNIX_TIMESTAMP",
    "UPPER",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
];
