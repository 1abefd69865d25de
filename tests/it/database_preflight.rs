//! `check` against real servers: everything that is wrong is told at once, in words that say what to do.

mod subscriptions;

use crate::harness::standby::Standby;
use crate::harness::{self, APPLICATION, Pair, Place, eventually};
use cutover::database::preflight::{Finding, Severity, check};
use cutover::plan::{self, Plan, Secret};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn plan_of(control: &Secret, blue: &Secret, green: &Secret, rest: &str) -> Plan {
    plan_text(control, blue, green, &format!("{{ url: \"${{BLUE_URL}}\", role: {APPLICATION} }}"), rest)
}

/// With more words about blue.
fn plan_with(control: &Secret, blue: &Secret, green: &Secret, more: &str) -> Plan {
    plan_text(control, blue, green, &format!("{{ url: \"${{BLUE_URL}}\", role: {APPLICATION}, {more} }}"), "")
}

fn plan_text(control: &Secret, blue: &Secret, green: &Secret, blue_text: &str, rest: &str) -> Plan {
    let text = format!(
        "version: 1\nname: checked\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {blue_text}\n  \
         green: {{ url: \"${{GREEN_URL}}\", role: {APPLICATION} }}\nmigrate:\n  - command: {{ run: [\"true\"] }}\n{rest}"
    );
    let lookup = |name: &str| {
        let url = match name {
            "CONTROL_URL" => control,
            "BLUE_URL" => blue,
            _ => green,
        };
        Some(url.expose().to_owned())
    };
    plan::parse(&text, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn errors(findings: &[Finding]) -> Vec<String> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("{}: {}", finding.server, finding.what)).collect()
}

#[track_caller]
fn tells(findings: &[Finding], server: &str, words: &str) {
    let found = findings.iter().any(|finding| finding.server == server && finding.what.contains(words));
    assert!(found, "{server}: {words} is not among {findings:#?}");
}

#[tokio::test]
async fn preflight_finds_nothing_wrong_with_two_good_servers() {
    let pair = Pair::separate().await;
    pair.blue.execute("create table one (id int primary key)").await;
    let plan = plan_of(&pair.control.url(), &pair.blue.url(), &pair.green.url(), "");
    let findings = check(&plan, None, None).await;
    assert_eq!(findings, [], "nothing at all");

    let run =
        "create schema cutover; create table cutover.identity (run text, side text); create table left_over (id int);";
    pair.green.execute(&format!("{run} insert into cutover.identity values ('ours', 'green')")).await;
    assert_eq!(check(&plan, Some("ours"), None).await, [], "what our own run made is no stranger");
    tells(&check(&plan, Some("another"), None).await, "green", "run ours has claimed it");
    tells(&check(&plan, None, None).await, "green", "run ours has claimed it");
}

