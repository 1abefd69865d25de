//! Whether green plans a query worse than blue. Pure.

use super::shape::{Node, Planned};
use crate::plan::{HotQueries, TableName};
use std::fmt;

/// About what a look-up through an index costs; below it a ratio says nothing.
const LOOK_UP: f64 = 10.0;

/// How much worse a plan may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How many times blue's cost green's may be.
    pub cost_ratio: f64,
    /// Bytes from which on a table should not be read from end to end.
    pub small_table_bytes: u64,
}

impl From<&HotQueries> for Limits {
    fn from(hot: &HotQueries) -> Self {
        Self { cost_ratio: hot.cost_ratio, small_table_bytes: hot.small_table_bytes }
    }
}

/// One way in which green's plan is worse.
#[derive(Debug, Clone, PartialEq)]
pub enum Worse {
    /// It reads a large table from end to end, which blue does not.
    Sequential {
        /// The table.
        table: TableName,
        /// Bytes that are read.
        bytes: u64,
        /// The node in which blue reads its rows, if its query does.
        blue: Option<String>,
    },
    /// It is thought to cost too much.
    Cost {
        /// The node that costs most.
        node: String,
        /// Green's cost as a multiple of blue's.
        ratio: f64,
        /// The most that it may be.
        most: f64,
    },
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequential { table, bytes, blue } => {
                write!(f, "green reads {table} from end to end (Seq Scan, {} MB)", bytes.div_ceil(1 << 20))?;
                match blue {
                    Some(node) => write!(f, ", blue by {node}"),
                    None => write!(f, ", blue reads no table so"),
                }
            }
            Self::Cost { node, ratio, most } => {
                write!(f, "green's cost is {ratio:.0} times blue's, {most} at most; most of it in {node}")
            }
        }
    }
}

/// What is worse on green; nothing when it does as well. `sources` gives the tables of blue whose rows a table of green holds.
#[must_use]
pub fn worse(
    blue: &Planned,
    green: &Planned,
    limits: Limits,
    sources: &dyn Fn(&TableName) -> Vec<TableName>,
) -> Vec<Worse> {
    let mut found: Vec<Worse> = large_scans(green, limits)
        .into_iter()
        .filter_map(|(table, bytes)| {
            let node = read_otherwise(blue, &sources(&table))?;
            Some(Worse::Sequential { table, bytes, blue: node.map(Node::words) })
        })
        .collect();
    let ratio = green.cost / blue.cost.max(LOOK_UP);
    if ratio > limits.cost_ratio {
        let dearest = green.nodes.iter().max_by(|one, other| one.own_cost.total_cmp(&other.own_cost));
        let node = dearest.map(Node::words).unwrap_or_default();
        found.push(Worse::Cost { node, ratio, most: limits.cost_ratio });
    }
    found
}

/// Tables that a plan reads from end to end and that are not small; partitions count together.
fn large_scans(plan: &Planned, limits: Limits) -> Vec<(TableName, u64)> {
    let mut read: Vec<(TableName, u64)> = Vec::new();
    for node in plan.nodes.iter().filter(|node| node.is_sequential()) {
        let Some(table) = &node.table else { continue };
        match read.iter_mut().find(|(known, _)| known == table) {
            Some((_, bytes)) => *bytes += node.bytes,
            None => read.push((table.clone(), node.bytes)),
        }
    }
    read.retain(|(_, bytes)| *bytes >= limits.small_table_bytes);
    read
}

/// Whether blue does without reading `sources` from end to end, and the node in which it reads them. A query of another engine may not
/// read them at all; then any table that blue reads so is as bad.
fn read_otherwise<'p>(blue: &'p Planned, sources: &[TableName]) -> Option<Option<&'p Node>> {
    let reads = |node: &&Node| node.table.as_ref().is_some_and(|table| sources.contains(table));
    let nodes: Vec<&Node> = blue.nodes.iter().filter(reads).collect();
    let sequential = |node: &&Node| node.is_sequential();
    match nodes.iter().find(|node| node.kind != "ModifyTable") {
        Some(first) => (!nodes.iter().any(|node| node.is_sequential())).then_some(Some(*first)),
        None => (!blue.nodes.iter().any(|node| sequential(&node))).then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName { schema: "public".to_owned(), name: name.to_owned() }
    }

    fn plan(cost: f64, nodes: &[(&str, &str, u64)]) -> Planned {
        let node = |(kind, name, mb): &(&str, &str, u64)| Node {
            kind: (*kind).to_owned(),
            table: Some(table(name)),
            bytes: mb << 20,
            own_cost: cost,
        };
        Planned { cost, nodes: nodes.iter().map(node).collect(), is_pruned: false }
    }

    fn told(blue: &Planned, green: &Planned) -> Vec<String> {
        let limits = Limits { cost_ratio: 10.0, small_table_bytes: 8 << 20 };
        let sources = |green: &TableName| match green.name.as_str() {
            "flow" => vec![table("request"), table("handled")],
            _ => vec![green.clone()],
        };
        worse(blue, green, limits, &sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_large_table_read_from_end_to_end_is_worse_than_an_index() {
        let index = plan(8.3, &[("Index Scan", "access", 50)]);
        let none: [String; 0] = [];
        assert_eq!(told(&index, &plan(9.0, &[("Index Scan", "access", 50)])), none);
        let scan = ["green reads public.access from end to end (Seq Scan, 50 MB), blue by Index Scan on public.access"];
        assert_eq!(told(&index, &plan(50.0, &[("Seq Scan", "access", 50)])), scan);
        assert_eq!(told(&index, &plan(50.0, &[("Seq Scan", "access", 7)])), none, "small");
        let parts = [("Seq Scan", "access", 5), ("Seq Scan", "access", 4)];
        assert_eq!(told(&index, &plan(50.0, &parts)).len(), 1, "partitions count together");
        let both = plan(50.0, &[("Seq Scan", "access", 50)]);
        assert_eq!(told(&both, &both), none, "as bad as on blue");
    }

    #[test]
    fn several_tables_of_blue_stand_for_one_of_green() {
        let scan = plan(50.0, &[("Seq Scan", "flow", 50)]);
        let joined = plan(20.0, &[("Index Scan", "request", 9), ("Index Scan", "handled", 9)]);
        assert!(
            told(&joined, &scan)[0].ends_with("blue by Index Scan on public.request"),
            "{:?}",
            told(&joined, &scan)
        );
        let half = plan(20.0, &[("Index Scan", "request", 9), ("Seq Scan", "handled", 9)]);
        assert_eq!(told(&half, &scan).len(), 0);
        let elsewhere = plan(20.0, &[("Index Scan", "session", 9)]);
        assert!(told(&elsewhere, &scan)[0].ends_with("blue reads no table so"));
        assert_eq!(told(&plan(20.0, &[("Seq Scan", "session", 9)]), &scan).len(), 0);
        let written = plan(20.0, &[("ModifyTable", "request", 9), ("Seq Scan", "request", 9)]);
        assert_eq!(told(&written, &scan).len(), 0, "what is written is not what is read");
    }

    #[test]
    fn a_cost_is_worse_by_its_ratio_and_never_for_look_ups() {
        let index = |cost| plan(cost, &[("Index Scan", "access", 50)]);
        assert_eq!(told(&index(0.3), &index(99.0)).len(), 0, "both are nothing");
        assert_eq!(told(&index(40.0), &index(400.0)).len(), 0);
        let words = ["green's cost is 12 times blue's, 10 at most; most of it in Index Scan on public.access"];
        assert_eq!(told(&index(40.0), &index(480.0)), words);
    }
}
