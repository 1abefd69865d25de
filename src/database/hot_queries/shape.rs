//! A server's plan as far as it is compared: which nodes read which tables, and what each is thought to cost. Pure; values never enter it.

use crate::plan::TableName;
use serde_json::Value;

/// One node of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// As the server names it: `Seq Scan`, `Index Scan`.
    pub kind: String,
    /// The table that it reads or writes; of a partition the table that it belongs to.
    pub table: Option<TableName>,
    /// Bytes of what it names; 0 when unknown.
    pub bytes: u64,
    /// What it costs by itself, without the nodes below it.
    pub own_cost: f64,
}

impl Node {
    /// Whether it reads a table from end to end.
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        self.kind == "Seq Scan"
    }

    /// In words: `Seq Scan on public.access`.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.table {
            Some(table) => format!("{} on {table}", self.kind),
            None => self.kind.clone(),
        }
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What all of it is thought to cost.
    pub cost: f64,
    /// Its nodes, each before those below it.
    pub nodes: Vec<Node>,
    /// Whether partitions are left out of it.
    pub is_pruned: bool,
}

impl Planned {
    /// Reads what `explain (format json, verbose)` answers.
    #[must_use]
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let top = answer.get(0)?.get("Plan")?;
        let mut plan = Self { cost: top.get("Total Cost")?.as_f64()?, nodes: Vec::new(), is_pruned: false };
        plan.take(top);
        Some(plan)
    }

    fn take(&mut self, node: &Value) {
        let text = |key: &str| node[key].as_str().map(str::to_owned);
        let cost = |node: &Value| node["Total Cost"].as_f64().unwrap_or(0.0);
        let below = node["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
        let table = text("Schema").zip(text("Relation Name")).map(|(schema, name)| TableName { schema, name });
        self.is_pruned |= node["Subplans Removed"].as_u64().is_some_and(|removed| removed > 0);
        self.nodes.push(Node {
            kind: text("Node Type").unwrap_or_default(),
            table,
            bytes: 0,
            own_cost: (cost(node) - below.iter().map(cost).sum::<f64>()).max(0.0),
        });
        below.iter().for_each(|node| self.take(node));
    }

    /// The nodes in words, for the journal; those of one table's partitions once.
    #[must_use]
    pub fn shape(&self) -> Vec<String> {
        let mut words: Vec<String> = self.nodes.iter().map(Node::words).collect();
        words.dedup();
        words
    }
}
