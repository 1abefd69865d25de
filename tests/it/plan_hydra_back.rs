//! The example plan's way back, on the stand-in's own schemas: what a person and an engine do on green, and what blue makes of it.

use crate::harness::Pair;
use crate::plan_hydra::{carried, carry, plan_of, seeded};
use crate::sandbox_flows::world::{Registered, World, pair as tokens_of};
use cutover::database::capture::Capture;
use cutover::database::level::{
    Answer, Explained, Gone, LevelSetup, Limits, Reapply, TouchedTable, Worker, begin_progress,
};
use cutover::database::mapping::{self, Mapping};
use cutover::database::{catalog, term};
use cutover::plan::{CaptureMethod, Side};
use cutover::revocations::chain::Lookups;
use cutover::revocations::hydra::Knock;
use cutover::revocations::replay::replay;
use cutover::revocations::{Captured, Event, Minted, Outcome, Shape, Ways, minted, rotation};
use cutover::sandbox::engine::EngineVersion;
use reqwest::{Method, StatusCode};
use std::time::Duration;
use tokio_postgres::Transaction;
use uuid::Uuid;

/// What is known of revocations: these events; what is gone is judged as on a real way back.
struct Known {
    blue: Ways,
    green: Shape,
    events: Vec<Event>,
}

impl Known {
    async fn of(pair: &Pair, events: Vec<Event>) -> Self {
        let blue = Shape::detect(&pair.blue.client().await).await.expect("the catalog answers").into();
        let green = Shape::detect(&pair.green.client().await).await.expect("the catalog answers");
        Self { blue, green, events }
    }
}

impl Reapply for Known {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(replay(target, &self.blue, &self.events))
    }

    fn explain<'a>(&'a self, source: &'a Transaction<'a>, gone: Gone<'a>) -> Answer<'a, Explained> {
        Box::pin(async move {
            if rotation::holds_used_marks(&gone.table.name) {
                return Ok(Explained::All);
            }
            rotation::known_chains(source, &self.green, gone.chains).await.map(Explained::Chains)
        })
    }
}

