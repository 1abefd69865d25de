//! The example plan's invariants, on the stand-in's own schemas: what is carried holds, what the engine's own migrations make of the same rows does not,
//! what the repairs mend does; and every planted difference is named by the invariant it belongs to.

use crate::harness::{Pair, Place};
use crate::plan_hydra::{carried, plan_of, seeded};
use cutover::database::invariants::{self, Answer};
use cutover::plan::{self, Plan, Side};
use cutover::sandbox::engine::{EngineVersion, migrate};
use std::path::Path;
use std::time::Duration;

const BEFORE: &str = include_str!("../../plans/hydra-logical/before/V1__repair_requests.sql");

/// What the cleanup rules leave behind.
const LEFT_BEHIND: &str = "delete from hydra_oauth2_access where client_id = 'legacy-batch' and requested_at < '2025-02-01'; delete from hydra_oauth2_logout_request where not was_used";

async fn ask_all(plan: &Plan, blue: &Place, green: &Place) -> Vec<Answer> {
    let mut sides = (
        invariants::session(&blue.url(), Side::Blue).await.expect("blue"),
        invariants::session(&green.url(), Side::Green).await.expect("green"),
    );
    let bound = Duration::from_secs(60);
    let blue = invariants::begin(&mut sides.0, Side::Blue, bound, None).await.expect("blue");
    let green = invariants::begin(&mut sides.1, Side::Green, bound, None).await.expect("green");
    let mut answers = Vec::new();
    for invariant in &plan.invariants {
        invariants::examine(invariant, &blue).await.unwrap_or_else(|error| panic!("{}: {error:?}", invariant.name));
        let answer = invariants::ask(invariant, &blue, &green).await;
        answers.push(answer.unwrap_or_else(|error| panic!("{}: {error:?}", invariant.name)));
    }
    answers
}

fn failed(answers: &[Answer]) -> Vec<&str> {
    answers.iter().filter(|answer| !answer.holds).map(|answer| answer.name.as_str()).collect()
}

#[tokio::test]
async fn the_example_plans_invariants_hold_on_what_is_carried_and_name_every_planted_difference() {
    let (pair, _) = carried().await;
    let plan = plan_of(&pair);
    let held = ask_all(&plan, &pair.blue, &pair.green).await;
    assert!(failed(&held).is_empty() && held.len() == 8, "{held:#?}");
    let grant = "select min(login_challenge) from hydra_oauth2_flow where state = 6 and not consent_skip";
    for (plant, named, told) in [
        (format!("delete from hydra_oauth2_flow where login_challenge = ({grant})"), "valid-grants", "missing"),
        (format!("update hydra_oauth2_flow set state = 128 where login_challenge = ({grant})"), "refused-logins", "extra"),
        (format!("update hydra_oauth2_flow set subject = '' where login_challenge = ({grant})"), "subjects", "extra"),
        (format!("update hydra_oauth2_flow set subject = 'another' where login_challenge = ({grant})"), "valid-grants", "in subject"),
        ("update hydra_oauth2_refresh set active = true where not active".to_owned(), "live-tokens", "in live (more on green)"),
        ("update hydra_oauth2_code set challenge_id = null".to_owned(), "chains", "missing kind code"),
        ("delete from hydra_oauth2_jti_blacklist where signature = (select min(signature) from hydra_oauth2_jti_blacklist)".to_owned(), "used-assertions", "missing"),
        ("update hydra_oauth2_jti_blacklist set expires_at = expires_at + interval '9 h'".to_owned(), "used-assertions", "in expires_at"),
        ("insert into networks (id) values (gen_random_uuid())".to_owned(), "one-network", "1 on blue, 2 on green"),
    ] {
        let mut client = pair.green.client().await;
        let (mut blue, bound) = (invariants::session(&pair.blue.url(), Side::Blue).await.expect("blue"), Duration::from_secs(60));
        let blue = invariants::begin(&mut blue, Side::Blue, bound, None).await.expect("blue");
        let green = client.transaction().await.expect("a transaction");
        invariants::pin(&green, Side::Green, bound).await.expect("settings");
        let planted = green.execute(&plant, &[]).await.unwrap_or_else(|error| panic!("{plant}: {error:?}"));
        assert!(planted > 0, "{plant}");
        // Sub-selects for the one network fail with two.
        let asked = plan.invariants.iter().find(|one| one.name == named).expect("the invariant");
        let answer = invariants::ask(asked, &blue, &green).await.unwrap_or_else(|error| panic!("{plant}: {error:?}"));
        assert!(!answer.holds && answer.words().contains(told), "{plant}: {}", answer.words());
        green.rollback().await.expect("back");
    }
}

