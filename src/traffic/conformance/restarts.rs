//! Rules of restarts: killed and started again it stands where it stood, and one that was held asks before it serves.

use super::subject::Subject;
use crate::traffic::protocol::{Order, Resolution, ResolutionState, Standing, State};
use uuid::Uuid;

/// Killed while it serves the other side.
pub(super) async fn serving(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    subject.must("hold", &there, State::Holding).await?;
    subject.must("switch", &there, State::Switched).await?;
    let before = subject.must("release", &there, State::Serving).await?;
    comes_back(subject, &before, State::Serving).await
}

/// Killed after it has accepted a proposal.
pub(super) async fn prepared(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let before = subject.must("prepare", &there, State::Prepared).await?;
    comes_back(subject, &before, State::Prepared).await
}

/// Killed between `hold` and `switch`: it refuses, and the flip can go on.
pub(super) async fn holding(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let before = subject.must("hold", &there, State::Holding).await?;
    comes_back(subject, &before, State::Refusing).await?;
    subject.must_refuse_users().await?;
    subject.must("switch", &there, State::Switched).await?;
    subject.must("release", &there, State::Serving).await.map(drop)
}

/// Killed between `switch` and `release`: the side it turned to is not served from memory.
pub(super) async fn switched(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    subject.must("hold", &there, State::Holding).await?;
    let before = subject.must("switch", &there, State::Switched).await?;
    comes_back(subject, &before, State::Refusing).await?;
    subject.must_refuse_users().await?;
    subject.must("release", &there, State::Serving).await.map(drop)
}

/// Killed twice while it was held, and then told by its resolver, whose address it must have kept.
pub(super) async fn refusing(subject: &mut Subject) -> Result<(), String> {
    let there = subject.propose();
    let before = subject.must("hold", &there, State::Holding).await?;
    comes_back(subject, &before, State::Refusing).await?;
    comes_back(subject, &before, State::Refusing).await?;
    subject.resolver.say(Resolution { side: Some(there.side), epoch: there.epoch, state: ResolutionState::Open });
    let what = "after a restart it asks the resolver that it was told of before";
    subject.until(what, |seen| (seen.state, seen.side) == (State::Serving, there.side)).await.map(drop)
}

/// Restarts it: same epoch, nonce and side, in this state; and it still refuses who was overtaken.
async fn comes_back(subject: &Subject, before: &Standing, state: State) -> Result<(), String> {
    let after = subject.restart().await?;
    if (after.epoch, after.nonce) != (before.epoch, before.nonce) {
        return Err(format!("it forgot epoch {} and stands at epoch {}", before.epoch, after.epoch));
    }
    if after.state != state {
        return Err(format!("it was {:?} and came back {:?} where {state:?} was due", before.state, after.state));
    }
    if after.side != before.side {
        return Err(format!("it was on {} and came back on {}", before.side, after.side));
    }
    let order = Order {
        run: Uuid::nil(),
        epoch: before.epoch,
        nonce: Uuid::new_v4(),
        side: before.side,
        deadline_ms: 1000,
        resolvers: Vec::new(),
    };
    subject.must_not("release", &order, 409).await?;
    subject.must_not("release", &Order { epoch: before.epoch - 1, nonce: before.nonce, ..order }, 409).await
}
