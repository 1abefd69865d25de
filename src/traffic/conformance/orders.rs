//! Rules of orders: which are obeyed, which are refused, and that a repeated or unheard answer changes nothing.

use super::subject::Subject;
use crate::traffic::protocol::{Order, State};
use uuid::Uuid;

const ALL: [&str; 5] = ["prepare", "hold", "switch", "verify", "release"];

/// There and back, each order once.
pub(super) async fn whole_way(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let home = there.side.other();
    let prepared = subject.must("prepare", &there, State::Prepared).await?;
    if prepared.side != home {
        return Err(format!("prepare: it serves {} before it was released there", prepared.side));
    }
    let held = subject.must("hold", &there, State::Holding).await?;
    if held.in_flight != 0 {
        return Err(format!("hold: answered 200 with {} in flight", held.in_flight));
    }
    let switched = subject.must("switch", &there, State::Switched).await?;
    if switched.side != there.side {
        return Err(format!("switch: it turned to {}", switched.side));
    }
    let verified = subject.must("verify", &there, State::Switched).await?;
    if verified.answered_by.is_none_or(|version| version.is_empty()) {
        return Err("verify: does not say who answered (`answered_by`)".to_owned());
    }
    let released = subject.must("release", &there, State::Serving).await?;
    if released.side != there.side {
        return Err(format!("release: it serves {}", released.side));
    }
    let seen = subject.standing().await?;
    if (seen.epoch, seen.side, seen.state) == (there.epoch, there.side, State::Serving) {
        return Ok(());
    }
    Err(format!("state: tells another than the last answer: {seen:?}"))
}

/// Every order of an older epoch, serving and held.
pub(super) async fn lower_epoch(subject: &mut Subject) -> Result<(), String> {
    let older = subject.propose();
    let there = subject.propose();
    subject.must("prepare", &there, State::Prepared).await?;
    refuses_all(subject, &older).await?;
    subject.must("hold", &there, State::Holding).await?;
    refuses_all(subject, &older).await
}

/// Every order of this epoch from another proposal, serving and held.
pub(super) async fn other_nonce(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let other = Order { nonce: Uuid::new_v4(), ..there.clone() };
    subject.must("prepare", &there, State::Prepared).await?;
    refuses_all(subject, &other).await?;
    subject.must("hold", &there, State::Holding).await?;
    refuses_all(subject, &other).await
}

async fn refuses_all(subject: &Subject, order: &Order) -> Result<(), String> {
    for verb in ALL {
        subject.must_not(verb, order, 409).await?;
    }
    Ok(())
}

/// Every order twice.
pub(super) async fn repeats(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let states = [State::Prepared, State::Holding, State::Switched, State::Switched, State::Serving];
    for (verb, state) in ALL.into_iter().zip(states) {
        let first = subject.must(verb, &there, state).await?;
        let second = subject.must(verb, &there, state).await.map_err(|why| format!("the second time, {why}"))?;
        if first != second {
            return Err(format!("{verb}: answered {first:?} first and {second:?} when it was repeated"));
        }
    }
    Ok(())
}

/// Late orders of an epoch that was released.
pub(super) async fn released_is_over(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    subject.must("hold", &there, State::Holding).await?;
    let back = Order { side: subject.home(), ..there.clone() };
    subject.must("release", &back, State::Serving).await?;
    for verb in ["hold", "switch", "release"] {
        subject.must_not(verb, &there, 409).await?;
    }
    Ok(())
}

/// Orders of a newer epoch while one is held.
pub(super) async fn one_hold_at_a_time(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    subject.must("hold", &there, State::Holding).await?;
    let newer = subject.propose();
    for verb in ["prepare", "hold"] {
        subject.must_not(verb, &newer, 503).await?;
    }
    let back = Order { side: subject.home(), ..newer };
    subject.must("release", &back, State::Serving).await?;
    Ok(())
}

/// A `switch` without its own hold.
pub(super) async fn switch_only_held(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    subject.must_not("switch", &there, 409).await?;
    subject.must("prepare", &there, State::Prepared).await?;
    subject.must_not("switch", &there, 409).await?;
    subject.must("hold", &there, State::Holding).await?;
    let newer = subject.propose();
    subject.must_not("switch", &newer, 409).await
}

/// Orders whose giver hears no answer and is gone: they are carried out, and repeated like any other.
pub(super) async fn lost_answers(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let states = [State::Prepared, State::Holding, State::Switched, State::Switched, State::Serving];
    for (verb, state) in ALL.into_iter().zip(states) {
        subject.order_and_leave(verb, &there).await?;
        let what = format!("a {verb} whose answer was lost is carried out");
        subject.until(&what, |seen| (seen.epoch, seen.state) == (there.epoch, state)).await?;
        subject.must(verb, &there, state).await?;
    }
    Ok(())
}
