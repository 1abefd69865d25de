//! What a database holds: application tables with their columns, keys and foreign keys, read in a few queries. Reads only.

use crate::plan::TableName;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;
use tokio_postgres::GenericClient;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as SQL would write it, such as `character varying(40)`.
    pub type_sql: String,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// Whether the server computes it (stored generated columns cannot be written).
    pub is_generated: bool,
    /// Whether it is an identity that refuses given values without `overriding system value`.
    pub is_identity_always: bool,
    /// Whether it has a default (an identity has one too).
    pub has_default: bool,
}

/// A foreign key between two application tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Constraint name.
    pub name: String,
    /// Columns of the referencing table.
    pub columns: Vec<String>,
    /// The table referenced.
    pub parent: TableName,
    /// Columns referenced, in the same order.
    pub parent_columns: Vec<String>,
    /// What becomes of referencing rows when the row they reference is deleted.
    pub on_delete: OnDelete,
}

/// What becomes of referencing rows when the row they reference is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// They keep the delete from happening.
    Refuse,
    /// They are deleted too.
    Cascade,
    /// They let go: null.
    SetNull,
    /// They let go: the columns' defaults.
    SetDefault,
}

/// An application table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Schema and name.
    pub name: TableName,
    /// Whether its rows live in partitions.
    pub is_partitioned: bool,
    /// The partitioned table it is a leaf of, if any.
    pub parent: Option<TableName>,
    /// Columns, in order.
    pub columns: Vec<Column>,
    /// Primary key columns, in order; empty without a primary key.
    pub key: Vec<String>,
    /// Column sets that are unique by an index without predicate or expression, the primary key included.
    pub unique: Vec<Vec<String>>,
    /// Whether something else may refuse two rows that are alike: a unique index with a predicate, an expression or not valid yet, or an
    /// exclusion.
    pub refuses_otherwise: bool,
    /// Foreign keys that start here.
    pub foreign_keys: Vec<ForeignKey>,
    /// The server's estimate of its rows; 0 when it has none.
    pub estimated_rows: u64,
    /// Bytes on disk, indexes left out.
    pub bytes: u64,
}

impl Table {
    /// A column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The application tables of one database: everything outside the system's schemas and our own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// By name.
    pub tables: BTreeMap<TableName, Table>,
}

impl<'a> Catalog {
    /// A table by name.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Tables that hold rows for an application: ordinary tables and partition roots, leaves left out.
    pub fn roots(&'a self) -> impl Iterator<Item = &'a Table> {
        self.tables.values().filter(|table| table.parent.is_none())
    }
}

const TABLES: &str = "
select n.nspname, c.relname, c.relkind = 'p' as is_partitioned, pn.nspname as parent_schema, p.relname as parent_name,
       greatest(c.reltuples, 0)::bigint as estimated_rows, pg_table_size(c.oid)::bigint as bytes
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_inherits i on i.inhrelid = c.oid and c.relispartition
  left join pg_catalog.pg_class p on p.oid = i.inhparent
  left join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
 where c.relkind in ('r', 'p') and c.relpersistence <> 't'
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
 order by 1, 2";

const COLUMNS: &str = "
select n.nspname, c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attgenerated <> '', a.attidentity = 'a', a.atthasdef or a.attidentity <> ''
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
 order by 1, 2, a.attnum";

const UNIQUE: &str = "
select n.nspname, c.relname, i.indisprimary,
       array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality k(num, place)
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.num order by k.place)
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
 order by 1, 2, i.indisprimary desc, i.indexrelid";

const REFUSES_OTHERWISE: &str = "
select distinct n.nspname, c.relname
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where (i.indisexclusion or i.indisunique and (not i.indisvalid or i.indpred is not null or i.indexprs is not null))
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'";

const FOREIGN_KEYS: &str = "
select n.nspname, c.relname, k.conname, pn.nspname, p.relname,
       array(select a.attname::text from unnest(k.conkey) with ordinality x(num, place)
               join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.num order by x.place),
       array(select a.attname::text from unnest(k.confkey) with ordinality x(num, place)
               join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = x.num order by x.place),
       k.confdeltype::text
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class p on p.oid = k.confrelid
  join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
 where k.contype = 'f' and k.conparentid = 0
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
 order by 1, 2, 3";

