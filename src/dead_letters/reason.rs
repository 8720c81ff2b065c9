//! Reasons as kinds: what differs in numbers alone (lines, offsets, amounts) is the same mistake. For `dlq ls`.

use std::sync::LazyLock;

use regex::Regex;

/// A number, also one of several parts (`3:17`, `2026-01-01`), that is not the end of a name (`UTF-8`, `int64`).
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(^|[^\w-])-?\d+(?:[-:.,]\d+)*").expect("a regular expression that a test compiles")
});

/// The reason with `#` for each number.
pub(crate) fn masked(reason: &str) -> String {
    NUMBER.replace_all(reason, "${1}#").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_are_one_kind_and_names_stay() {
        let reasons = [
            ("EOF while parsing at line 1 column 318", "EOF while parsing at line # column #"),
            ("17 is too large", "# is too large"),
            ("-5 (at 3:17, took 12ms), 2026-01-01 00:00:00.", "# (at #, took #ms), # #."),
            ("not valid UTF-8 at byte 40", "not valid UTF-8 at byte #"),
            ("t1.n is no int64", "t1.n is no int64"),
            ("größer als 5 und 6", "größer als # und #"),
        ];
        for (reason, kind) in reasons {
            assert_eq!(masked(reason), kind);
        }
    }
}
