//! What a node's results depend on, part by part, in words that the author of a query knows.
//!
//! On the checkpoint path: the manifest keeps the parts, and a job that comes back with others is
//! told which of them differ. Invariant: parts name columns, never their positions, and hold no secret.

/// One thing that a node's results depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is: `window`, `key`, `aggregate`, `condition`, `column total`.
    pub name: String,
    /// What it is like: `tumbling 60s`, `sum(amount)`.
    pub is: String,
    /// The columns of the node's input that it is computed from; `None`: all of them.
    pub uses: Option<Vec<String>>,
    /// The column of the node's output that it makes. Where nobody needs that column, the part does
    /// not matter. `None`: it matters to every row.
    pub makes: Option<String>,
}

impl Part {
    /// A part that matters to every row, computed from these columns.
    pub fn new(name: impl Into<String>, is: impl Into<String>, uses: Vec<String>) -> Self {
        Self { name: name.into(), is: is.into(), uses: Some(uses), makes: None }
    }

    /// A part that matters to every row, and may read any column.
    pub fn of_all(name: impl Into<String>, is: impl Into<String>) -> Self {
        Self { name: name.into(), is: is.into(), uses: None, makes: None }
    }

    /// A column of the node's output, computed from these columns of its input.
    pub fn column(name: impl Into<String>, is: impl Into<String>, uses: Vec<String>) -> Self {
        let column = name.into();
        Self {
            name: format!("column {column}"),
            is: is.into(),
            uses: Some(uses),
            makes: Some(column),
        }
    }
}
