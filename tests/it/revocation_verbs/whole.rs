//! A whole cutover with revocations that an engine did not carry out: what nobody knows of is executed, a lie stops the flip, and only a named
//! person lets it pass.

use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use uuid::Uuid;

const PAIRS: &str = "hydra_oauth2_obfuscated_authentication_session";
/// One row for everybody who has consented.
const PAIRWISE: &str =
    "insert into hydra_oauth2_obfuscated_authentication_session (subject, client_id, subject_obfuscated)
select distinct r.subject, (select max(id) from hydra_client), 'of ' || r.subject from hydra_oauth2_consent_request r
where r.subject <> '' on conflict do nothing";
/// What only blue's own statement can reach: a table that nothing carries.
const ASIDE: &str = "create schema aside; create table aside.session as select distinct subject from hydra_oauth2_consent_request;\n  alter table aside.session add primary key (subject)";

/// Statements that delete what a subject has on a side; blue's looks into a column that the test chooses.
fn statements(column: &str) -> String {
    let named = "unnest($1::uuid[], $6::text[]) as r (event, subject)";
    format!(
        "{{ hydra: {{}}, sql: [{{ name: pairs, doors: [consent], \
           green: {{ revoke: \"delete from {PAIRS} s using {named} where s.subject = r.subject\", \
             alive: \"select r.event from {named} join {PAIRS} s on s.subject = r.subject\" }}, \
           blue: {{ revoke: \"delete from aside.session s using {named} where {column} = r.subject\", \
             alive: \"select r.event from {named} join aside.session s on s.subject = r.subject\" }} }}] }}"
    )
}

