//! What captured tables look like: columns whose change parks a run, files whose change means that every key was touched.

use super::{Capture, CaptureError, Captured};
use crate::plan::TableName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::{Client, GenericClient};

const RELATIONS: &str = "select c.oid is not null,
  (select string_agg(format('%s %s', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  coalesce((select string_agg(format('%s:%s', t.relid::oid, pg_relation_filenode(t.relid)), ' ' order by t.relid::oid)
    from pg_partition_tree(c.oid) t where t.isleaf), format('%s:%s', c.oid, pg_relation_filenode(c.oid)))
from unnest($1::text[], $2::text[]) with ordinality w(schema, name, place)
left join (pg_class c join pg_namespace n on n.oid = c.relnamespace) on n.nspname = w.schema and c.relname = w.name and c.relkind in ('r', 'p')
order by w.place";

/// What a captured table looked like: a change of its columns parks the run, a change of its files (truncate, rewrite, a partition
/// attached) means that all its keys were touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationState {
    /// Columns with types.
    pub columns: String,
    /// Oids and file nodes of the table or its leaves.
    pub files: String,
}

/// All captured tables, by `schema.name`.
pub type Relations = BTreeMap<TableNameKey, RelationState>;
/// A table's `schema.name`, as [`TableName`] prints itself.
pub type TableNameKey = String;

impl Capture {
    /// That every captured table still has the columns with which the capture began.
    ///
    /// # Errors
    /// The first table that was altered or dropped.
    pub async fn require_unaltered(&self, client: &Client, captured: &Captured) -> Result<(), CaptureError> {
        let tables: Vec<TableName> = captured.relations.keys().map(|name| table_name(name)).collect();
        let now = self.relations(client, &tables).await?;
        let altered = captured.relations.iter().zip(now.values()).find(|((_, was), is)| was.columns != is.columns);
        let Some(((table, was), is)) = altered else { return Ok(()) };
        Err(CaptureError::Altered {
            side: self.side,
            table: table.clone(),
            before: was.columns.clone(),
            now: is.columns.clone(),
        })
    }

    /// What the tables look like now; hold a lock on them for the answer to last.
    pub(in crate::database) async fn relations(
        &self,
        client: &impl GenericClient,
        tables: &[TableName],
    ) -> Result<Relations, CaptureError> {
        let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let rows = client.query(RELATIONS, &[&schemas, &names]).await.map_err(self.server("read the tables"))?;
        let state = |(table, row): (&TableName, &tokio_postgres::Row)| match row.get(0) {
            true => Ok((table.to_string(), RelationState { columns: text(row, 1), files: text(row, 2) })),
            false => Err(CaptureError::NoTable { side: self.side, table: table.clone() }),
        };
        tables.iter().zip(&rows).map(state).collect()
    }
}

fn table_name(key: &str) -> TableName {
    let (schema, name) = key.split_once('.').unwrap_or(("public", key));
    TableName { schema: schema.to_owned(), name: name.to_owned() }
}

fn text(row: &tokio_postgres::Row, at: usize) -> String {
    row.get::<_, Option<String>>(at).unwrap_or_default()
}
