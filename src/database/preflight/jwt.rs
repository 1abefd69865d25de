//! Which of blue's clients get access tokens that others verify by themselves, and how long such a token lives. Nobody can end those before
//! they expire: no overlay and no replay reaches them. Says it aloud, and stops nothing.

use super::{Findings, PATIENCE, Server, silent};
use crate::database::sql::{ident, qualified};
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::{Client, Error};

/// Columns that bear on it, of Hydra's tables as they are found; `public` is preferred where a name stands in two schemas.
const COLUMNS: &str = "select c.relname::text, n.nspname::text, a.attname::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p') and n.nspname not in ('cutover', 'pg_catalog', 'information_schema')
  and (c.relname = 'hydra_client' and (a.attname like '%\\_access\\_token\\_lifespan' or a.attname in ('id', 'access_token_strategy'))
    or c.relname = 'hydra_oauth2_access' and a.attname = 'signature')
order by n.nspname = 'public', n.nspname, a.attname";
const CLIENTS: &str = "hydra_client";
const TOKENS: &str = "hydra_oauth2_access";
/// Rows that are looked at where only they can tell; one setting made all of them.
const LOOKED_AT: u32 = 1000;
/// Clients that are named.
const NAMED: u32 = 5;
const WHY: &str = "whoever verifies a JWT without asking the engine accepts it until it expires, whatever is revoked and whichever side serves: the deny overlay and the replay reach refreshes, introspection and new grants of its chain, not the token itself";

pub(super) async fn examine(blue: &Server<'_>, plan: &Plan) -> Findings {
    let mut findings = Findings { server: blue.name, all: Vec::new() };
    match tokio::time::timeout(PATIENCE, found(&blue.client)).await {
        Ok(found) => {
            if let Some(found) = findings.answer("which clients get JWT access tokens", found) {
                tell(&found, plan, &mut findings);
            }
        }
        Err(_) => findings.all.push(silent(blue.name)),
    }
    findings
}

/// What blue's tables say.
#[derive(Debug, Default)]
struct Found {
    /// Clients that get JWTs for certain.
    jwt: Clients,
    /// Clients for which only the engine's configuration says.
    unknown: i64,
}

/// Clients, counted and some of them named.
#[derive(Debug, Default)]
struct Clients {
    count: i64,
    /// Without a lifetime of their own: the engine's `ttl.access_token` holds.
    by_default: i64,
    longest: Option<Duration>,
    /// The longest-lived first.
    named: Vec<String>,
}

async fn found(client: &Client) -> Result<Found, Error> {
    let mut tables: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for row in client.query(COLUMNS, &[]).await? {
        let (table, schema, column): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let quoted = qualified(&schema, &table);
        let known = tables.entry(table).or_insert_with(|| (quoted.clone(), Vec::new()));
        if known.0 != quoted {
            *known = (quoted, Vec::new());
        }
        known.1.push(column);
    }
    let Some((clients, columns)) = tables.get(CLIENTS) else { return Ok(Found::default()) };
    let lives = columns.iter().filter(|column| column.ends_with("_lifespan")).map(|column| ident(column));
    let lives = lives.chain(["null::int8".to_owned()]).collect::<Vec<_>>().join(", ");
    if columns.iter().any(|column| column == "access_token_strategy") {
        let jwt = of(client, clients, &lives, "access_token_strategy = 'jwt'").await?;
        let count = format!("select count(*) from {clients} where access_token_strategy = ''");
        return Ok(Found { jwt, unknown: client.query_one(&count, &[]).await?.get(0) });
    }
    let Some((tokens, _)) = tables.get(TOKENS) else { return Ok(Found::default()) };
    // Engines without a strategy for each client keep the signature of an opaque token as it is, and only a JWT's as a digest.
    let digests = format!(
        "select exists (select from (select signature from {tokens} limit {LOOKED_AT}) looked where signature ~ '^[0-9a-f]{{96}}$')"
    );
    let are_jwt: bool = client.query_one(&digests, &[]).await?.get(0);
    let jwt = if are_jwt { of(client, clients, &lives, "true").await? } else { Clients::default() };
    Ok(Found { jwt, unknown: 0 })
}

/// The clients that a condition of ours meets.
async fn of(client: &Client, clients: &str, lives: &str, condition: &'static str) -> Result<Clients, Error> {
    let query = format!(
        "with met as (select id::text as id, greatest({lives}) as life from {clients} where {condition})
select count(*), count(*) filter (where life is null), max(life),
  array(select id from met order by life desc nulls last, id limit {NAMED}) from met"
    );
    let row = client.query_one(&query, &[]).await?;
    let longest = row.get::<_, Option<i64>>(2).and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    let longest = longest.map(Duration::from_nanos);
    Ok(Clients { count: row.get(0), by_default: row.get(1), longest, named: row.get(3) })
}

fn tell(found: &Found, plan: &Plan, findings: &mut Findings) {
    if found.jwt.count > 0 {
        let lengthened: Vec<&str> =
            plan.prepare.iter().filter(|one| one.lengthens_jwt).map(|one| one.name.as_str()).collect();
        let mut next = "let resource servers that matter introspect, or give these clients opaque tokens (access_token_strategy), or shorten their life (PUT /clients/ID/lifespans), at least one lifetime before the window; whoever revokes must count with that life".to_owned();
        if !lengthened.is_empty() {
            next.push_str(&format!("; and `prepare` makes it longer still: {}", lengthened.join(", ")));
        }
        findings.warning(words(&found.jwt), WHY, next);
    }
    if found.unknown > 0 {
        let what = format!(
            "{} clients have no access_token_strategy of their own, and no table shows the engine's: they get JWT access tokens if its `strategies.access_token` is jwt",
            found.unknown
        );
        let next = "look at the engine's configuration; if it says jwt, all that is said of JWTs holds for them, for `ttl.access_token`";
        findings.warning(what, WHY, next);
    }
}

fn words(clients: &Clients) -> String {
    let Clients { count, by_default, longest, named } = clients;
    let more = usize::try_from(*count).unwrap_or(usize::MAX) > named.len();
    let named = format!("{}{}", named.join(", "), if more { ", …" } else { "" });
    let longest = longest.map(|longest| format!("; the longest own life is {}", humantime::format_duration(longest)));
    let by_default = match by_default {
        0 => String::new(),
        some => format!("; {some} live as long as the engine's `ttl.access_token` says"),
    };
    format!(
        "{count} clients get access tokens that others may verify by themselves, JWTs ({named}){}{by_default}",
        longest.unwrap_or_default()
    )
}