/// Grants on blue that live, each as (consent, subject).
pub(super) async fn grants(sandbox: &Sandbox, count: i64) -> Vec<(String, String)> {
    let query = "select r.challenge::text, r.subject::text from hydra_oauth2_consent_request r
join hydra_oauth2_consent_request_handled h on h.challenge = r.challenge
where h.error = '{}' and r.subject not like 'cutover%' and exists (select from hydra_oauth2_refresh t where t.request_id = r.challenge and t.active)
  and not exists (select from hydra_oauth2_consent_request o where o.subject = r.subject and o.client_id = r.client_id and o.challenge <> r.challenge)
order by r.requested_at limit $1";
    let rows = sandbox.client("BLUE_URL").await.query(query, &[&count]).await.expect("blue answers");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A login session on blue of somebody of the seed.
async fn session(sandbox: &Sandbox) -> String {
    let query =
        "select id::text from hydra_oauth2_authentication_session where remember order by authenticated_at limit 1";
    sandbox.client("BLUE_URL").await.query_one(query, &[]).await.expect("a session").get(0)
}

pub(super) fn chain((consent, subject): &(String, String)) -> Value {
    serde_json::json!({ "requests": [consent], "consents": [consent], "subject": subject })
}

/// As if a gateway had captured it: in an incarnation of its own, of which nothing is missing.
pub(super) async fn capture(sandbox: &Sandbox, live: &str, door: &str, chain: &Value, outcome: &str) -> Uuid {
    let (id, incarnation) = (Uuid::new_v4(), Uuid::new_v4());
    let control = sandbox.client("CONTROL_URL").await;
    let plan: String =
        control.query_one("select plan from cutover.producer limit 1", &[]).await.expect("a gateway").get(0);
    let producer =
        "insert into cutover.producer (incarnation, plan, gateway, ended_at) values ($1, $2, 'engine', now())";
    control.execute(producer, &[&incarnation, &plan]).await.expect("a producer");
    let event = "insert into cutover.revocation (id, plan, incarnation, seq, captured_at, live, epoch, door, chain, blue_seen, green_seen, outcome)
values ($1, $2, $3, 1, now() - interval '1 hour', $7, 1, $6, $4, 'found', 'unknown', $5)";
    control.execute(event, &[&id, &plan, &incarnation, &chain, &outcome, &door, &live]).await.expect("an event");
    id
}

/// Living tokens of a grant on a side.
pub(super) async fn living(sandbox: &Sandbox, variable: &str, consent: &str) -> i64 {
    let query = format!(
        "select (select count(*) from hydra_oauth2_access where request_id = '{consent}') + (select count(*) from hydra_oauth2_refresh where request_id = '{consent}' and active)"
    );
    sandbox.ask(variable, &query).await
}

async fn outcome(sandbox: &Sandbox, id: Uuid) -> String {
    let control = sandbox.client("CONTROL_URL").await;
    let row = control.query_one("select outcome from cutover.revocation where id = $1", &[&id]).await;
    row.expect("the event").get(0)
}

pub(super) fn why(said: &Value) -> &str {
    said["why"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_verbs_flip_only_when_queue_and_tables_agree() {
    let sandbox = Sandbox::up("witness", 5000, 5).await;
    sandbox.change_plan("drop: [schema_migration_legacy]", "drop: [schema_migration_legacy, aside.session]");
    sandbox.client("BLUE_URL").await.batch_execute(ASIDE).await.expect("a table aside");
    sandbox.change_plan("replay: { hydra: {} }", &format!("replay: {}", statements("s.nobody")));
    let (code, said) = sandbox.run("check").await;
    assert_eq!((code, said["errors"].as_i64()), (3, Some(1)), "blue has no such column: {said}");
    sandbox.change_plan("s.nobody", "s.subject");
    sandbox.sql(PAIRWISE).await;
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    let granted = grants(&sandbox, 5).await;
    let [reused, unknown, by_hand, outside, late] = granted.as_slice() else { panic!("{granted:?}") };
    let session = session(&sandbox).await;

    // The gateway has begun with the plan as it was and knows no statement.
    sandbox.sql(&format!("delete from aside.session where subject = '{}'", outside.1)).await;
    let (code, said) = sandbox.run(&format!("revocations add --subject {} --because left --actor hr", outside.1)).await;
    assert_eq!((code, &said["settled"]), (0, &"executed".into()), "{said}");
    assert_eq!(living(&sandbox, "BLUE_URL", &outside.0).await, 0);

    let ended = serde_json::json!({ "sessions": [session] });
    let lied = capture(&sandbox, "blue", "login_session", &ended, "executed").await;
    let ids = [lied, capture(&sandbox, "blue", "consent", &chain(unknown), "captured").await];
    let hand = capture(&sandbox, "blue", "consent", &chain(by_hand), "captured").await;
    sandbox.sql(&format!("delete from hydra_oauth2_access where request_id = '{}'", reused.0)).await;
    sandbox.sql(&format!("update hydra_oauth2_refresh set active = false where request_id = '{}'", reused.0)).await;
    let (code, said) = sandbox.run(&format!("revocations replay {hand} --live")).await;
    assert_eq!((code, outcome(&sandbox, hand).await.as_str()), (0, "executed"), "{said}");
    assert_eq!(living(&sandbox, "BLUE_URL", &by_hand.0).await, 0);

    let (code, said) = sandbox.run("revocations witness").await;
    assert_eq!((code, &said["witness"]["alive"], &said["witness"]["unsettled"]), (3, &1.into(), &1.into()), "{said}");
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (3, Some("blue")), "{said}");
    assert!(why(&said).contains(&ids[0].to_string()) && !why(&said).contains(&ids[1].to_string()), "{said}");
    let (code, said) = sandbox.run(&format!("revocations waive {} --because asked-the-user", ids[0])).await;
    assert_eq!((code, &said["journalled"]), (0, &true.into()), "{said}");

    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let stands = format!("select count(*) from hydra_oauth2_authentication_session where id = '{session}'");
    assert_eq!(sandbox.ask("BLUE_URL", &stands).await, 1, "nobody has ended it on blue");
    assert_eq!(sandbox.ask("GREEN_URL", &stands).await, 0, "what is waived is killed all the same, where it can be");
    assert_eq!(
        (living(&sandbox, "BLUE_URL", &unknown.0).await, outcome(&sandbox, ids[1]).await.as_str()),
        (0, "executed")
    );
    for (consent, _) in &granted[..4] {
        assert_eq!(living(&sandbox, "GREEN_URL", consent).await, 0, "{consent} is dead on green");
    }
    for (variable, table) in [("BLUE_URL", "aside.session"), ("GREEN_URL", PAIRS)] {
        let left = |subject: &str| format!("select count(*) from {table} where subject = '{subject}'");
        assert_eq!(sandbox.ask(variable, &left(&unknown.1)).await, 0, "the plan's statement was run on {variable}");
        assert_eq!(sandbox.ask(variable, &left(&late.1)).await, 1, "and for nobody else");
    }
    let (code, said) = sandbox.run("report").await;
    assert_eq!((code, &said["waived"]), (0, &1.into()), "{said}");
    let waived = sandbox.start("report").until(|event| event["event"] == "waived").await.expect("the waiver");
    assert_eq!(
        (waived["which"].as_str(), waived["because"].as_str()),
        (Some(ids[0].to_string().as_str()), Some("asked-the-user"))
    );
    assert!(waived["by"].as_str().is_some_and(|by| by.contains('@')) && waived["at"].is_string(), "{waived}");
    let (_, said) = sandbox.run("revocations witness").await;
    let unasked = said["witness"]["unasked_named"].to_string();
    assert!(unasked.contains(&reused.0) && !unasked.contains(&unknown.0), "{said}");
    let (_, said) = sandbox.run("status").await;
    assert_eq!((&said["revocations"]["waived"], &said["revocations"]["dead"]), (&1.into(), &0.into()), "{said}");
    let receipt = "select count(*) from cutover.record where step = 'ready-to-flip' and kind in ('done', 'held') and body::text like '%waived_named%' || $1 || '%'";
    let control = sandbox.client("CONTROL_URL").await;
    let named: i64 = control.query_one(receipt, &[&ids[0].to_string()]).await.expect("the journal").get(0);
    assert!(named > 0, "the gate's receipt names the waiver");
    dies_on_the_way_back(&sandbox, late).await;
}

/// Ends a login session of the seed by its id, through the gateway while green serves: blue's engine knows no such door.
async fn ended_by_id(sandbox: &Sandbox) -> String {
    let query =
        "select id::text from hydra_oauth2_authentication_session where remember order by authenticated_at limit 1";
    let id: String = sandbox.client("GREEN_URL").await.query_one(query, &[]).await.expect("a session").get(0);
    let standing = format!("select count(*) from hydra_oauth2_authentication_session where id = '{id}'");
    assert_eq!(sandbox.ask("BLUE_URL", &standing).await, 1, "blue has it from before");
    let url = format!("{}/admin/oauth2/auth/sessions/login?sid={id}", sandbox.variable("GATEWAY_ADMIN"));
    let http = cutover::traffic::http_client().expect("a client");
    assert_eq!(http.delete(url).send().await.expect("the gateway answers").status(), 204);
    assert_eq!(sandbox.ask("GREEN_URL", &standing).await, 0, "green's engine has ended it");
    id
}

/// What was revoked while green served has to be dead on blue too, by blue's own statement.
async fn dies_on_the_way_back(sandbox: &Sandbox, late: &(String, String)) {
    let session = ended_by_id(sandbox).await;
    let back = capture(sandbox, "green", "consent", &chain(late), "captured").await;
    let (code, said) = sandbox.run("rollback --yes").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("blue")), "{said}");
    assert_eq!(outcome(sandbox, back).await, "executed");
    assert_eq!(living(sandbox, "BLUE_URL", &late.0).await, 0);
    let standing = format!("select count(*) from hydra_oauth2_authentication_session where id = '{session}'");
    assert_eq!(sandbox.ask("BLUE_URL", &standing).await, 0, "a session that was ended by its id");
    let proved = format!(
        "select count(*) from cutover.revocation where door = 'login_session' and live = 'green' and proved_at is not null and chain::text like '%{session}%'"
    );
    assert_eq!(sandbox.ask("CONTROL_URL", &proved).await, 1, "it was captured, and proved on blue");
    let left = format!("select count(*) from aside.session where subject = '{}'", late.1);
    assert_eq!(sandbox.ask("BLUE_URL", &left).await, 0, "the plan's statement for blue was run");
    assert!(sandbox.ask("BLUE_URL", "select count(*) from aside.session").await > 0, "and for nobody else");
}
