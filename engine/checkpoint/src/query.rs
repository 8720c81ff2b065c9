//! The query that a checkpoint belongs to, part by part, and what a changed one means for it.
//!
//! Pure; on the recovery path. Two sorts of things are kept of each node. Its **parts** decide: state was
//! made by them, so with other parts it would mean something else. Its **notes** do not: they may
//! change, and it is said that they have. Invariant: what state depends on is a part, and neither parts nor
//! notes hold a secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The version of this description. A checkpoint with another is judged by its fingerprint alone.
pub const VERSION: u32 = 1;

/// The part that says how state is kept. It follows from the others, unless Tidemill itself has changed.
const STATE: &str = "state";

/// A query as a manifest keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// [`VERSION`].
    pub version: u32,
    /// Its nodes, by name.
    pub nodes: BTreeMap<String, QueryNode>,
}

/// One node of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryNode {
    /// What sort of node: `source`, `operator`, `aggregation`, `sink`.
    pub kind: String,
    /// Whether some state depends on it.
    pub matters: bool,
    /// What state depends on, by name; of some names there are several, in an order that matters.
    pub parts: BTreeMap<String, Vec<String>>,
    /// What else there is to say of it.
    pub notes: BTreeMap<String, Vec<String>>,
}

/// How a query differs from that of a checkpoint, a line for each difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Because of these the state cannot be restored.
    pub refused: Vec<String>,
    /// These may be.
    pub accepted: Vec<String>,
}

impl Query {
    /// What has changed from this query of a checkpoint to `now`.
    pub fn changes(&self, now: &Self) -> Changes {
        let mut changes = Changes::default();
        let names: BTreeSet<&String> = self.nodes.keys().chain(now.nodes.keys()).collect();
        for name in names {
            match (self.nodes.get(name), now.nodes.get(name)) {
                (Some(then), Some(now)) => then.changes(name, now, &mut changes),
                (Some(then), None) => {
                    let renamed = now.only_here(self).find(|(_, node)| then.is_like(node));
                    let line = match renamed {
                        Some((new, _)) if then.matters => format!(
                            "{} is called `{new}` now: nodes are called after tables and views, \
                             and state is found by their names",
                            then.titled(name)
                        ),
                        _ => format!("{} is gone", then.titled(name)),
                    };
                    changes.add(then.matters, line);
                }
                (None, Some(new)) => {
                    let was = self.only_here(now).find(|(_, node)| node.is_like(new));
                    if !(new.matters && was.is_some()) {
                        changes
                            .add(new.matters, format!("{} is new{}", new.titled(name), new.gist()));
                    }
                }
                (None, None) => {}
            }
        }
        changes
    }

    /// The nodes that `other` does not have.
    fn only_here(&self, other: &Self) -> impl Iterator<Item = (&String, &QueryNode)> {
        let other: BTreeSet<String> = other.nodes.keys().cloned().collect();
        self.nodes.iter().filter(move |(name, _)| !other.contains(*name))
    }
}

impl Changes {
    fn add(&mut self, refused: bool, line: String) {
        if refused { &mut self.refused } else { &mut self.accepted }.push(line);
    }
}

impl QueryNode {
    fn titled(&self, name: &str) -> String {
        format!("{} `{name}`", self.kind)
    }

    /// Whether it is the same under another name.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && !self.parts.is_empty() && self.parts == other.parts
    }

    /// A new node in a few words.
    fn gist(&self) -> String {
        let values =
            |(name, values): (&String, &Vec<String>)| format!("{name} {}", values.join(", "));
        let parts = self.parts.iter().filter(|(name, _)| *name != STATE && *name != "input");
        let parts: Vec<String> = parts.map(values).collect();
        if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) }
    }

    /// A part, or the note that it becomes where state ceases to depend on it.
    fn said(&self, name: &str) -> Option<&Vec<String>> {
        self.parts.get(name).or_else(|| self.notes.get(name))
    }

    fn changes(&self, name: &str, now: &Self, changes: &mut Changes) {
        let title = self.titled(name);
        let (mut parts, mut notes) = (Vec::new(), Vec::new());
        // Where state has come or gone, the node that keeps it says so.
        if self.matters && now.matters {
            for part in keys(&self.parts, &now.parts) {
                let (then, now) = (self.said(&part), now.said(&part));
                let lines = differences(&part, then, now);
                // State reads no column that it has not read before, so one that is new does no harm.
                let is_new_column = part.starts_with("column ") && !self.parts.contains_key(&part);
                let follows = part == STATE && !parts.is_empty();
                if is_new_column && self.kind == "source" {
                    notes.extend(lines);
                } else if !follows {
                    parts.extend(lines);
                }
            }
        }
        for note in keys(&self.notes, &now.notes) {
            // A column may have become one that is used, or ceased to be.
            if !self.parts.contains_key(&note) && !now.parts.contains_key(&note) {
                notes.extend(differences(&note, self.notes.get(&note), now.notes.get(&note)));
            }
        }
        changes.refused.extend(parts.into_iter().map(|line| format!("{title}: {line}")));
        changes.accepted.extend(notes.into_iter().map(|line| format!("{title}: {line}")));
    }
}

