//! What a live database says of its tables: sizes, columns, constraints, so that lint knows what a statement costs there. Reads only.

use super::lint::{Known, Rule, Size, Table};
use std::collections::BTreeSet;
use tokio_postgres::{Error, GenericClient};

const NAME: &str = "case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname";
const OURS: &str = "n.nspname not in ('pg_catalog', 'information_schema', 'cutover') and n.nspname not like 'pg\\_%'";

fn tables_sql() -> String {
    format!(
        "select {NAME}, pg_catalog.pg_total_relation_size(c.oid), c.reltuples::bigint, c.relkind::text,
       (select {parent} from pg_catalog.pg_inherits i join pg_catalog.pg_class c2 on c2.oid = i.inhparent
          join pg_catalog.pg_namespace n2 on n2.oid = c2.relnamespace where i.inhrelid = c.oid limit 1),
       (select array_agg(a.attname::text order by k.at) from pg_catalog.pg_index x
          cross join lateral unnest(x.indkey::int2[]) with ordinality k (number, at)
          join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
         where x.indrelid = c.oid and x.indisprimary)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'm', 'v') and {OURS}",
        parent = NAME.replace("n.", "n2.").replace("c.", "c2.")
    )
}

fn columns_sql() -> String {
    format!(
        "select {NAME}, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull
  from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'm') and a.attnum > 0 and not a.attisdropped and {OURS}"
    )
}

fn rules_sql() -> String {
    format!(
        "select {NAME}, o.conname::text, o.contype::text, o.convalidated,
       (select {parent} from pg_catalog.pg_class c2 join pg_catalog.pg_namespace n2 on n2.oid = c2.relnamespace where c2.oid = o.confrelid),
       (select array_agg(a.attname::text) from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum = any (o.conkey)),
       pg_catalog.pg_get_constraintdef(o.oid)
  from pg_catalog.pg_constraint o join pg_catalog.pg_class c on c.oid = o.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where {OURS}",
        parent = NAME.replace("n.", "n2.").replace("c.", "c2.")
    )
}

fn indexes_sql() -> String {
    format!(
        "select case n.nspname when 'public' then '' else n.nspname || '.' end || i.relname, {NAME}
  from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where {OURS}"
    )
}

/// Reads what lint can know.
///
/// # Errors
/// When the server refuses.
pub async fn read(client: &impl GenericClient) -> Result<Known, Error> {
    let mut known = Known { is_live: true, ..Known::default() };
    for row in client.query(&tables_sql(), &[]).await? {
        let (name, kind): (String, String) = (row.get(0), row.get(3));
        if ["v", "m"].contains(&kind.as_str()) {
            known.views.insert(name.clone(), BTreeSet::new());
        }
        if kind != "v" {
            let size = Size { bytes: number(row.get(1)), rows: number(row.get(2)) };
            let primary_key = row.get::<_, Option<Vec<String>>>(5).unwrap_or_default();
            let table = Table { size: Some(size), parent: row.get(4), primary_key, ..Table::default() };
            known.tables.insert(name, table);
        }
    }
    for row in client.query(&columns_sql(), &[]).await? {
        let Some(table) = known.tables.get_mut(row.get::<_, &str>(0)) else { continue };
        table.columns.insert(row.get(1), row.get(2));
        if row.get(3) {
            table.not_null.insert(row.get(1));
        }
    }
    for row in client.query(&rules_sql(), &[]).await? {
        let columns = row.get::<_, Option<Vec<String>>>(5).unwrap_or_default();
        let rule = match row.get(2) {
            "f" => row.get::<_, Option<String>>(4).map(|parent| Rule::Foreign { parent, columns }),
            "c" => Some(Rule::Check { not_null: not_null_of(row.get(6), &columns), is_valid: row.get(3) }),
            "p" | "u" | "x" => Some(Rule::Key(columns)),
            _ => None,
        };
        if let (Some(table), Some(rule)) = (known.tables.get_mut(row.get::<_, &str>(0)), rule) {
            table.rules.insert(row.get(1), rule);
        }
    }
    for row in client.query(&indexes_sql(), &[]).await? {
        known.indexes.insert(row.get(0), row.get(1));
    }
    Ok(known)
}

fn number(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or(0)
}

/// The column of a check that says `column is not null` and nothing else.
fn not_null_of(definition: &str, columns: &[String]) -> Option<String> {
    let [column] = columns else { return None };
    let said = definition.trim_end_matches(" NOT VALID");
    let forms = [format!("CHECK (({column} IS NOT NULL))"), format!("CHECK ((\"{column}\" IS NOT NULL))")];
    forms.contains(&said.to_owned()).then(|| column.clone())
}

const TRACKING: &str = "select pg_catalog.to_regclass('public.schema_migration') is not null";

/// The versions that the engine's own table names, or none without that table.
///
/// # Errors
/// When the server refuses.
pub async fn engine_versions(client: &impl GenericClient) -> Result<BTreeSet<String>, Error> {
    if !client.query_one(TRACKING, &[]).await?.get::<_, bool>(0) {
        return Ok(BTreeSet::new());
    }
    let rows = client.query("select version::text from public.schema_migration", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