async fn back(pair: &Pair) -> Mapping {
    let plan = plan_of(pair);
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    let values = mapping::ask_values(&green, &plan.values).await.expect("values");
    let catalogs = (catalog::read(&blue).await.expect("blue's"), catalog::read(&green).await.expect("green's"));
    mapping::resolve_back(&plan, &catalogs.0, &catalogs.1, &values).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

async fn worker(pair: &Pair, forward: &Mapping) -> Worker {
    let term = term::Term { term: 2, nonce: Uuid::new_v4() };
    let (mut blue, mut green) = (pair.blue.client().await, pair.green.client().await);
    for side in [&blue, &green] {
        term::install(side, &term).await.expect("the term is installed");
    }
    let (capture, mapping) =
        (Capture { run: Uuid::new_v4(), side: Side::Green, method: CaptureMethod::Slot }, back(pair).await);
    let bound = Duration::from_secs(30);
    capture.identify(&mut green, &term, &mapping, bound).await.expect("rows are known by what blue keeps");
    let captured = capture.start(&mut green, &term, &forward.carried(), bound).await.expect("capture starts");
    begin_progress(&mut blue, &term, &captured).await.expect("the position is stored");
    let limits = Limits { lock: bound, statement: bound, page_keys: 1000 };
    let setup = LevelSetup { source: pair.green.url(), target: pair.blue.url(), capture, mapping, term, limits };
    Worker::open(setup).await.expect("the worker opens")
}

/// A person changes, makes and removes clients and keys; an engine rotates one chain, uses an assertion, and loses one flow.
const ON_GREEN: &str = "
select setval(pg_get_serial_sequence('hydra_client', 'pk_deprecated'), 100000);
create table picked as select
  (select id from hydra_client order by id limit 1) as changed,
  (select c.id from hydra_client c where exists (select from hydra_oauth2_access a where a.client_id = c.id) order by c.id desc limit 1) as deleted;
create table chain as select r.request_id, r.challenge_id from hydra_oauth2_refresh r join hydra_oauth2_access a using (request_id), picked
  where r.active and a.active and r.client_id <> picked.deleted and r.challenge_id is not null order by r.request_id limit 2;
update hydra_client set contacts = '[\"a@b\", \"c@d\"]', redirect_uris = '[]', client_name = 'changed' from picked where id = picked.changed;
insert into hydra_client (id, nid, client_name, audience) select 'made-on-green', nid, 'new', '[\"one\"]' from hydra_client limit 1;
delete from hydra_client using picked where id = picked.deleted;
insert into hydra_oauth2_jti_blacklist (signature, nid) select 'used-on-green', id from networks;
delete from hydra_oauth2_access where request_id = (select min(request_id) from chain);
delete from hydra_oauth2_flow where consent_challenge_id = (select challenge_id from chain order by request_id desc limit 1);
update hydra_oauth2_logout_request set redir_url = 'lost';
delete from hydra_jwk k where not exists (select from hydra_oauth2_trusted_jwt_bearer_issuer i where (i.key_set, i.key_id) = (k.sid, k.kid))
  and k.sid = (select max(sid) from hydra_jwk where not exists (select from hydra_oauth2_trusted_jwt_bearer_issuer i where i.key_set = hydra_jwk.sid));
delete from hydra_oauth2_trusted_jwt_bearer_issuer";

#[tokio::test]
async fn what_a_person_and_an_engine_do_on_green_comes_to_blue() {
    let (pair, forward) = carried().await;
    let mut worker = worker(&pair, &forward).await;
    let application = pair.green.application().await;
    application.batch_execute(ON_GREEN).await.expect("green's engine writes");
    let ask = async |question: &str| application.query_one(question, &[]).await.expect("one row").get::<_, String>(0);
    let (changed, deleted) = (ask("select changed from picked").await, ask("select deleted from picked").await);
    let (rotated, lost) =
        (ask("select min(request_id) from chain").await, ask("select max(request_id) from chain").await);
    let keys = (
        pair.blue.ask::<i64>("select count(*) from hydra_jwk").await,
        pair.green.ask::<i64>("select count(*) from hydra_jwk").await,
    );
    let trusted = "select count(*) from hydra_oauth2_trusted_jwt_bearer_issuer";
    assert_eq!(pair.blue.ask::<i64>(trusted).await, 1, "an issuer that only green has lost");
    let known = Known::of(&pair, Vec::new()).await;
    let report = worker.batch(&known).await.expect("the batch succeeds");

    let client = |id: &str| {
        format!(
            "select concat_ws(' ', client_name, contacts, audience, redirect_uris = '') from hydra_client where id = '{id}'"
        )
    };
    let audience: String = pair.blue.ask(&format!("select audience from hydra_client where id = '{changed}'")).await;
    assert_eq!(pair.blue.ask::<String>(&client(&changed)).await, format!("changed a@b|c@d {audience} t"));
    assert_eq!(pair.blue.ask::<String>(&client("made-on-green")).await, "new  one t");
    let of = |table: &str, what: &str| format!("select count(*) from hydra_oauth2_{table} where {what}");
    for table in ["access", "refresh", "code", "oidc", "pkce", "consent_request", "authentication_request"] {
        let left: i64 = pair.blue.ask(&of(table, &format!("client_id = '{deleted}'"))).await;
        assert_eq!(left, 0, "{table} of the deleted client");
    }
    assert!(report.rows_fallen > 0, "{report:?}");
    assert_eq!(pair.blue.ask::<i64>(&of("jti_blacklist", "signature = 'used-on-green'")).await, 1);
    assert!(keys.1 < keys.0, "a key was removed on green");
    assert_eq!(pair.blue.ask::<i64>("select count(*) from hydra_jwk").await, keys.1);
    assert_eq!(pair.blue.ask::<i64>(trusted).await, 0, "it is trusted no more");
    assert_eq!(pair.blue.ask::<i64>(&of("access", &format!("request_id = '{rotated}'"))).await, 0, "rotated");
    assert_eq!(pair.blue.ask::<i64>(&of("logout_request", "redir_url = 'lost'")).await, 0, "lost, as the plan says");
    let living = of("refresh", &format!("request_id = '{lost}' and active"));
    assert_eq!(pair.blue.ask::<i64>(&living).await, 1, "nothing explains why green lost it");
    let unexplained = worker.unexplained().await.expect("it answers");
    let tables: Vec<&str> = unexplained.iter().map(|one| one.table.name.as_str()).collect();
    assert_eq!(tables, ["hydra_oauth2_access", "hydra_oauth2_refresh"], "{unexplained:?}");
    worker.apply_unexplained().await.expect("a person decided");
    assert_eq!(pair.blue.ask::<i64>(&living).await, 0);
}

/// Both engines, each on its side, and a client with grants of three users, begun on blue before green was filled.
struct Engines {
    pair: Pair,
    blue: World,
    green: World,
    client: Registered,
    /// Access and refresh token of each user's grant.
    grants: Vec<(String, String)>,
    worker: Worker,
    /// When green opened, by its own clock.
    opened: String,
    /// What green is said to have issued by then: rows of the seed may be dated later.
    before: Minted,
}

const USERS: [&str; 3] = ["stays", "refreshes", "revokes"];

impl Engines {
    async fn new() -> Self {
        let pair = Pair::shared().await;
        seeded(&pair.blue).await;
        let blue = World::serving(&pair.blue, EngineVersion::V1).await;
        let client = blue.register().await;
        let mut grants = Vec::new();
        for user in USERS {
            grants.push(blue.grant(&client, user).await);
        }
        let forward = carry(&pair).await;
        let worker = worker(&pair, &forward).await;
        let opened: String = pair.green.ask("select (clock_timestamp() at time zone 'utc')::text").await;
        let before = issued(&pair, &opened).await;
        let green = World::serving(&pair.green, EngineVersion::V2).await;
        Self { pair, blue, green, client, grants, worker, opened, before }
    }

    /// Tokens issued on green since it opened, and chains of before that were refreshed there: what `rollback` shows as its cost.
    async fn cost(&self) -> (i64, i64) {
        let now = issued(&self.pair, &self.opened).await;
        (now.tokens - self.before.tokens, now.refreshed - self.before.refreshed)
    }

    /// A user's consent is withdrawn on green through the engine's admin API, as a gateway captures it.
    async fn withdraw(&self, user: &str) -> Event {
        let knock = Knock::Consents { subject: user.to_owned(), client: Some(self.client.id.clone()) };
        let lookups = Lookups::new(&self.pair.blue.url(), &self.pair.green.url(), Duration::from_secs(10));
        let found = lookups.both(&knock, Side::Green).await.expect("both sides answer");
        let path = format!("/oauth2/auth/sessions/consent?subject={user}&client={}", self.client.id);
        assert_eq!(self.green.administer(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
        let (door, chain) = (knock.door(), found.chain);
        let what = Captured { door, chain, live: Side::Green, epoch: 2, blue: found.blue, green: found.green };
        let (id, captured_at) = (Uuid::new_v4(), jiff::Timestamp::now());
        Event { id, incarnation: Uuid::nil(), seq: 1, captured_at, what, outcome: Outcome::Executed }
    }

    /// Batches until nothing is left: blue is as it will be served again.
    async fn back(&mut self, events: Vec<Event>) {
        let known = Known::of(&self.pair, events).await;
        let worker = &mut self.worker;
        while worker.batch(&known).await.expect("the batch succeeds").keys > 0 {}
        assert_eq!(worker.unexplained().await.expect("it answers"), []);
    }

    /// Nothing of these tokens is accepted on blue, and a try to use them gives none.
    async fn assert_dead_on_blue(&self, (access, refresh): &(String, String), whose: &str) {
        for token in [access, refresh] {
            assert!(!self.blue.is_active(token).await, "{whose}: a token is active on blue");
        }
        assert_eq!(self.blue.userinfo(access).await.0, StatusCode::UNAUTHORIZED, "{whose}");
        let (status, said) = self.blue.refresh(&self.client, refresh).await;
        assert_eq!((status, said["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_grant")), "{whose}");
    }

    /// A chain that nobody touched on green serves its user on blue.
    async fn assert_the_untouched_lives(&self) {
        let (access, refresh) = &self.grants[0];
        assert!(self.blue.is_active(access).await, "untouched on green");
        tokens_of(&self.blue.refresh(&self.client, refresh).await);
    }
}

async fn issued(pair: &Pair, since: &str) -> Minted {
    let green = pair.green.client().await;
    let shape = Shape::detect(&green).await.expect("the catalog answers");
    minted(&green, &shape, since).await.expect("it answers")
}

#[tokio::test]
async fn a_chain_refreshed_on_green_is_counted_as_lost_and_dead_on_blue_for_good() {
    let mut engines = Engines::new().await;
    let rotated = tokens_of(&engines.green.refresh(&engines.client, &engines.grants[1].1).await);
    assert!(engines.green.is_active(&rotated.0).await);
    assert_eq!(engines.cost().await, (2, 1), "two tokens, one session");
    engines.back(Vec::new()).await;
    let old = engines.grants[1].clone();
    engines.assert_dead_on_blue(&old, "the chain as blue knew it").await;
    engines.assert_dead_on_blue(&rotated, "what green issued").await;
    // Neither the tries nor another batch has brought it back.
    engines.back(Vec::new()).await;
    engines.assert_dead_on_blue(&old, "the chain as blue knew it, once more").await;
    engines.assert_the_untouched_lives().await;
}

#[tokio::test]
async fn a_grant_revoked_and_given_again_on_green_is_dead_on_blue_and_the_new_one_is_a_cost() {
    let mut engines = Engines::new().await;
    let (user, old) = (USERS[2], engines.grants[2].clone());
    let event = engines.withdraw(user).await;
    assert!(!engines.green.is_active(&old.0).await && !engines.green.is_active(&old.1).await);
    let again = engines.green.grant(&engines.client, user).await;
    assert!(engines.green.is_active(&again.0).await);
    assert_eq!(engines.cost().await, (2, 0), "the new grant's two tokens, and no session of before");
    engines.back(vec![event]).await;
    engines.assert_dead_on_blue(&old, "the revoked grant").await;
    engines.assert_dead_on_blue(&again, "the one given on green").await;
    let asked = engines.blue.ask_consent(&engines.client, user).await;
    assert_eq!(engines.blue.consent_request(&asked).await["skip"], false, "blue asks for consent again");
    engines.assert_the_untouched_lives().await;
}
