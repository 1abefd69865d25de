//! What must be true of two servers together: they are two, and the second can hold what the first has.

use super::{Findings, Server};
use crate::plan::{CopyMethod, Plan};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

const SERVER: &str = "select pg_postmaster_start_time()::text || ' ' || coalesce((select system_identifier from pg_control_system())::text, '')";
const LOCK: &str = "select pg_advisory_lock_shared($1)";
const UNLOCK: &str = "select pg_advisory_unlock_shared($1)";
/// A lock that another connection holds in this very database.
const SEEN: &str = "select exists (select from pg_locks where locktype = 'advisory' and granted and mode = 'ShareLock'
  and database = (select oid from pg_database where datname = current_database())
  and objsubid = 1 and (classid::bigint << 32 | objid::bigint) = $1)";
const ENCODING: &str =
    "select pg_encoding_to_char(encoding)::text, datcollate::text from pg_database where datname = current_database()";
const EXTENSIONS: &str = "select extname::text, extversion from pg_extension";
/// Whether each is there, and whether our login could make it.
const AVAILABLE: &str = "select a.name::text, a.installed_version is not null,
  (select rolsuper from pg_roles where rolname = current_user)
  or (select v.trusted and has_database_privilege(current_database(), 'CREATE') from pg_available_extension_versions v
       where v.name = a.name and v.version = a.default_version)
from pg_available_extensions a";
const ROLES_USED: &str = "select distinct r.rolname::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join lateral aclexplode(c.relacl) a on true
join pg_roles r on r.oid in (c.relowner, a.grantee)
where c.relkind in ('r', 'p', 'v', 'm', 'S') and n.nspname not in ('pg_catalog', 'information_schema', 'cutover')
  and r.rolname not like 'pg\\_%' order by 1";
const ROLES: &str = "select rolname::text from pg_roles";

pub(super) async fn examine(plan: &Plan, one: &Server<'_>, other: &Server<'_>) -> Findings {
    let mut findings = Findings { server: other.name, all: Vec::new() };
    if same_database(one, other, &mut findings).await == Some(true) {
        let why = "what is written to one would be written to the other";
        let next = format!("name two databases as {} and {} in the plan", one.name, other.name);
        findings.error(format!("it is the same database as {}", one.name), why, next);
        return findings;
    }
    same_server(one, other, &mut findings).await;
    if (one.name, other.name) == ("blue", "green") {
        encoding(one, other, &mut findings).await;
        extensions(plan, one, other, &mut findings).await;
        roles(one, other, &mut findings).await;
    }
    findings
}

/// Seen by effect: a lock taken through one URL is there when one looks through the other.
async fn same_database(one: &Server<'_>, other: &Server<'_>, findings: &mut Findings) -> Option<bool> {
    if one.url == other.url {
        return Some(true);
    }
    let key = i64::from(rand::random::<u32>()) << 31 | i64::from(rand::random::<u32>() >> 1);
    let question = "whether it is a database of its own";
    let locked = one.client.execute(LOCK, &[&key]).await;
    findings.answer(question, locked)?;
    let seen = other.client.query_one(SEEN, &[&key]).await;
    let seen = findings.answer(question, seen).map(|row| row.get(0));
    let unlocked = one.client.execute(UNLOCK, &[&key]).await;
    findings.answer(question, unlocked)?;
    seen
}

async fn same_server(one: &Server<'_>, other: &Server<'_>, findings: &mut Findings) {
    let (first, second) = tokio::join!(text(&one.client, SERVER), text(&other.client, SERVER));
    let question = "which server it is";
    let (Some(first), Some(second)) = (findings.answer(question, first), findings.answer(question, second)) else {
        return;
    };
    if first == second {
        let why = "they share their fate, their log and their locks";
        findings.warning(
            format!("it is a database of the same server as {}", one.name),
            why,
            "use a server of its own",
        );
    }
}

async fn text(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    Ok(client.query_one(query, &[]).await?.get(0))
}

async fn encoding(blue: &Server<'_>, green: &Server<'_>, findings: &mut Findings) {
    let (first, second) = tokio::join!(blue.client.query_one(ENCODING, &[]), green.client.query_one(ENCODING, &[]));
    let question = "its encoding";
    let (Some(first), Some(second)) = (findings.answer(question, first), findings.answer(question, second)) else {
        return;
    };
    let (blue_encoding, green_encoding): (&str, &str) = (first.get(0), second.get(0));
    if blue_encoding != green_encoding {
        let next = format!("create the database anew with `encoding '{blue_encoding}' template template0`");
        findings.error(
            format!("its encoding is {green_encoding}, blue's is {blue_encoding}"),
            "texts would be changed or refused on the way",
            next,
        );
    }
    let (blue_collation, green_collation): (&str, &str) = (first.get(1), second.get(1));
    if blue_collation != green_collation {
        let why = "the application would see another order, and text keys compare differently";
        let next =
            format!("create the database anew with `lc_collate '{blue_collation}' template template0`, or accept it");
        findings.warning(format!("its collation is {green_collation}, blue's is {blue_collation}"), why, next);
    }
}

async fn extensions(plan: &Plan, blue: &Server<'_>, green: &Server<'_>, findings: &mut Findings) {
    let (used, available) = tokio::join!(blue.client.query(EXTENSIONS, &[]), green.client.query(AVAILABLE, &[]));
    let question = "its extensions";
    let (Some(used), Some(available)) = (findings.answer(question, used), findings.answer(question, available)) else {
        return;
    };
    let available: BTreeMap<String, (bool, bool)> = available
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get::<_, Option<bool>>(2).unwrap_or(false))))
        .collect();
    let is_copied = plan.copy.method == CopyMethod::Logical;
    for row in used {
        let (name, version): (String, String) = (row.get(0), row.get(1));
        match available.get(&name) {
            None => {
                let next = "install its package on green's server; if blue does not need it, drop it there";
                findings.error(
                    format!("extension {name} {version} is missing"),
                    "blue has it, and tables may use it",
                    next,
                );
            }
            Some((false, true)) if is_copied => {}
            Some((false, _)) if is_copied => findings.error(
                format!("extension {name} is available and not created, and our login may not create it"),
                "blue has it, and its schema comes to green as it is",
                format!("`create extension {name}` there, as a superuser"),
            ),
            Some((false, _)) => {
                let next = format!("`create extension {name}` in `migrate`, if the application needs it");
                findings.warning(format!("extension {name} is available and not created"), "blue has it", next);
            }
            Some((true, _)) => {}
        }
    }
}

async fn roles(blue: &Server<'_>, green: &Server<'_>, findings: &mut Findings) {
    let (used, present) = tokio::join!(blue.client.query(ROLES_USED, &[]), green.client.query(ROLES, &[]));
    let question = "its roles";
    let (Some(used), Some(present)) = (findings.answer(question, used), findings.answer(question, present)) else {
        return;
    };
    let present: BTreeSet<String> = present.iter().map(|row| row.get(0)).collect();
    for role in used.iter().map(|row| row.get::<_, String>(0)).filter(|role| !present.contains(role)) {
        let why = "it owns or may use tables on blue; grants to it would be lost";
        findings.error(format!("role {role} is missing"), why, format!("create it on green (`create role {role} …`)"));
    }
}
