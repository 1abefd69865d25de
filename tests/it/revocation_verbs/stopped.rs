//! What of a revocation stops a flip of two sides, before anybody is held and under the hold: a gateway that does not deny it, a message that
//! nobody understands, a row of green that does not die. Blue serves on each time, and the flip goes through once that is seen to.

use super::whole::{capture, chain, grants, living, why};
use crate::harness::sandbox::Sandbox;
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

/// The flip has ended so and for this reason, and blue serves.
fn stopped((code, said): (i32, Value), wanted: i32, reason: &str) {
    assert_eq!((code, said["live"].as_str()), (wanted, Some("blue")), "{said}");
    assert!(why(&said).contains(reason), "{reason}: {said}");
}

async fn serves_on(sandbox: &Sandbox) {
    let written = sandbox.seen("acked_writes").await.unwrap_or(0);
    sandbox.until("acked_writes", written + 3).await;
}

async fn control(sandbox: &Sandbox, statement: &str) {
    let done = sandbox.client("CONTROL_URL").await.execute(statement, &[]).await;
    assert_eq!(done.expect("control answers"), 1, "{statement}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_verbs_a_flip_is_stopped_by_what_is_not_denied_not_understood_or_not_dead() {
    let sandbox = Sandbox::up("stopped", 2000, 10).await;
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    not_denied(&sandbox).await;
    not_understood(&sandbox).await;
    let (consent, _) = not_dead(&sandbox).await;

    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    assert_eq!(living(&sandbox, "GREEN_URL", &consent).await, 0, "it is dead where it lived on");
    let report = sandbox.verb(&["report"]).await;
    for word in ["lost_writes", "revoked_accepted", "two_writer_ms"] {
        assert_eq!(report["prober"][word], 0, "{word} in {report}");
    }
}

/// A gateway that is registered and silent may let through what another has revoked: nobody is held for that.
async fn not_denied(sandbox: &Sandbox) {
    control(
        sandbox,
        "insert into cutover.producer (incarnation, plan, gateway)
         select gen_random_uuid(), plan, 'elsewhere' from cutover.producer limit 1",
    )
    .await;
    stopped(sandbox.run("flip").await, 3, "gateway elsewhere has not said");
    control(sandbox, "update cutover.producer set ended_at = clock_timestamp() where gateway = 'elsewhere'").await;
}

/// What nobody understands may have been a revocation: under the hold the queue counts as not drained, until somebody answers for it.
async fn not_understood(sandbox: &Sandbox) {
    let id = Uuid::new_v4();
    control(
        sandbox,
        &format!(
            "insert into cutover.dead_message (id, plan, queue, body, why)
             select '{id}'::uuid, plan, 'postgres', 'a riddle'::bytea, 'it is no JSON' from cutover.producer limit 1"
        ),
    )
    .await;
    let ended = sandbox.run("flip").await;
    assert!(why(&ended.1).contains("the queue of revocations is not drained"), "{}", ended.1);
    stopped(ended, 7, "1 revocations are dead");
    serves_on(sandbox).await;
    let (code, said) = sandbox.run(&format!("revocations waive {id} --because nobody-sent-it")).await;
    assert_eq!((code, &said["state"]), (0, &"waived".into()), "{said}");
}

/// A grant that lives on both sides, with an access token on green that no delete takes away, not even one that fires no trigger.
async fn undying(sandbox: &Sandbox) -> (String, String) {
    let granted = grants(sandbox, 50).await;
    let consents: Vec<&str> = granted.iter().map(|(consent, _)| consent.as_str()).collect();
    let green = sandbox.client("GREEN_URL").await;
    let query = "select request_id::text from hydra_oauth2_access where request_id = any($1) limit 1";
    let found: String = green.query_one(query, &[&consents]).await.expect("one has an access token").get(0);
    let keep = format!(
        "create function keep() returns trigger language plpgsql as
           $$ begin if old.request_id = '{found}' then return null; end if; return old; end $$;
         create trigger keep before delete on hydra_oauth2_access for each row execute function keep();
         alter table hydra_oauth2_access enable always trigger keep"
    );
    green.batch_execute(&keep).await.expect("a trigger");
    granted.into_iter().find(|(consent, _)| *consent == found).expect("it is one of them")
}

/// Revoked right before the hold, and alive on green: seen under the hold, and the next time before it.
async fn not_dead(sandbox: &Sandbox) -> (String, String) {
    let grant = undying(sandbox).await;
    // A writer for whom the fence waits, so that nothing is decided before it is revoked.
    let slow = sandbox.client("BLUE_URL").await;
    slow.batch_execute("begin; lock table hydra_client in row exclusive mode").await.expect("it is locked");
    let mut flip = sandbox.start("flip --set window.hold=8s --set window.write_gap=8s");
    let proposed = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "propose";
    assert!(flip.until(proposed).await.is_some(), "it is proposed");
    flip.signal(Signal::STOP);
    capture(sandbox, "blue", "consent", &chain(&grant), "captured").await;
    slow.batch_execute("rollback").await.expect("it is let go");
    flip.signal(Signal::CONT);
    stopped(flip.end().await, 7, "not proved on green: 1 revocations do not hold");
    serves_on(sandbox).await;
    assert!(living(sandbox, "GREEN_URL", &grant.0).await > 0, "the row is there, or this shows nothing");

    stopped(sandbox.run("flip --set window.level=10s").await, 3, "1 revocations do not hold");
    let mortal = "drop trigger keep on hydra_oauth2_access; drop function keep()";
    sandbox.client("GREEN_URL").await.batch_execute(mortal).await.expect("the trigger goes");
    grant
}
