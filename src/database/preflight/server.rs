//! What must be true of one server as a whole: version, role, settings, slots, standbys.

use super::{Findings, Server};
use crate::plan::{CaptureMethod, Database, Plan};
use tokio_postgres::{Client, Row};

const SETTINGS: &str =
    "select current_setting('server_version_num')::int as version, current_setting('server_version') as version_name,
  pg_is_in_recovery() as is_standby, current_setting('wal_level') as wal_level,
  current_setting('max_replication_slots')::bigint - (select count(*) from pg_replication_slots) as free_slots,
  pg_encoding_to_char(encoding) as encoding, current_setting('idle_replication_slot_timeout', true) as slot_timeout,
  current_setting('transaction_read_only') = 'on' as is_read_only
from pg_database where datname = current_database()";
const LOGIN: &str = "select r.rolname as name, r.rolsuper as is_super, r.rolreplication as may_replicate, r.rolbypassrls as bypasses_rls,
  has_database_privilege(current_database(), 'create') as may_create,
  has_parameter_privilege('session_replication_role', 'set') as may_silence,
  has_parameter_privilege('deadlock_timeout', 'set') as may_hurry, pg_has_role('pg_read_all_stats', 'usage') as sees_standbys,
  (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
     and not pg_has_role(c.relowner, 'usage')) as not_owned
