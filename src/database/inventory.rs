//! What an application has in a database, object by object, with the words that SQL has for each: listed, compared, dropped, handed over.
//!
//! Owns which kinds there are. What belongs to an extension, to the system or to us is left out. May call `sql` and `term`.

use super::sql::{ident, qualified};
use super::term::{Term, TermError, hold};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};

/// Why objects could not be listed, dropped or handed over; nothing was changed.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// Another process has taken over; nothing was changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The server refused or the connection broke.
    #[error("{what}")]
    Server {
        /// What was tried, on what.
        what: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

fn server(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> InventoryError {
    let what = what.into();
    move |source| InventoryError::Server { what, source }
}

/// What an object is, in the order in which objects are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An ordinary or partitioned table, or a partition.
    Table,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A table on another server.
    ForeignTable,
    /// A sequence that belongs to no column.
    Sequence,
    /// Statistics over several columns.
    Statistics,
    /// A function, procedure or aggregate.
    Routine,
    /// An enum, domain, range or composite type.
    Type,
    /// A collation.
    Collation,
    /// An extension; it has no schema here.
    Extension,
    /// A schema other than `public`; it is its own schema.
    Schema,
}

impl Kind {
    /// The word that SQL has for it.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::ForeignTable => "foreign table",
            Self::Sequence => "sequence",
            Self::Statistics => "statistics",
            Self::Routine => "routine",
            Self::Type => "type",
            Self::Collation => "collation",
            Self::Extension => "extension",
            Self::Schema => "schema",
        }
    }

    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "r" | "p" => Self::Table,
            "v" => Self::View,
            "m" => Self::MaterializedView,
            "f" => Self::ForeignTable,
            "S" => Self::Sequence,
            "statistics" => Self::Statistics,
            "routine" => Self::Routine,
            "type" => Self::Type,
            "collation" => Self::Collation,
            "extension" => Self::Extension,
            "schema" => Self::Schema,
            _ => return None,
        })
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// For a routine the types of its arguments, as the server writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

impl Object {
    /// As SQL names it, such as `table "public"."account"`.
    #[must_use]
    pub fn sql(&self) -> String {
        let name = match self.kind {
            Kind::Extension | Kind::Schema => ident(&self.name),
            _ => qualified(&self.schema, &self.name),
        };
        let arguments = self.arguments.as_ref().map(|types| format!("({types})")).unwrap_or_default();
        format!("{} {name}{arguments}", self.kind.sql())
    }

    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self.kind {
            Kind::Extension | Kind::Schema => format!("{} {}", self.kind.sql(), self.name),
            _ => format!("{} {}.{}", self.kind.sql(), self.schema, self.name),
        }
    }

    /// Whether rows can be in it.
    #[must_use]
    pub fn holds_rows(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::MaterializedView | Kind::ForeignTable)
    }

    fn drop_sql(&self) -> String {
        format!("drop {} cascade", self.sql().replacen(self.kind.sql(), &format!("{} if exists", self.kind.sql()), 1))
    }
}

/// Sequences of columns come and go with their tables.
const OBJECTS: &str = "
select * from (
  select c.relkind::text as kind, n.nspname::text as schema, c.relname::text as name, null::text as arguments, c.relowner as owner
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
     and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
     and not (c.relkind = 'S' and exists (select from pg_catalog.pg_depend d
                where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype in ('i', 'a') and d.refobjsubid > 0))
  union all
  select 'routine', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), p.proowner
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
   where not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype in ('e', 'i'))
  union all
  select 'type', n.nspname, t.typname, null, t.typowner
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    left join pg_catalog.pg_class c on c.oid = t.typrelid
   where (t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and c.relkind = 'c')
     and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
  union all
  select 'collation', n.nspname, o.collname, null, o.collowner
    from pg_catalog.pg_collation o join pg_catalog.pg_namespace n on n.oid = o.collnamespace
   where not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_collation'::regclass and d.objid = o.oid and d.deptype = 'e')
  union all
  select 'statistics', n.nspname, s.stxname, null, s.stxowner
    from pg_catalog.pg_statistic_ext s join pg_catalog.pg_namespace n on n.oid = s.stxnamespace
  union all
  select 'extension', '', e.extname, null, e.extowner from pg_catalog.pg_extension e
  union all
  select 'schema', n.nspname, n.nspname, null, n.nspowner from pg_catalog.pg_namespace n
   where n.nspname <> 'public'
     and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')
  ) as o
 where schema not in ('cutover', 'information_schema') and schema not like 'pg\\_%'";

