//! Following the queue for the overlay: everything at the start, within a bound, then what comes new, from whichever gateway; and telling
//! the others how far this one has come.
//!
//! While control is away the entries stand as they are: nothing is forgotten, nothing new is learnt, and nothing new can be acknowledged by
//! anybody, since that needs control too.

use super::{Overlay, Retirement};
use crate::revocations::{Follower, Install, RevocationError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const EVERY: Duration = Duration::from_millis(250);
/// Longest that a start waits for control.
const START: Duration = Duration::from_secs(5);
/// A confirmation is repeated this often when nothing is new, so that silence means something.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);
/// Most outcomes asked for at once.
const OUTCOMES: usize = 2000;
const WARN_EVERY: Duration = Duration::from_secs(30);

/// Loads the overlay within a bound, and gives the task that keeps it; that one never ends by itself.
pub(in crate::gateway) async fn follow(
    overlay: Arc<Overlay>,
    mut follower: Follower,
    install: Install,
    retirement: Retirement,
) -> impl Future<Output = ()> + Send {
    let loading = timeout(START, load(&overlay, &mut follower, &install)).await;
    let why = match loading {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("control did not answer in time".to_owned()),
    };
    if let Some(why) = why {
        tracing::warn!(%why, "what was revoked before this start is not denied here yet: control was not to be had");
    }
    keep(overlay, follower, install, retirement)
}

async fn load(overlay: &Overlay, follower: &mut Follower, install: &Install) -> Result<(), String> {
    install().await?;
    follower.gather().await.map_err(|error| error.to_string())?;
    catch_up(overlay, follower).await.map_err(|error| error.to_string())?;
    overlay.is_loaded.store(true, Ordering::Release);
    tracing::info!(entries = overlay.len(), "denies what was revoked");
    // Told with the next round if it fails: everybody waits for it, and nobody is harmed.
    let _ = follower.confirm(count(overlay)).await;
    Ok(())
}

/// Learning never waits for what retires: a gateway that is late with its confirmation keeps a flip waiting.
async fn keep(overlay: Arc<Overlay>, follower: Follower, install: Install, retirement: Retirement) {
    tokio::join!(keep_learning(&overlay, follower, install), retirement.keep_on(&overlay));
}

async fn keep_learning(overlay: &Overlay, mut follower: Follower, install: Install) {
    let (mut confirmed, mut confirm_at) = (follower.position(), Instant::now());
    let mut warn_at = Instant::now();
    loop {
        sleep(EVERY).await;
        let round = async {
            if !overlay.is_loaded() {
                return load(overlay, &mut follower, &install).await;
            }
            learn(overlay, &mut follower).await.map_err(|error| error.to_string())?;
            if follower.position() != confirmed || Instant::now() >= confirm_at {
                follower.confirm(count(overlay)).await.map_err(|error| error.to_string())?;
                (confirmed, confirm_at) = (follower.position(), Instant::now() + CONFIRM_EVERY);
            }
            Ok(())
        };
        if let Err(why) = round.await
            && Instant::now() >= warn_at
        {
            tracing::warn!(%why, "what other gateways revoke cannot be learnt while control is away");
            warn_at = Instant::now() + WARN_EVERY;
        }
    }
}

async fn learn(overlay: &Overlay, follower: &mut Follower) -> Result<(), RevocationError> {
    catch_up(overlay, follower).await?;
    let unsettled = overlay.read(|entries| entries.unsettled(OUTCOMES));
    if unsettled.is_empty() {
        return Ok(());
    }
    for (id, outcome) in follower.outcomes(unsettled).await? {
        overlay.settle(id, outcome);
    }
    Ok(())
}

/// Whatever is new, page by page; entries of other gateways are taken in without regard to our own bound.
async fn catch_up(overlay: &Overlay, follower: &mut Follower) -> Result<(), RevocationError> {
    loop {
        let (news, is_more) = follower.news().await?;
        if !news.is_empty() {
            overlay.change(|entries| {
                for event in &news {
                    entries.add(event.id, event.door, &event.chain, event.outcome, Instant::now());
                }
            });
        }
        if !is_more {
            return Ok(());
        }
    }
}

fn count(overlay: &Overlay) -> i64 {
    i64::try_from(overlay.len()).unwrap_or(i64::MAX)
}
