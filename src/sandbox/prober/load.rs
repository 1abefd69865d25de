//! The live load: requests at a fixed rate, whatever the answers do, with a bound on how many are outstanding.

use super::words::Kind;
use super::{Prober, actions, doors, secrets, sessions};
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

/// Longest that requests pile up before the load sheds, in seconds of its rate.
const OUTSTANDING_S: u32 = 12;
/// Shares of the mix, per mille.
const MIX: [(Act, u32); 24] = [
    (Act::Do(Kind::Introspect), 260),
    (Act::Do(Kind::Issue), 210),
    (Act::Do(Kind::Refresh), 140),
    (Act::Do(Kind::Userinfo), 60),
    (Act::Do(Kind::GiveConsent), 40),
    (Act::Do(Kind::RevokeToken), 50),
    (Act::Do(Kind::Check), 40),
    (Act::RefreshRevoked, 40),
    (Act::Do(Kind::ClientUpdate), 25),
    (Act::Do(Kind::RevokeConsent), 20),
    (Act::Do(Kind::ClientCreate), 15),
    (Act::Do(Kind::ClientDelete), 10),
    (Act::Regrant, 15),
    (Act::Reuse, 8),
    (Act::ReplayCode, 6),
    (Act::TryCode, 6),
    (Act::RevokeSubject, 8),
    (Act::Do(Kind::AddRevocation), 8),
    (Act::Do(Kind::RevokeAccess), 5),
    (Act::Do(Kind::EndSessions), 6),
    (Act::Do(Kind::Logout), 6),
    (Act::Do(Kind::Session), 10),
    (Act::Do(Kind::ClientSecret), 6),
    (Act::TryOldSecret, 6),
];

/// One act of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// What a well-behaved client does.
    Do(Kind),
    /// What a thief does with a revoked chain.
    RefreshRevoked,
    /// What a thief does with a refresh token that its owner has used.
    Reuse,
    /// What a thief does with a code that its owner has exchanged.
    ReplayCode,
    /// What a thief does with a code whose chain is over.
    TryCode,
    /// What somebody does with a secret that was changed.
    TryOldSecret,
    /// A user who took an app away lets it in again.
    Regrant,
    /// An administrator takes a user away from all apps.
    RevokeSubject,
}

/// Drives the load for as long as the prober lives.
pub(super) async fn drive(prober: Arc<Prober>, rate: u32) {
    let rate = rate.max(1);
    let outstanding = Arc::new(Semaphore::new((rate * OUTSTANDING_S).max(64) as usize));
    let mut tick = interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        let Ok(permit) = outstanding.clone().try_acquire_owned() else {
            prober.history.shed();
            continue;
        };
        let (act, prober) = (choose(), prober.clone());
        tokio::spawn(async move {
            perform(&prober, act).await;
            drop(permit);
        });
    }
}

fn choose() -> Act {
    let total: u32 = MIX.iter().map(|(_, share)| share).sum();
    let mut nth = rand::rng().random_range(0..total);
    for (act, share) in MIX {
        if nth < share {
            return act;
        }
        nth -= share;
    }
    Act::Do(Kind::Introspect)
}

/// Performs an act; one that has nothing to act on yet issues a token instead.
async fn perform(prober: &Prober, act: Act) {
    let done = match act {
        Act::RefreshRevoked => actions::refresh_revoked(prober).await,
        Act::Reuse => doors::reuse(prober).await,
        Act::ReplayCode => doors::replay_code(prober).await,
        Act::TryCode => doors::try_any_code(prober).await,
        Act::TryOldSecret => secrets::try_any_old(prober).await,
        Act::Regrant => doors::regrant(prober).await,
        Act::RevokeSubject => doors::revoke_subject(prober).await,
        Act::Do(Kind::RevokeAccess) => doors::revoke_access(prober).await,
        Act::Do(Kind::AddRevocation) => doors::add_revocation(prober).await,
        Act::Do(Kind::EndSessions) => sessions::end_all(prober).await,
        Act::Do(Kind::Logout) => sessions::log_out(prober).await,
        Act::Do(Kind::Session) => sessions::ask_any(prober).await,
        Act::Do(Kind::ClientSecret) => secrets::change(prober).await,
        Act::Do(Kind::Introspect) => actions::introspect(prober).await,
        Act::Do(Kind::Issue) => actions::issue(prober).await,
        Act::Do(Kind::Refresh) => actions::refresh(prober).await,
        Act::Do(Kind::Userinfo) => actions::userinfo(prober).await,
        Act::Do(Kind::GiveConsent | Kind::Exchange) => actions::grant(prober).await,
        Act::Do(Kind::RevokeToken) => actions::revoke_token(prober).await,
        Act::Do(Kind::RevokeConsent) => actions::revoke_consent(prober).await,
        Act::Do(Kind::Check) => actions::check(prober).await,
        Act::Do(Kind::ClientCreate) => actions::create_app(prober, false).await,
        Act::Do(Kind::ClientUpdate) => actions::rename_app(prober).await,
        Act::Do(Kind::ClientDelete) => actions::delete_app(prober).await,
    };
    if done.is_none() {
        actions::issue(prober).await;
    }
}
