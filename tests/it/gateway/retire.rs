//! When the deny overlay lets go of a revocation, in front of engines that say yes to everything: only rows say what is dead.

use super::overlay::{DENIED, PASSED, introspected, jwt};
use super::world::{World, nowhere, to_green};
use crate::harness::eventually;
use crate::revocations::tables;
use cutover::gateway::Config;
use cutover::revocations::{Because, Verdicts};
use cutover::traffic::register::Change;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);
const AGE: Duration = Duration::from_millis(600);

fn soon_old(config: &mut Config) {
    config.denied = AGE;
}

/// What an engine does that tells the truth.
fn killed(request: &str) -> String {
    format!(
        "delete from hydra_oauth2_access where request_id = '{request}'; update hydra_oauth2_refresh set active = false where request_id = '{request}'"
    )
}

async fn denied(world: &World, token: &str) -> bool {
    match introspected(world, world.gateway.addresses.admin, token).await {
        DENIED => true,
        PASSED => false,
        other => panic!("{token}: {other:?}"),
    }
}

/// Waits until everything that may retire has done so: the one that is dead for certain has.
async fn let_go(world: &World, token: &str) {
    eventually(SOON, "what is dead is denied no more", async || (!denied(world, token).await).then_some(())).await;
}

/// Grants and revokes `name` under the request of the same name; kills it where the engine would.
async fn revoked(world: &World, name: &str, is_killed: bool) {
    world.pair.blue.execute(&tables::grant(name, name, "app", "ann")).await;
    assert_eq!(world.revoke(&format!("x.{name}-refresh")).await.status(), 200);
    if is_killed {
        world.pair.blue.execute(&killed(name)).await;
    }
}

async fn waive(world: &World, signature: &str) {
    let id = format!("select id from cutover.revocation where chain::text like '%{signature}%'");
    let id: Uuid = world.pair.control.ask(&id).await;
    let verdicts = Verdicts::new(&world.pair.control.url(), "plan", crate::revocations::LIMIT);
    let because = Because { who: "ann".into(), why: "known".into() };
    assert!(verdicts.waive(id, because, false).await.expect("control answers"));
}

#[tokio::test]
async fn gateway_overlay_outlives_many_more_revocations_than_it_has_room_for() {
    const ROOM: usize = 4;
    const MANY: usize = 10 * ROOM;
    let world = World::with(|config| {
        soon_old(config);
        config.gateway.overlay_entries = ROOM;
    })
    .await;
    revoked(&world, "lie", false).await;
    let mut refused = 0;
    for number in 0..MANY {
        let name = format!("t{number}");
        world.pair.blue.execute(&tables::grant(&name, &name, "app", "ann")).await;
        let begun = Instant::now();
        while world.revoke(&format!("x.{name}-refresh")).await.status() == 503 {
            refused += 1;
            assert!(begun.elapsed() < SOON, "there is room again");
        }
        assert!(denied(&world, &format!("x.{name}-access")).await, "from its acknowledgement on");
        world.pair.blue.execute(&killed(&name)).await;
        assert!(world.metric("cutover_overlay_entries").await <= ROOM as u64);
        assert!(denied(&world, "x.lie-access").await, "alive where people are served");
    }
    assert!(refused > 0, "the room was full at times");
    assert_eq!(world.blue.count("POST /oauth2/revoke"), MANY + 1, "no refused one reached the engine");
}

#[tokio::test]
async fn gateway_overlay_never_lets_go_of_what_is_not_proved() {
    let world = World::with(soon_old).await;
    revoked(&world, "lie", false).await;
    revoked(&world, "sibling", true).await;
    // Born of a refresh that was under way.
    world.pair.blue.execute(&tables::grant("sibling", "late", "app", "ann")).await;
    revoked(&world, "waived", true).await;
    eventually(SOON, "control has it", async || {
        let count: i64 = world.pair.control.ask("select count(*) from cutover.revocation").await;
        (count == 3).then_some(())
    })
    .await;
    waive(&world, "waived-refresh").await;
    assert_eq!(world.revoke(&jwt("1", "s1")).await.status(), 200);
    let kept = async || {
        for token in ["x.lie-refresh", "x.late-access", "x.waived-refresh", &jwt("1", "s1")] {
            assert!(denied(&world, token).await, "{token}");
        }
    };
    for round in 0..3 {
        let name = format!("dead{round}");
        revoked(&world, &name, true).await;
        let_go(&world, &format!("x.{name}-refresh")).await;
        kept().await;
    }

    // Nobody asks a side that is not known to serve: blue is sealed, and this gateway has not heard of it.
    revoked(&world, "sealed", true).await;
    let blue = world.pair.blue.client().await;
    assert!(Change::seal(1, 2, Uuid::new_v4()).apply(&blue).await.expect("blue answers"));
    tokio::time::sleep(AGE * 4).await;
    assert!(denied(&world, "x.sealed-refresh").await, "its register is not open");
    kept().await;
}