/// Everything that an application has here, in the order in which it would be dropped.
///
/// # Errors
/// When the server does not answer.
pub async fn read(client: &impl GenericClient) -> Result<Vec<Object>, InventoryError> {
    let sql = format!("select kind, schema, name, arguments from ({OBJECTS}) as o");
    list(client, &sql).await
}

/// What of it belongs to the login of `client` itself.
///
/// # Errors
/// When the server does not answer.
pub async fn read_ours(client: &impl GenericClient) -> Result<Vec<Object>, InventoryError> {
    let sql = format!(
        "select kind, schema, name, arguments from ({OBJECTS}) as o
          where owner = (select oid from pg_catalog.pg_roles where rolname = session_user)"
    );
    list(client, &sql).await
}

async fn list(client: &impl GenericClient, sql: &str) -> Result<Vec<Object>, InventoryError> {
    let rows = client.query(sql, &[]).await.map_err(server("list what is on the side"))?;
    let object = |row: &tokio_postgres::Row| {
        let kind = Kind::of(row.get(0))?;
        Some(Object { kind, schema: row.get(1), name: row.get(2), arguments: row.get(3) })
    };
    let mut objects: Vec<Object> = rows.iter().filter_map(object).collect();
    objects.sort();
    Ok(objects)
}

/// What is in `now` and was not in `before`.
#[must_use]
pub fn made(before: &[Object], now: &[Object]) -> Vec<Object> {
    now.iter().filter(|object| !before.contains(object)).cloned().collect()
}

/// Drops objects and what depends on them, in one transaction under our term; what is absent is done.
///
/// # Errors
/// When another process took over or the server refuses; nothing was dropped.
pub async fn remove(client: &mut Client, term: &Term, objects: &[Object]) -> Result<(), InventoryError> {
    let what = format!("drop {} objects on the side", objects.len());
    let transaction = client.transaction().await.map_err(server(what.clone()))?;
    hold(&transaction, term).await?;
    remove_within(&transaction, objects).await?;
    transaction.commit().await.map_err(server(what))
}

/// The same, within the caller's transaction.
///
/// # Errors
/// When the server refuses.
pub async fn remove_within(client: &impl GenericClient, objects: &[Object]) -> Result<(), InventoryError> {
    let mut sorted: Vec<&Object> = objects.iter().collect();
    sorted.sort();
    for object in sorted {
        let failed = server(format!("drop {}", object.words()));
        client.batch_execute(&object.drop_sql()).await.map_err(failed)?;
    }
    Ok(())
}

/// The statements that make `role` the owner of objects. An extension stays with whoever made it.
#[must_use]
pub fn hand_over_sql(objects: &[Object], role: &str) -> Vec<String> {
    let handed = objects.iter().filter(|object| object.kind != Kind::Extension);
    handed.map(|object| format!("alter {} owner to {}", object.sql(), ident(role))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, name: &str, arguments: Option<&str>) -> Object {
        Object { kind, schema: "a b".to_owned(), name: name.to_owned(), arguments: arguments.map(str::to_owned) }
    }

    #[test]
    fn each_kind_has_its_words() {
        assert_eq!(object(Kind::Table, "t\"", None).drop_sql(), "drop table if exists \"a b\".\"t\"\"\" cascade");
        let routine = object(Kind::Routine, "f", Some("integer, text"));
        assert_eq!(routine.drop_sql(), "drop routine if exists \"a b\".\"f\"(integer, text) cascade");
        assert_eq!(object(Kind::Schema, "s", None).sql(), "schema \"s\"");
        assert_eq!(object(Kind::MaterializedView, "m", None).words(), "materialized view a b.m");
    }

    #[test]
    fn tables_go_before_what_they_are_made_of() {
        let mut all =
            vec![object(Kind::Schema, "s", None), object(Kind::Type, "t", None), object(Kind::Table, "z", None)];
        all.sort();
        assert_eq!(all.iter().map(|object| object.kind).collect::<Vec<_>>(), [Kind::Table, Kind::Type, Kind::Schema]);
        assert_eq!(made(&all[..1], &all), all[1..]);
    }
}