/// The names in both, those of the state last.
fn keys(then: &BTreeMap<String, Vec<String>>, now: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let (state, others): (Vec<_>, Vec<_>) =
        names.into_iter().cloned().partition(|name| name == STATE);
    others.into_iter().chain(state).collect()
}

/// How the values of a part have changed.
fn differences(name: &str, then: Option<&Vec<String>>, now: Option<&Vec<String>>) -> Vec<String> {
    let (then, now) = match (then, now) {
        (then, now) if then == now => return Vec::new(),
        (Some(then), Some(now)) => (then, now),
        (Some(then), None) => return vec![format!("{name} is gone (it was {})", then.join(", "))],
        (None, Some(now)) => return vec![format!("{name} is new: {}", now.join(", "))],
        (None, None) => return Vec::new(),
    };
    let gone = without(then, now);
    let new = without(now, then);
    match (gone.as_slice(), new.as_slice()) {
        ([], []) => {
            let (then, now) = (then.join(", "), now.join(", "));
            vec![format!("the order of each {name} was {then}; is now {now}")]
        }
        ([was], [is]) => vec![format!("{name} was {was}; is now {is}")],
        _ => {
            let gone = gone.iter().map(|was| format!("{name} {was} is gone"));
            gone.chain(new.iter().map(|is| format!("{name} {is} is new"))).collect()
        }
    }
}

/// What is left of `all` when each of `others` has taken one that equals it.
fn without<'a>(all: &'a [String], others: &[String]) -> Vec<&'a String> {
    let mut others: Vec<&String> = others.iter().collect();
    let mut left = Vec::new();
    for value in all {
        match others.iter().position(|other| *other == value) {
            Some(found) => _ = others.swap_remove(found),
            None => left.push(value),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(
        kind: &str,
        matters: bool,
        parts: &[(&str, &[&str])],
        notes: &[(&str, &str)],
    ) -> QueryNode {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        QueryNode {
            kind: kind.to_owned(),
            matters,
            parts: parts.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect(),
            notes: notes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), owned(&[value])))
                .collect(),
        }
    }

    fn query(nodes: &[(&str, QueryNode)]) -> Query {
        let nodes = nodes.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect();
        Query { version: VERSION, nodes }
    }

    fn window(size: &str, aggregates: &[&str], state: &str) -> QueryNode {
        let parts: &[(&str, &[&str])] =
            &[("window", &[size]), ("aggregate", aggregates), ("state", &[state])];
        node("aggregation", true, parts, &[])
    }

    #[test]
    fn what_state_depends_on_is_refused_and_all_else_accepted() {
        let source =
            |columns: &[(&str, &[&str])], reads| node("source", true, columns, &[("reads", reads)]);
        let then = query(&[
            ("orders", source(&[("column amount", &["INT"])], "json")),
            ("window(a)", window("tumbling 60s", &["count(*)", "sum(amount)"], "[Int64]")),
            ("a", node("sink", false, &[], &[("writes", "print")])),
        ]);
        assert_eq!(then.changes(&then), Changes::default());
        let now = query(&[
            (
                "orders",
                source(&[("column amount", &["BIGINT"]), ("column currency", &["STRING"])], "avro"),
            ),
            (
                "window(a)",
                window("tumbling 30s", &["count(*)", "max(amount)", "min(amount)"], "[]"),
            ),
            ("b", node("sink", false, &[], &[("writes", "print")])),
        ]);
        let changes = then.changes(&now);
        assert_eq!(
            changes.refused,
            [
                "source `orders`: column amount was INT; is now BIGINT",
                "aggregation `window(a)`: aggregate sum(amount) is gone",
                "aggregation `window(a)`: aggregate max(amount) is new",
                "aggregation `window(a)`: aggregate min(amount) is new",
                "aggregation `window(a)`: window was tumbling 60s; is now tumbling 30s",
            ]
        );
        assert_eq!(
            changes.accepted,
            [
                "sink `a` is gone",
                "sink `b` is new",
                "source `orders`: column currency is new: STRING",
                "source `orders`: reads was json; is now avro",
            ]
        );
    }

    #[test]
    fn order_and_layout_of_state_matter_and_a_new_name_is_recognised() {
        let refused = |now: QueryNode, name: &str| {
            let then = query(&[("w", window("tumbling 60s", &["min(x)", "max(x)"], "native"))]);
            then.changes(&query(&[(name, now)])).refused
        };
        let line = refused(window("tumbling 60s", &["max(x)", "min(x)"], "native"), "w");
        let order = "the order of each aggregate was min(x), max(x); is now max(x), min(x)";
        assert_eq!(line, [format!("aggregation `w`: {order}")]);
        let line = refused(window("tumbling 60s", &["min(x)", "max(x)"], "exact"), "w");
        assert_eq!(line, ["aggregation `w`: state was native; is now exact"]);
        let line = refused(window("tumbling 60s", &["min(x)", "max(x)"], "native"), "v");
        assert_eq!(line.len(), 1);
        assert!(line[0].starts_with("aggregation `w` is called `v` now"), "{line:?}");
        let line = refused(window("tumbling 9s", &["min(x)"], "native"), "v");
        assert_eq!(line[1], "aggregation `w` is gone");
        assert_eq!(line[0], "aggregation `v` is new: aggregate min(x); window tumbling 9s");
    }
}
