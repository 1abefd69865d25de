//! Rules of holds: what waits meanwhile, when they end, and whom a participant believes when they end without word.

use super::subject::{Asked, Subject};
use crate::plan::Side;
use crate::traffic::protocol::{Order, Resolution, ResolutionState, State};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A hold that ends by itself.
const SHORT_MS: u64 = 1000;
/// How long one is looked at for something that must not happen.
const WATCH: Duration = Duration::from_millis(500);
/// Times that a resolver must be asked before its answer counts as not obeyed.
const ASKED: u32 = 2;
/// Bound on a user's request that waits through a hold.
const USER: Duration = Duration::from_secs(20);

/// A second `hold` with a later end.
pub(super) async fn not_prolonged(subject: &mut Subject) -> Result<(), String> {
    let there = Order { deadline_ms: SHORT_MS, ..subject.propose() };
    subject.must("hold", &there, State::Holding).await?;
    sleep(Duration::from_millis(SHORT_MS / 2)).await;
    let again = Order { deadline_ms: 60_000, ..there };
    subject.must("hold", &again, State::Holding).await?;
    subject.until("the hold ends when the first order said", |seen| seen.state == State::Refusing).await.map(drop)
}

/// A user's request that comes during a hold.
pub(super) async fn requests_wait(subject: &mut Subject) -> Result<(), String> {
    if subject.ask(USER).await.is_none_or(|asked| asked.status >= 500) {
        return Err("a user's request is not answered even before a hold".to_owned());
    }
    let there = subject.propose();
    subject.must("hold", &there, State::Holding).await?;
    let waiting = subject.ask_beside(false, USER);
    sleep(WATCH).await;
    must_not_be_served(&waiting, "holding")?;
    subject.must("switch", &there, State::Switched).await?;
    sleep(WATCH).await;
    must_not_be_served(&waiting, "switched")?;
    subject.must("release", &there, State::Serving).await?;
    match tokio::time::timeout(subject.patience(), waiting).await {
        Ok(Ok(Some(Asked { status: 503, has_retry_after: true }))) => {}
        Ok(Ok(Some(Asked { status, .. }))) if status < 500 => {}
        Ok(Ok(answer)) => return Err(format!("a request that waited was answered {answer:?} after the release")),
        _ => return Err("a request that waited was not answered after the release".to_owned()),
    }
    match subject.ask(USER).await {
        Some(asked) if asked.status < 500 => Ok(()),
        answer => Err(format!("after the release a request was answered {answer:?}")),
    }
}

fn must_not_be_served(waiting: &tokio::task::JoinHandle<Option<Asked>>, state: &str) -> Result<(), String> {
    if !waiting.is_finished() {
        return Ok(());
    }
    Err(format!("a request was answered while {state}; it has to wait"))
}

/// Work that is longer than the hold.
pub(super) async fn work_in_flight(subject: &mut Subject) -> Result<(), String> {
    let there = Order { deadline_ms: SHORT_MS, ..subject.propose() };
    let slow = subject.ask_beside(true, USER);
    subject.until("the slow request is in flight", |seen| seen.in_flight > 0).await?;
    let reply = subject.order("hold", &there).await?;
    if reply.status != 503 {
        return Err(format!("hold: answered {} with work in flight at its deadline, where 503 was due", reply.status));
    }
    if reply.body.get("in_flight").is_some_and(|number| number.as_u64() == Some(0)) {
        return Err("hold: answered 503 with 0 in flight".to_owned());
    }
    match slow.await {
        Ok(Some(asked)) if asked.status < 500 => Ok(()),
        answer => Err(format!("work that had begun was not finished: {answer:?}")),
    }
}

/// A hold without word, and a resolver that says nothing.
pub(super) async fn ends(subject: &mut Subject) -> Result<(), String> {
    let order = held_without_word(subject).await?;
    refuses_on(subject, &order).await
}

/// A resolver that names a side by an epoch before this one.
pub(super) async fn resolver_older(subject: &mut Subject) -> Result<(), String> {
    let order = held_without_word(subject).await?;
    let home = subject.home();
    is_not_obeyed(subject, &order, Some(home), order.epoch - 1, ResolutionState::Open).await
}

/// A resolver that cannot tell yet, or does not reach a register.
pub(super) async fn resolver_undecided(subject: &mut Subject) -> Result<(), String> {
    let order = held_without_word(subject).await?;
    is_not_obeyed(subject, &order, Some(order.side), order.epoch, ResolutionState::Undecided).await?;
    is_not_obeyed(subject, &order, None, order.epoch, ResolutionState::Unreachable).await
}

/// A resolver that knows: of this flip, and of a whole flip that the participant has missed.
pub(super) async fn resolver_open(subject: &mut Subject) -> Result<(), String> {
    let order = held_without_word(subject).await?;
    is_obeyed(subject, &order, &order).await?;
    subject.settle().await?;
    let order = held_without_word(subject).await?;
    let later = subject.propose();
    is_obeyed(subject, &order, &later).await
}

/// It serves what the resolver says: this side, open at this epoch. A resolver names no nonce, so that its own epoch may stay the accepted one.
async fn is_obeyed(subject: &Subject, held: &Order, open: &Order) -> Result<(), String> {
    subject.resolver.say(Resolution { side: Some(open.side), epoch: open.epoch, state: ResolutionState::Open });
    let what = format!("it serves {} once a resolver says that it is open at epoch {}", open.side, open.epoch);
    let seen = subject.until(&what, |seen| (seen.state, seen.side) == (State::Serving, open.side)).await?;
    if seen.epoch == open.epoch || (seen.epoch, seen.nonce) == (held.epoch, held.nonce) {
        return Ok(());
    }
    Err(format!("held at epoch {} and told of {}, it stands at epoch {}", held.epoch, open.epoch, seen.epoch))
}

/// Holds it for a short time and waits until it refuses.
async fn held_without_word(subject: &mut Subject) -> Result<Order, String> {
    let order = Order { deadline_ms: SHORT_MS, ..subject.propose() };
    subject.must("hold", &order, State::Holding).await?;
    let refuses = subject.until("a hold without word ends in refusing", |seen| seen.state == State::Refusing).await?;
    if refuses.epoch == order.epoch { Ok(order) } else { Err(format!("it refuses at epoch {}", refuses.epoch)) }
}

/// It stays as it is while the resolver says this, and has asked.
async fn is_not_obeyed(
    subject: &Subject,
    order: &Order,
    side: Option<Side>,
    epoch: i64,
    state: ResolutionState,
) -> Result<(), String> {
    subject.resolver.say(Resolution { side, epoch, state });
    let end = Instant::now() + subject.patience();
    while subject.resolver.asked() < ASKED {
        if Instant::now() >= end {
            return Err(format!(
                "it did not go on asking its resolver within {}",
                humantime::format_duration(subject.patience())
            ));
        }
        refuses_on(subject, order).await?;
        sleep(Duration::from_millis(50)).await;
    }
    refuses_on(subject, order).await.map_err(|why| format!("the resolver says {state:?} at epoch {epoch}: {why}"))
}

async fn refuses_on(subject: &Subject, order: &Order) -> Result<(), String> {
    let seen = subject.standing().await?;
    if (seen.state, seen.epoch) != (State::Refusing, order.epoch) {
        return Err(format!("it stands at {seen:?} where it has to refuse"));
    }
    subject.must_refuse_users().await
}
