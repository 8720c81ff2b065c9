//! What a job looks at of a source's rows, so that the source need not make the rest.
//!
//! Settled once, when a job is planned. Invariant: what is not known to be unneeded is needed.

use std::collections::BTreeSet;

/// What a job looks at of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Need {
    /// Not even whether it is null.
    #[default]
    Nothing,
    /// Of a `ROW` these fields, and whether it is null.
    Fields(BTreeSet<String>),
    /// All of it.
    All,
}

impl Need {
    /// Needs what `other` does as well.
    pub fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) | (_, Self::Nothing) => {}
            (Self::Fields(fields), Self::Fields(more)) => fields.extend(more.iter().cloned()),
            (_, more) => *self = more.clone(),
        }
    }

    /// What is needed of one field of the column.
    #[must_use]
    pub fn of_field(&self, name: &str) -> Self {
        match self {
            Self::All => Self::All,
            Self::Fields(fields) if fields.contains(name) => Self::All,
            Self::Fields(_) | Self::Nothing => Self::Nothing,
        }
    }

    /// Whether nothing of it is looked at.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_add_up_and_never_shrink() {
        let fields = |names: &[&str]| Need::Fields(names.iter().map(|n| (*n).to_owned()).collect());
        let mut need = Need::Nothing;
        need.add(&Need::Nothing);
        assert!(need.is_nothing());
        need.add(&fields(&["a"]));
        need.add(&Need::Nothing);
        need.add(&fields(&["b"]));
        assert_eq!(need, fields(&["a", "b"]));
        assert_eq!((need.of_field("a"), need.of_field("c")), (Need::All, Need::Nothing));
        need.add(&Need::All);
        need.add(&fields(&["c"]));
        assert_eq!((need.of_field("z"), need), (Need::All, Need::All));
    }
}
