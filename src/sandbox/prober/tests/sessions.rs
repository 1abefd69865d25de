//! Browsers that the engine remembers: logins that stand, that are ended, and that their owners end.

use super::{BACK, BLUE, GREEN, World};
use crate::sandbox::prober::actions::Asked;
use crate::sandbox::prober::sessions;
use crate::sandbox::prober::words::Door;
use serde_json::{Value, json};

/// Where the engine sends a browser whose login it remembers, and one that has to log in.
fn remembered() -> Value {
    json!({"redirect_to": "http://screens/login?login_challenge=c"})
}

fn login_required() -> Value {
    json!({"redirect_to": "http://app/callback?error=login_required&state=s"})
}

#[tokio::test]
async fn a_login_session_that_was_ended_lets_no_browser_in_and_ends_nothing_else() {
    let world = World::new("sessions").await;
    world.grant().await;
    world.bid("/oauth2/auth", 302, remembered());
    sessions::ask_any(&world.prober).await.expect("a browser");
    world.bid("/oauth2/auth/sessions/login", 204, Value::Null);
    sessions::end_all(&world.prober).await.expect("a session");
    assert_eq!((world.uses(Door::LoginSessions), world.seen().failed, world.seen().revoked_accepted), (1, 0, 0));
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().revoked_accepted, 1, "let in after its session had ended");
    world.bid("/oauth2/auth", 302, login_required());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0));
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked, world.seen().failed), (0, 0), "its tokens live on");
    assert!(sessions::end_all(&world.prober).await.is_none(), "it ends once");
}

#[tokio::test]
async fn a_login_that_stands_is_remembered_until_the_way_back_gives_it_up() {
    let world = World::new("remembered").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.bid("/oauth2/auth", 302, login_required());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().failed, 1);
    world.turn(BACK).await;
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().failed, 1);
    assert!(sessions::log_out(&world.prober).await.is_none(), "nobody knows it on blue");
}

#[tokio::test]
async fn a_logout_ends_the_session_of_its_browser_once_it_is_confirmed() {
    let world = World::new("logout").await;
    world.turn(BLUE).await;
    world.grant().await;
    let asked = json!({"redirect_to": "http://screens/logout?logout_challenge=c"});
    world.bid("/oauth2/sessions/logout", 302, asked);
    world.bid("/oauth2/auth/requests/logout/accept", 404, json!({"error": "not_found"}));
    sessions::log_out(&world.prober).await.expect("a browser");
    assert_eq!((world.uses(Door::Logout), world.seen().failed), (0, 1), "nobody said that it was done");
    world.bid("/oauth2/auth", 302, remembered());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().revoked_accepted, 0);

    world.grant().await;
    let accepted = json!({"redirect_to": "http://engine/oauth2/sessions/logout?logout_verifier=v"});
    world.bid("/oauth2/auth/requests/logout/accept", 200, accepted);
    sessions::log_out(&world.prober).await.expect("another browser");
    assert_eq!(world.uses(Door::Logout), 1);
    let out = world.prober.history.lock().ledger.consents.iter().position(|one| one.session.revoked_us.is_some());
    sessions::ask(&world.prober, out.expect("one of both")).await.expect("its browser");
    assert_eq!(world.seen().revoked_accepted, 1);
}