from pg_roles r where r.rolname = session_user";
const ROLE: &str = "select rolsuper from pg_roles where rolname = $1";
const PREPARED: &str = "select gid, database from pg_prepared_xacts order by prepared limit 5";
const STANDBYS: &str = "select coalesce(nullif(application_name, ''), 'unnamed') || coalesce(' at ' || host(client_addr), '') as name
from pg_stat_replication r
where sync_state = 'async' and state <> 'backup' and application_name not in ('pg_receivewal', 'pg_basebackup')
  and application_name <> all($1) and not exists (select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')
limit 5";
const SUBSCRIPTIONS: &str = "select subname::text as name from pg_stat_subscription where pid is not null limit 5";
const PID: &str = "select pg_backend_pid()";

/// The oldest server that is understood.
const FLOOR: i32 = 150_000;

pub(super) async fn examine(server: &Server<'_>, plan: &Plan, findings: &mut Findings) {
    direct(server, findings).await;
    let settings = server.client.query_one(SETTINGS, &[]).await;
    let Some(settings) = findings.answer("its settings", settings) else { return };
    version(&settings, findings);
    if server.name == "control" {
        return controls_standbys(&server.client, findings).await;
    }
    let is_captured = (server.name == "blue" || !plan.systems.is_empty()) && !plan.databases.is_in_place;
    let by_slot = database(server, plan).capture == CaptureMethod::Slot;
    if is_captured && by_slot {
        decoding(&settings, findings);
    }
    if settings.get::<_, i32>("version") >= FLOOR {
        login(server, plan, findings).await;
    }
    prepared(&server.client, findings).await;
    standbys(&server.client, database(server, plan), findings).await;
    subscriptions(&server.client, findings).await;
}

fn database<'a>(server: &Server<'_>, plan: &'a Plan) -> &'a Database {
    if server.name == "blue" { &plan.databases.blue } else { &plan.databases.green }
}

/// A pooler hands statements of one connection to many backends, or many connections to one.
async fn direct(server: &Server<'_>, findings: &mut Findings) {
    let mut pids = Vec::new();
    for client in [&server.client, &server.second, &server.client, &server.second] {
        let pid = client.query_one(PID, &[]).await.map(|row| row.get::<_, i32>(0));
        let Some(pid) = findings.answer("who answers", pid) else { return };
        pids.push(pid);
    }
    if pids[0] != pids[2] || pids[1] != pids[3] || pids[0] == pids[1] {
        let why =
            "the fence is one open transaction and the copy one open snapshot: a pooler would give them to others";
        findings.error("there is a connection pooler in between", why, "name the server itself in the plan's URL");
    }
}

fn version(settings: &Row, findings: &mut Findings) {
    if settings.get::<_, i32>("version") < FLOOR {
        let found: &str = settings.get("version_name");
        let why = "what is done here needs PostgreSQL 15";
        findings.error(format!("it is PostgreSQL {found}"), why, "upgrade it to 15 or newer, or use another server");
    }
    if settings.get("is_standby") {
        findings.error("it is a standby", "nothing can be written there", "name the primary in the plan's URL");
    } else if settings.get("is_read_only") {
        let next = "set default_transaction_read_only to off for our login";
        findings.error("its transactions are read-only", "nothing can be written there", next);
    }
}

fn decoding(settings: &Row, findings: &mut Findings) {
    let level: &str = settings.get("wal_level");
    if level != "logical" {
        let why = "changes made during the copy could not be followed";
        let next = "`alter system set wal_level = logical`, then restart it";
        findings.error(format!("wal_level is {level}"), why, next);
    }
    if settings.get::<_, i64>("free_slots") < 1 {
        let next = "raise max_replication_slots and restart it, or drop a slot nobody reads (pg_replication_slots)";
        findings.error("no replication slot is left", "capture needs one", next);
    }
    let timeout: Option<&str> = settings.get("slot_timeout");
    if timeout.is_some_and(|timeout| timeout != "0") {
        let why = "the server would drop our slot while a run waits for its window";
        findings.error("idle_replication_slot_timeout is set", why, "set it to 0 and reload");
    }
}

async fn login(server: &Server<'_>, plan: &Plan, findings: &mut Findings) {
    let database = database(server, plan);
    let login = server.client.query_one(LOGIN, &[]).await;
    let Some(login) = findings.answer("what our login may do", login) else { return };
    let name: &str = login.get("name");
    if name == database.role {
        let why = "the fence lets our login pass, so the application would pass too";
        let next = "log in with a role of our own; `role` stays the application's";
        findings.error(format!("our login {name} is the application's role"), why, next);
    }
    let role = server.client.query_opt(ROLE, &[&database.role]).await;
    match findings.answer("the application's role", role) {
        Some(None) => {
            let next = format!("create role {0} on {1}, or correct `databases.{1}.role`", database.role, server.name);
            findings.error(
                format!("it has no role {}", database.role),
                "probes and fences act as the application does",
                next,
            );
        }
        Some(Some(row)) if row.get(0) => {
            let why = "a superuser can switch a fence off";
            findings.warning(
                format!("the application's role {} is a superuser", database.role),
                why,
                "take that from it",
            );
        }
        _ => {}
    }
    if !login.get::<_, bool>("is_super") {
        rights(server, plan, &login, findings);
    }
}

/// What a login without superuser's rights needs.
fn rights(server: &Server<'_>, plan: &Plan, login: &Row, findings: &mut Findings) {
    let name: String = login.get("name");
    let mut needs = vec![
        ("bypasses_rls", "see every row of tables with row security", format!("alter role {name} bypassrls")),
        ("may_create", "create our schema", format!("grant create on database … to {name}")),
        (
            "may_silence",
            "write rows without firing triggers and cascades",
            format!("grant set on parameter session_replication_role to {name}"),
        ),
        (
            "may_hurry",
            "take the fence's locks before autovacuum's turn ends",
            format!("grant set on parameter deadlock_timeout to {name}"),
        ),
    ];
    if database(server, plan).capture == CaptureMethod::Slot {
        needs.push(("may_replicate", "make a replication slot", format!("alter role {name} replication")));
    }
    if plan.copy.throttle.replica_lag.is_some() || plan.level.replica_lag.is_some() {
        let grant = format!("grant pg_read_all_stats to {name}");
        needs.push(("sees_standbys", "see how far standbys are behind, for which the plan waits (replica_lag)", grant));
    }
    for (column, what, grant) in needs {
        if !login.get::<_, bool>(column) {
            findings.error(
                format!("our login {name} may not {what}"),
                "a step would fail in the middle",
                format!("`{grant}`"),
            );
        }
    }
    let not_owned: i64 = login.get("not_owned");
    if not_owned > 0 {
        let why = "only an owner may capture, fence, index and empty a table";
        let next = format!("grant the tables' owner to {name} on {}", server.name);
        findings.error(format!("our login {name} does not act for the owner of {not_owned} tables"), why, next);
    }
}

async fn prepared(client: &Client, findings: &mut Findings) {
    let rows = client.query(PREPARED, &[]).await;
    for row in findings.answer("its prepared transactions", rows).unwrap_or_default() {
        let (gid, database): (&str, &str) = (row.get("gid"), row.get("database"));
        let why = "it holds off the slot, the snapshot and the fence for as long as it lasts";
        let next = format!("`commit prepared '{gid}'` or `rollback prepared '{gid}'` there");
        findings.error(format!("transaction {gid:?} of database {database} is prepared"), why, next);
    }
}

/// A side's standby that lacks the decision and is promoted opens that side again. Those that are synchronous are waited for.
async fn standbys(client: &Client, database: &Database, findings: &mut Findings) {
    for name in asynchronous(client, &database.unpromoted, findings).await {
        let why = "promoted, it would not know what was decided here: two writers";
        let next = "make it synchronous, or switch its promotion off until the cutover is final and name it in the plan's `unpromoted`";
        findings.error(format!("standby {name} follows asynchronously"), why, next);
    }
}

/// What control repeats is decided elsewhere; but acknowledged revocations are there alone until they are replayed.
async fn controls_standbys(client: &Client, findings: &mut Findings) {
    for name in asynchronous(client, &[], findings).await {
        let why = "promoted, it would lack the last revocations that were acknowledged";
        let next = "make it synchronous, or switch its promotion off until the cutover is final";
        findings.warning(format!("standby {name} follows asynchronously"), why, next);
    }
}

async fn asynchronous(client: &Client, unpromoted: &[String], findings: &mut Findings) -> Vec<String> {
    let rows = client.query(STANDBYS, &[&unpromoted]).await;
    let rows = findings.answer("its standbys", rows).unwrap_or_default();
    rows.iter().map(|row| row.get("name")).collect()
}

async fn subscriptions(client: &Client, findings: &mut Findings) {
    let rows = client.query(SUBSCRIPTIONS, &[]).await;
    for row in findings.answer("its subscriptions", rows).unwrap_or_default() {
        let name: &str = row.get("name");
        let why = "what it applies passes the fence";
        findings.error(format!("subscription {name} is running"), why, format!("`alter subscription {name} disable`"));
    }
}