#[tokio::test]
async fn preflight_tells_everything_at_once() {
    let mut options = cutover::sandbox::servers::ServerOptions::new("bad", harness::fresh_folder("bad"));
    options.templates = Some(harness::folder());
    let settings = [("wal_level", "replica"), ("max_replication_slots", "0"), ("max_prepared_transactions", "2")];
    options.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let bin = std::env::var_os("CUTOVER_PG_BIN").map(std::path::PathBuf::from);
    let binaries = cutover::sandbox::servers::Binaries::find(bin.as_deref()).expect("PostgreSQL");
    let bad = cutover::sandbox::servers::Server::start(&binaries, &options).await.expect("a server");
    bad.create_role("owner_elsewhere", "").await.expect("a role");
    bad.create_role(APPLICATION, "superuser").await.expect("a role");
    let bad = Place::fresh(Arc::new(bad), "bad").await;
    bad.execute(
        "create table keyless (id int); create table chosen (id int not null unique);
         alter table chosen replica identity using index chosen_id_key;
         create unlogged table fleeting (id int primary key); alter table keyless owner to owner_elsewhere;
         create table left_behind (id int);",
    )
    .await;
    bad.execute("begin; create table prepared (id int primary key); prepare transaction 'forgotten'").await;
    let good = Place::shared("green").await;
    good.execute("create table not_mine (id int)").await;
    let alias = Secret::new(good.url().expose().replace("127.0.0.1", "localhost"));
    let by_triggers = plan_with(&alias, &bad.url(), &good.url(), "capture: triggers");
    let told = errors(&check(&by_triggers, None, None).await);
    assert!(!told.iter().any(|error| error.contains("wal_level") || error.contains("slot")), "{told:?}");
    assert!(told.iter().any(|error| error.contains("public.keyless has no key")), "{told:?}");
    let plan = plan_of(&alias, &bad.url(), &good.url(), "drop: [left_behind]\n");
    let findings = check(&plan, None, None).await;
    for words in [
        "wal_level is replica",
        "no replication slot is left",
        "table public.keyless has no key",
        "table public.fleeting is unlogged",
        "\"forgotten\" of database",
    ] {
        tells(&findings, "blue", words);
    }
    for words in [
        "it is not empty: 1 tables, such as public.not_mine",
        "the same database as control",
        "role owner_elsewhere is missing",
    ] {
        tells(&findings, "green", words);
    }
    assert!(findings.iter().any(|finding| finding.what.contains("is a superuser")), "{findings:?}");
    let spurious: Vec<String> = errors(&findings)
        .into_iter()
        .filter(|error| error.contains("chosen") || error.contains("left_behind"))
        .collect();
    assert!(spurious.is_empty(), "{spurious:?}");
}

#[tokio::test]
async fn preflight_tells_who_cannot_be_reached_and_goes_on() {
    let pair = Pair::shared().await;
    let wrong = |url: Secret, from: &str, to: &str| Secret::new(url.expose().replacen(from, to, 1));
    let url = pair.blue.url();
    let password =
        url.expose().split('@').next().and_then(|login| login.rsplit(':').next()).expect("a password").to_owned();
    let blue = wrong(pair.blue.url(), &password, "not-the-password");
    let port = pair.green.server.port().to_string();
    let nobody = cutover::sandbox::servers::free_port().expect("a free port").to_string();
    let green = wrong(pair.green.url(), &port, &nobody);
    let control = Secret::new(pair.control.url().expose().replace(&pair.control.database, "nowhere"));
    let findings = check(&plan_of(&control, &blue, &green, ""), None, None).await;
    tells(&findings, "blue", "it refuses our login");
    tells(&findings, "green", "no connection");
    tells(&findings, "control", "it has no such database");
    let said = format!("{findings:?}");
    assert!(!said.contains("not-the-password") && !said.contains(&password), "no secret leaves: {said}");
}

#[tokio::test]
async fn preflight_sees_one_database_behind_two_urls_and_missing_rights() {
    let pair = Pair::shared().await;
    pair.blue.execute("create table one (id int primary key)").await;
    pair.blue.server.create_role("plain_login", "").await.expect("a role");
    let plain = pair.blue.server.url("plain_login", &pair.blue.database);
    let alias = Secret::new(pair.blue.url().expose().replace("127.0.0.1", "localhost"));
    let findings = check(&plan_of(&pair.control.url(), &pair.blue.url(), &alias, ""), None, None).await;
    tells(&findings, "green", "it is the same database as blue");
    tells(&findings, "blue", "it is a database of the same server as control");

    let findings = check(&plan_of(&pair.control.url(), &plain, &pair.green.url(), ""), None, None).await;
    for what in ["make a replication slot", "create our schema", "without firing triggers", "owner of 1 tables"] {
        tells(&findings, "blue", what);
    }
    let by_triggers =
        check(&plan_with(&pair.control.url(), &plain, &pair.green.url(), "capture: triggers"), None, None).await;
    tells(&by_triggers, "blue", "owner of 1 tables");
    assert!(!errors(&by_triggers).iter().any(|error| error.contains("slot")), "{by_triggers:?}");
    let is_told =
        |findings: &[Finding]| findings.iter().any(|finding| finding.what.contains("how far standbys are behind"));
    assert!(!is_told(&findings), "nobody waits for standbys: {findings:?}");

    let waits = "copy: { throttle: { replica_lag: 5s }, standby: \"${GREEN_URL}\" }\n";
    let findings = check(&plan_of(&pair.control.url(), &plain, &pair.green.url(), waits), None, None).await;
    assert!(is_told(&findings), "{findings:?}");
    tells(&findings, "standby", "it is not in recovery");
}

