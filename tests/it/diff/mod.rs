//! The fidelity diff on real servers: every way in which a row can differ is named, and nothing else is.

mod classes;
mod going_on;
mod revoked;
mod verb;

use crate::harness::Pair;
use cutover::database::client;
use cutover::database::copy::ExportedSnapshot;
use cutover::database::diff::{self, Class, DiffError, DiffOptions, Difference, Ended, Found};
use cutover::database::mapping::{Cleanup, Equality, KeyColumn, Mapping, TableMapping};
use cutover::database::term::{self, Term};
use cutover::plan::{Secret, TableName, Throttle};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Rows of blue's larger table.
pub(crate) const GRANTS: u32 = 3000;
const BLUE: &str = "
create table account (id text primary key, email text);
create table grant_1x (id text primary key, account_id text not null references account(id), subject text, state text not null, active boolean not null,
  asked_at timestamptz not null, note text, body json, meta jsonb, amount numeric, price numeric(10,2), weight float8, remember_for bigint,
  old boolean not null default false);
insert into account select 'a' || n, 'user' || n || '@example.org' from generate_series(1, 500) n;
insert into grant_1x select 'g' || n, 'a' || 1 + n % 500, 'subject ' || n, case n % 3 when 0 then 'used' else 'open' end, n % 2 = 0,
  '2026-03-29 00:30:00+00'::timestamptz + n * interval '1 min', case n % 4 when 0 then null when 1 then '' else 'Grüße ' || n end,
  '{\"b\": 1, \"a\": [1, 2]}', case n when 32 then (select jsonb_agg(k) from generate_series(1, 70) k) else '{\"b\": 1, \"a\": [1, 2]}' end, n / 7.0, n / 7.0, n / 7.0,
  4294967295 from generate_series(1, 3000) n;
insert into grant_1x select 'old' || n, 'a1', 'x', 'open', false, now(), null, null, null, null, null, null, null, true from generate_series(1, 7) n;";
const GREEN: &str = "
create table account (id text primary key, email text);
create table grants (id text primary key, account_id text not null references account(id), subject text, state integer not null, active boolean not null,
  asked_at timestamptz not null, note text, body json, meta jsonb, amount numeric, price numeric(10,2), weight float8, remember_for bigint, made_at timestamptz default now());";
const SELECT: &str = "select id, account_id, subject, case state when 'used' then 6 else 1 end as state, active, asked_at, note, body, meta, amount, price, weight, remember_for
from public.grant_1x as grant_1x where (old) is not true";

/// Both sides, green filled from blue through the mapping.
pub(crate) struct Stage {
    pub(crate) pair: Pair,
    pub(crate) term: Term,
}

impl Stage {
    pub(crate) async fn filled() -> Self {
        let stage = Self { pair: Pair::shared().await, term: Term { term: 1, nonce: Uuid::new_v4() } };
        stage.pair.blue.execute(BLUE).await;
        stage.pair.green.execute(GREEN).await;
        term::install(&stage.pair.green.client().await, &stage.term).await.expect("green takes our term");
        for table in mapping().tables {
            stage.fill(&table).await;
        }
        stage
    }

    async fn fill(&self, table: &TableMapping) {
        let (name, list) = (&table.target.name, names(table).join(", "));
        let query = format!("select row({list})::{name}_row::text from ({}) q", table.select);
        let kind = table.columns.iter().map(|column| format!("{} {}", column.name, column.type_sql));
        let kind = format!("create type {name}_row as ({})", kind.collect::<Vec<_>>().join(", "));
        for place in [&self.pair.blue, &self.pair.green] {
            place.execute(&kind).await;
        }
        let rows = self.pair.blue.client().await.query(&query, &[]).await.expect("blue is read");
        let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let insert = format!(
            "insert into {name} ({list}) select ({list_of}).* from (select t::{name}_row as r from unnest($1::text[]) t) u",
            list_of = "r"
        );
        self.pair.green.client().await.execute(&insert, &[&rows]).await.expect("green is filled");
    }

    pub(crate) fn options<'a>(&self, blue: &'a Secret, green: &'a Secret) -> DiffOptions<'a> {
        DiffOptions {
            blue,
            green,
            term: self.term,
            workers: 2,
            bound: Duration::from_secs(60),
            throttle: Throttle { rate_bytes: None, replica_lag: None, snapshot: Duration::from_secs(3600) },
            listed: 100,
            declared: &[],
            rows_in_part: Some(900),
        }
    }

    pub(crate) async fn diff(&self) -> Result<Found, DiffError> {
        let (blue, green) = (self.pair.blue.url(), self.pair.green.url());
        whole(&self.options(&blue, &green)).await
    }
}

/// A diff of one snapshot, to its end.
pub(crate) async fn whole(options: &DiffOptions<'_>) -> Result<Found, DiffError> {
    let snapshot = ExportedSnapshot::export(options.blue, "blue", &[]).await.expect("a snapshot of blue");
    match diff::diff(options, &mapping(), snapshot.id(), &|_| ()).await? {
        Ended::Whole => {}
        Ended::Part { why } => panic!("the snapshot was let go: {why}"),
    }
    let mut green = client::connect(options.green, "green").await.expect("green answers");
    diff::settle(&mut green, &options.term, &mapping(), &BTreeSet::new()).await?;
    diff::found(&green, &mapping(), options.listed).await
}

pub(crate) fn names(table: &TableMapping) -> Vec<String> {
    table.columns.iter().map(|column| column.name.clone()).collect()
}

pub(crate) fn mapping() -> Mapping {
    let grants = "id text, account_id text, subject text, state integer, active boolean, asked_at timestamp with time zone, note text, body json, meta jsonb, amount numeric, price numeric(10,2), weight double precision, remember_for bigint";
    let mut grants = table("grants", grants, SELECT);
    grants.own_columns = vec!["made_at".to_owned()];
    grants.cleanup = vec![Cleanup { rule: "old-grants".to_owned(), cap_rows: 100, cap_percent: 5.0 }];
    grants.count_sql =
        "select count(*), count(*) filter (where (old) is true) from public.grant_1x as grant_1x".to_owned();
    Mapping {
        tables: vec![
            table("account", "id text, email text", "select id, email from public.account as account"),
            grants,
        ],
    }
}

fn table(target: &str, columns: &str, select: &str) -> TableMapping {
    let columns = columns.replace("(10,2)", "(10;2)");
    let column = |text: &str| {
        let (name, kind) = text.trim().split_once(' ').expect("a name and a type");
        KeyColumn { name: name.to_owned(), type_sql: kind.replace(';', ",") }
    };
    TableMapping {
        target: TableName { schema: "public".to_owned(), name: target.to_owned() },
        equality: Equality::Equal,
        key: vec![column("id text")],
        columns: columns.split(',').map(column).collect(),
        own_columns: Vec::new(),
        overrides_identity: false,
        driven_by: Some(TableName { schema: "public".to_owned(), name: target.to_owned() }),
        select: select.to_owned(),
        count_sql: String::new(),
        cleanup: Vec::new(),
        touched_by: Vec::new(),
        spared: Vec::new(),
        estimated_rows: if target == "grants" { u64::from(GRANTS) } else { 500 },
    }
}

/// A row that differs, in few words.
pub(crate) fn said(found: &Difference) -> (String, String, Class, Vec<String>) {
    (found.table.name.clone(), found.key.join(", "), found.class, found.columns.clone())
}