/// Reads the catalog of the database `client` is connected to.
///
/// # Errors
/// When the server refuses or the connection breaks.
pub async fn read(client: &impl GenericClient) -> Result<Catalog, tokio_postgres::Error> {
    let mut catalog = Catalog::default();
    for row in client.query(TABLES, &[]).await? {
        let table = table(&row);
        catalog.tables.insert(table.name.clone(), table);
    }
    for row in client.query(COLUMNS, &[]).await? {
        with(&mut catalog, &row, |table| table.columns.push(column(&row)));
    }
    for row in client.query(UNIQUE, &[]).await? {
        with(&mut catalog, &row, |table| add_unique(table, row.get(2), row.get(3)));
    }
    for row in client.query(REFUSES_OTHERWISE, &[]).await? {
        with(&mut catalog, &row, |table| table.refuses_otherwise = true);
    }
    for row in client.query(FOREIGN_KEYS, &[]).await? {
        with(&mut catalog, &row, |table| table.foreign_keys.push(foreign_key(&row)));
    }
    Ok(catalog)
}

/// The server's version in its own words.
///
/// # Errors
/// When the server does not answer.
pub async fn server_version(client: &impl GenericClient) -> Result<String, tokio_postgres::Error> {
    Ok(client.query_one("select current_setting('server_version')", &[]).await?.get(0))
}

/// A digest of the schema: names, columns, keys and foreign keys; sizes left out. In hex.
#[must_use]
pub fn fingerprint(catalog: &Catalog) -> String {
    let mut bare = catalog.clone();
    for table in bare.tables.values_mut() {
        (table.estimated_rows, table.bytes) = (0, 0);
    }
    let tables: Vec<&Table> = bare.tables.values().collect();
    let text = serde_json::to_vec(&tables).expect("tables serialise");
    hex::encode(sha2::Sha256::digest(&text))
}

fn with(catalog: &mut Catalog, row: &tokio_postgres::Row, act: impl FnOnce(&mut Table)) {
    let name = TableName { schema: row.get(0), name: row.get(1) };
    // A table created between two of the queries is left for the next reading.
    if let Some(table) = catalog.tables.get_mut(&name) {
        act(table);
    }
}

fn table(row: &tokio_postgres::Row) -> Table {
    let parent = row.get::<_, Option<String>>(3).zip(row.get::<_, Option<String>>(4));
    Table {
        name: TableName { schema: row.get(0), name: row.get(1) },
        is_partitioned: row.get(2),
        parent: parent.map(|(schema, name)| TableName { schema, name }),
        columns: Vec::new(),
        key: Vec::new(),
        unique: Vec::new(),
        refuses_otherwise: false,
        foreign_keys: Vec::new(),
        estimated_rows: u64::try_from(row.get::<_, i64>(5)).unwrap_or(0),
        bytes: u64::try_from(row.get::<_, i64>(6)).unwrap_or(0),
    }
}

fn column(row: &tokio_postgres::Row) -> Column {
    Column {
        name: row.get(2),
        type_sql: row.get(3),
        not_null: row.get(4),
        is_generated: row.get(5),
        is_identity_always: row.get(6),
        has_default: row.get(7),
    }
}

fn add_unique(table: &mut Table, is_primary: bool, columns: Vec<String>) {
    if is_primary {
        table.key.clone_from(&columns);
    }
    table.unique.push(columns);
}

fn foreign_key(row: &tokio_postgres::Row) -> ForeignKey {
    ForeignKey {
        name: row.get(2),
        parent: TableName { schema: row.get(3), name: row.get(4) },
        columns: row.get(5),
        parent_columns: row.get(6),
        on_delete: match row.get(7) {
            "c" => OnDelete::Cascade,
            "n" => OnDelete::SetNull,
            "d" => OnDelete::SetDefault,
            _ => OnDelete::Refuse,
        },
    }
}