const CLIENTS: &str =
    "create table hydra_client (id text primary key, authorization_code_grant_access_token_lifespan int8,
  client_credentials_grant_access_token_lifespan int8, refresh_token_grant_refresh_token_lifespan int8);
create table hydra_oauth2_access (signature text primary key);
insert into hydra_client (id) select 'app' || n from generate_series(1, 9) n;
update hydra_client set client_credentials_grant_access_token_lifespan = 7200000000000 where id = 'app7';
update hydra_client set refresh_token_grant_refresh_token_lifespan = 720000000000000 where id = 'app8';
insert into hydra_oauth2_access select 'opaque' || n from generate_series(1, 9) n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_refuses_a_standby_that_may_be_promoted_without_the_decision() {
    let pair = Pair::separate().await;
    let _standby = Standby::of(&pair).await;
    let follows = "select count(*) from pg_stat_replication where state = 'streaming'";
    eventually(Duration::from_secs(30), "it follows", || async {
        (pair.blue.ask::<i64>(follows).await == 1).then_some(())
    })
    .await;
    let name: String = pair.blue.ask("select application_name from pg_stat_replication").await;
    let (control, blue, green) = (pair.control.url(), pair.blue.url(), pair.green.url());
    let findings = check(&plan_of(&control, &blue, &green, ""), None, None).await;
    let refused = errors(&findings);
    assert!(matches!(&refused[..], [one] if one.contains(&format!("standby {name}"))), "{findings:#?}");
    let named = plan_with(&control, &blue, &green, &format!("unpromoted: [{name}]"));
    assert_eq!(check(&named, None, None).await, [], "nobody promotes it");
    // Named in the plan or not, one that commits wait for has the decision.
    pair.blue.execute("alter system set synchronous_standby_names = '*'").await;
    pair.blue.execute("select pg_reload_conf()").await;
    let synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    eventually(Duration::from_secs(30), "commits wait for it", || async {
        (pair.blue.ask::<i64>(synchronous).await == 1).then_some(())
    })
    .await;
    assert_eq!(check(&plan_of(&control, &blue, &green, ""), None, None).await, []);
}

#[tokio::test]
async fn preflight_says_which_clients_get_tokens_that_no_revocation_reaches() {
    let pair = Pair::separate().await;
    pair.blue.execute(CLIENTS).await;
    let plan = plan_of(&pair.control.url(), &pair.blue.url(), &pair.green.url(), "");
    assert_eq!(check(&plan, None, None).await, [], "opaque tokens are the engine's to end");

    // An older engine: one strategy for all, seen by the tokens.
    pair.blue.execute("insert into hydra_oauth2_access values (repeat('0a', 48))").await;
    let findings = check(&plan, None, None).await;
    tells(
        &findings,
        "blue",
        "9 clients get access tokens that others may verify by themselves, JWTs (app7, app1, app2, app3, app4, …); the longest own life is 2h; 8 live as long as the engine's `ttl.access_token` says",
    );
    assert!(findings.len() == 1 && findings[0].severity == Severity::Warning, "{findings:?}");
    assert!(findings[0].why.contains("overlay") && findings[0].next.contains("introspect"), "{findings:?}");

    // A newer one: each client has its own, or follows the engine's configuration.
    let strategy = "alter table hydra_client add access_token_strategy text not null default '';
update hydra_client set access_token_strategy = 'jwt' where id in ('app7', 'app9');
update hydra_client set access_token_strategy = 'opaque' where id < 'app5'";
    pair.blue.execute(strategy).await;
    let findings = check(&plan, None, None).await;
    tells(
        &findings,
        "blue",
        "2 clients get access tokens that others may verify by themselves, JWTs (app7, app9); the longest own life is 2h; 1 live",
    );
    tells(&findings, "blue", "3 clients have no access_token_strategy of their own");
    assert_eq!(findings.len(), 2, "{findings:?}");
}