#[tokio::test]
async fn gateway_overlay_lets_go_of_nothing_while_control_or_the_tables_are_away() {
    let world = World::with(soon_old).await;
    revoked(&world, "first", true).await;
    world.pair.blue.execute("alter table hydra_oauth2_access rename to elsewhere").await;
    tokio::time::sleep(AGE * 4).await;
    assert!(denied(&world, "x.first-refresh").await, "nobody could be asked");
    world.pair.blue.execute("alter table elsewhere rename to hydra_oauth2_access").await;
    let_go(&world, "x.first-refresh").await;

    revoked(&world, "second", true).await;
    let close = format!(
        "alter database {0} allow_connections false; select pg_terminate_backend(pid) from pg_stat_activity where datname = '{0}'",
        world.pair.control.database
    );
    world.pair.blue.execute(&close).await;
    tokio::time::sleep(AGE * 4).await;
    assert!(denied(&world, "x.second-refresh").await, "it could not be noted");
    let open = format!("alter database {} allow_connections true", world.pair.control.database);
    world.pair.blue.execute(&open).await;
    let_go(&world, "x.second-refresh").await;
}

#[tokio::test]
async fn gateway_started_again_denies_what_had_not_retired_and_what_was_waived_since() {
    let mut world = World::with(soon_old).await;
    revoked(&world, "lie", false).await;
    for name in ["dead", "waived"] {
        revoked(&world, name, true).await;
        let_go(&world, &format!("x.{name}-refresh")).await;
    }
    let second = world.second("engine-b").await;
    assert_eq!(introspected(&world, second.addresses.admin, "x.dead-refresh").await, PASSED, "it learns what stands");
    assert_eq!(introspected(&world, second.addresses.admin, "x.lie-access").await, DENIED);

    waive(&world, "waived-refresh").await;
    for admin in [world.gateway.addresses.admin, second.addresses.admin] {
        eventually(SOON, "what a person answers for is denied again", async || {
            (introspected(&world, admin, "x.waived-refresh").await == DENIED).then_some(())
        })
        .await;
    }
    world.restart_gateway().await;
    assert_eq!(world.metric("cutover_overlay_entries").await, 2);
    let order = to_green(2, SOON);
    for verb in ["hold", "switch", "release"] {
        world.must(verb, &order).await;
    }
    tokio::time::sleep(AGE * 2).await;
    assert!(denied(&world, "x.waived-refresh").await, "on the side that opened without its proof");
    let back = cutover::traffic::protocol::Order { side: cutover::plan::Side::Blue, ..to_green(3, SOON) };
    for verb in ["hold", "switch", "release"] {
        world.must(verb, &back).await;
    }
    tokio::time::sleep(AGE * 2).await;
    for token in ["x.waived-refresh", "x.lie-access"] {
        assert!(denied(&world, token).await, "{token}: on the way back");
    }
}

#[tokio::test]
async fn gateway_overlay_lets_go_without_a_run_and_without_a_proof() {
    let world = World::with(soon_old).await;
    for place in [&world.pair.blue, &world.pair.green] {
        place.execute("drop table cutover.register cascade").await;
    }
    revoked(&world, "lie", false).await;
    let_go(&world, "x.lie-access").await;
    let lost = World::with(|config| {
        soon_old(config);
        config.green = nowhere();
    })
    .await;
    revoked(&lost, "dead", true).await;
    let_go(&lost, "x.dead-refresh").await;
}
