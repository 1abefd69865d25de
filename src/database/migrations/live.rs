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
        "select case n.nspname when 'public' then '' else n.nspname || '.' end || i.relname, {NAME},
       (select array_agg(a.attname::text order by k.at) from unnest(x.indkey::int2[]) with ordinality k (number, at)
          join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number where x.indexprs is null and k.at <= x.indnkeyatts)
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
            let is_partitioned = kind == "p";
            let table = Table { size: Some(size), parent: row.get(4), primary_key, is_partitioned, ..Table::default() };
            known.tables.insert(name, table);
        }
    }
    sum_up(&mut known);
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
        known.index_columns.extend(row.get::<_, Option<Vec<String>>>(2).map(|columns| (row.get(0), columns)));
    }
    read_costs(client, &mut known).await?;
    Ok(known)
}

/// A table is as large as it is with its partitions and children: it has none of its own rows, or not all that its name means.
fn sum_up(known: &mut Known) {
    let parents: BTreeSet<String> = known.tables.values().filter_map(|table| table.parent.clone()).collect();
    let own = |name: &String| known.tables.get(name).and_then(|table| table.size).unwrap_or(Size { bytes: 0, rows: 0 });
    let whole: Vec<(String, Size)> = parents
        .into_iter()
        .map(|parent| {
            let below: Vec<Size> = known.below(&parent).iter().map(own).collect();
            let sum = below
                .into_iter()
                .fold(own(&parent), |sum, one| Size { bytes: sum.bytes + one.bytes, rows: sum.rows + one.rows });
            (parent, sum)
        })
        .collect();
    for (name, size) in whole {
        if let Some(table) = known.tables.get_mut(&name) {
            table.size = Some(size);
        }
    }
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

/// Columns on which checks, and indexes with an expression or a condition, depend.
fn computed_sql() -> String {
    format!(
        "select {NAME}, a.attname::text
  from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = x.indexrelid
   and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid and a.attnum > 0
 where (x.indexprs is not null or x.indpred is not null) and {OURS}
union select {NAME}, a.attname::text
  from pg_catalog.pg_constraint o join pg_catalog.pg_class c on c.oid = o.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = any (o.conkey)
 where o.contype = 'c' and {OURS}"
    )
}

fn default_partitions_sql() -> String {
    format!(
        "select {NAME}, {rest} from pg_catalog.pg_partitioned_table p
  join pg_catalog.pg_class c on c.oid = p.partrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class c2 on c2.oid = p.partdefid join pg_catalog.pg_namespace n2 on n2.oid = c2.relnamespace
 where {OURS}",
        rest = NAME.replace("n.", "n2.").replace("c.", "c2.")
    )
}

/// Domains, and whether they or those that they are made of have constraints; other types that somebody made have none.
const DOMAINS: &str = "
with recursive made (oid, base) as (
  select oid, oid from pg_catalog.pg_type where typtype = 'd'
  union select m.oid, t.typbasetype from made m join pg_catalog.pg_type t on t.oid = m.base where t.typtype = 'd' and t.typbasetype <> 0)
select case n.nspname when 'public' then '' else n.nspname || '.' end || t.typname,
       bool_or(b.typnotnull or exists (select from pg_catalog.pg_constraint o where o.contypid = b.oid))
  from made m join pg_catalog.pg_type t on t.oid = m.oid join pg_catalog.pg_type b on b.oid = m.base
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where n.nspname not in ('pg_catalog', 'information_schema') group by 1
union all
select case n.nspname when 'public' then '' else n.nspname || '.' end || t.typname, false
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where t.typtype <> 'd' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
   and (t.typrelid = 0 or (select relkind = 'c' from pg_catalog.pg_class where oid = t.typrelid))";

/// What a column's type and a table's partitions cost.
async fn read_costs(client: &impl GenericClient, known: &mut Known) -> Result<(), Error> {
    for row in client.query(&computed_sql(), &[]).await? {
        if let Some(table) = known.tables.get_mut(row.get::<_, &str>(0)) {
            table.computed.insert(row.get(1));
        }
    }
    for row in client.query(&default_partitions_sql(), &[]).await? {
        if let Some(table) = known.tables.get_mut(row.get::<_, &str>(0)) {
            table.default_partition = Some(row.get(1));
        }
    }
    known.domains.extend(client.query(DOMAINS, &[]).await?.iter().map(|row| (row.get(0), row.get(1))));
    Ok(())
}
