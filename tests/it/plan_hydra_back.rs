//! The example plan's way back, on the stand-in's own schemas: what a person and an engine do on green, and what blue makes of it.

use crate::harness::Pair;
use crate::plan_hydra::{carried, plan_of};
use cutover::database::capture::Capture;
use cutover::database::level::{Answer, Explained, Gone, LevelSetup, Limits, Reapply, Worker, begin_progress};
use cutover::database::mapping::{self, Mapping};
use cutover::database::{catalog, term};
use cutover::plan::Side;
use cutover::revocations::{Shape, rotation};
use std::time::Duration;
use tokio_postgres::Transaction;
use uuid::Uuid;

/// No events; what is gone is judged as on a real way back.
struct NoEvents {
    green: Shape,
}

impl Reapply for NoEvents {
    fn reapply<'a>(&'a self, _target: &'a Transaction<'a>) -> Answer<'a, u64> {
        Box::pin(async { Ok(0) })
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
    let (capture, mapping) = (Capture { run: Uuid::new_v4(), side: Side::Green }, back(pair).await);
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
  and k.sid = (select max(sid) from hydra_jwk where not exists (select from hydra_oauth2_trusted_jwt_bearer_issuer i where i.key_set = hydra_jwk.sid))";

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
    let known = NoEvents { green: Shape::detect(&pair.green.client().await).await.expect("the catalog answers") };
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