#[tokio::test]
async fn the_engines_own_migrations_fail_the_invariants_until_the_repairs_of_the_logical_plan() {
    let pair = Pair::shared().await;
    seeded(&pair.blue).await;
    // As one that lost its login to a logout.
    pair.blue.execute("delete from hydra_oauth2_authentication_session where id = (select min(login_session_id) from hydra_oauth2_consent_request where login_session_id is not null)").await;
    let lookup = |name: &str| match name {
        "CONTROL_URL" => Some(pair.control.url().expose().to_owned()),
        "BLUE_URL" => Some(pair.blue.url().expose().to_owned()),
        "GREEN_URL" => Some(pair.green.url().expose().to_owned()),
        "HYDRA_BIN" | "GATEWAY_STATE" => Some(format!("/nowhere/{name}")),
        other => Some(format!("http://{}.test:4444", other.replace('_', "-").to_lowercase())),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/hydra-logical.yaml");
    let plan = plan::load(&file, &lookup).unwrap_or_else(|problems| panic!("{problems:?}"));

    let restored = async |before: &str| {
        let twin = Place::shared("twin").await;
        seeded(&twin).await;
        twin.execute("delete from hydra_oauth2_authentication_session where id = (select min(login_session_id) from hydra_oauth2_consent_request where login_session_id is not null)").await;
        twin.execute(LEFT_BEHIND).await;
        twin.execute(before).await;
        migrate(&twin.application_url(), EngineVersion::V2).await.expect("version 2 migrates the twin");
        twin
    };
    let bare = restored("select 1").await;
    let answers = ask_all(&plan, &pair.blue, &bare).await;
    assert_eq!(failed(&answers), ["valid-grants", "states", "refused-logins", "subjects", "chains"], "{answers:#?}");
    let grants = &answers[0];
    assert!(grants.missing > 0 && grants.changed > 0, "lost with their login, and wrong: {grants:#?}");
    assert!(
        grants.rows.iter().any(|row| row.columns == ["stands", "subject"]),
        "both faults of the merge: {grants:#?}"
    );

    let mended = restored(BEFORE).await;
    let answers = ask_all(&plan, &pair.blue, &mended).await;
    assert_eq!(failed(&answers), ["valid-grants", "states", "refused-logins"], "{answers:#?}");
    for repair in &plan.repairs {
        let mut client = mended.client().await;
        let transaction = client.transaction().await.expect("a transaction");
        let changed = invariants::put_right(&transaction, repair).await.expect("it runs");
        assert!(changed.above(repair).is_none());
        transaction.commit().await.expect("committed");
    }
    let answers = ask_all(&plan, &pair.blue, &mended).await;
    assert!(failed(&answers).is_empty(), "{answers:#?}");

    // Without what is done before the migrations, subjects are found again where tokens and sessions know them.
    let (states, subjects) = (&plan.repairs[0], &plan.repairs[1]);
    let mut client = bare.client().await;
    let transaction = client.transaction().await.expect("a transaction");
    for repair in [states, subjects] {
        invariants::put_right(&transaction, repair).await.expect("it runs");
    }
    transaction.commit().await.expect("committed");
    let answers = ask_all(&plan, &pair.blue, &bare).await;
    assert!(!failed(&answers).contains(&"refused-logins") && failed(&answers).contains(&"chains"), "{answers:#?}");
}
