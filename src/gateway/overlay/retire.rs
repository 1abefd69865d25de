//! When an entry goes before no way back is open: once its revocation is proved where people are served.
//!
//! The rule, in five parts, each of which a test takes out:
//!
//! 1. **Old enough**: it has stood longer than any request may take and any kept answer lives. No refresh that was under way when it was
//!    captured can bear a token of its chain any more.
//! 2. **Proved by the tables** of the side that serves, by the proof that a side must pass to open: no token, consent or grant of the chain is
//!    alive there. What the engine answered counts for nothing, and neither does the absence of a JWT that no table knew.
//! 3. **Of the side that serves**: its register is open, and the same before and after the question. Registers only grow, so it was open all
//!    along; a gateway that was left behind asks a side that nobody relies on, and retires nothing.
//! 4. **Answered for by nobody**: the side to come opens only when every revocation in the queue is proved on it under the fence, whether an
//!    entry stands or not, and so does blue on the way back, with green or without. A revocation that a person answers for is the one
//!    that passes by that proof; so it never retires, and comes back to every gateway if it had.
//! 5. **Noted first**: in control, then forgotten here. A gateway that starts passes over what is noted, so that a restart needs no more room
//!    than the run does; without control nothing retires.
//!
//! So whoever is killed, and whenever: before the note the entry stands or is loaded again, and after it the token is dead on the side that
//! serves and cannot be alive on one that opens. While no run stands (the side that serves has no register) an executed one goes by age alone.

use super::Overlay;
use crate::gateway::participant::Participant;
use crate::plan::Side;
use crate::revocations::{Retiring, RevocationError};
use crate::traffic::protocol::State;
use crate::traffic::register::{Seen, State as Standing};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Most entries asked for at once, and how often in one round: several times what may be captured between two.
const PAGE: usize = 2000;
const PAGES: usize = 10;
/// A round comes this many times within the age.
const ROUNDS: u32 = 12;

/// What lets entries of one gateway retire.
pub(in crate::gateway) struct Retirement {
    retiring: Retiring,
    participant: Arc<Participant>,
    /// How long an entry stands at least.
    age: Duration,
}

impl Retirement {
    pub(in crate::gateway) fn new(retiring: Retiring, participant: Arc<Participant>, age: Duration) -> Self {
        Self { retiring, participant, age }
    }

    /// Round after round; never ends by itself.
    pub(super) async fn keep_on(&self, overlay: &Overlay) {
        loop {
            sleep(self.age / ROUNDS).await;
            self.round(overlay).await;
        }
    }

    /// Lets go what is proved; what is not is asked for again after another age.
    async fn round(&self, overlay: &Overlay) {
        for _ in 0..PAGES {
            match self.page(overlay).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, "nothing retires: what is dead could not be asked");
                    break;
                }
            }
        }
    }

    /// One page; whether there may be more.
    async fn page(&self, overlay: &Overlay) -> Result<bool, RevocationError> {
        let due = overlay.read(|entries| entries.due(self.age, Instant::now(), PAGE));
        if due.is_empty() {
            return Ok(false);
        }
        let Some(serving) = self.serving().await else { return Ok(false) };
        let dead = self.retiring.dead(serving.0, due.clone()).await?;
        if self.serving().await.as_ref() != Some(&serving) {
            return Ok(false);
        }
        let retired = self.retiring.note(dead).await?;
        let now = Instant::now();
        overlay.change(|entries| {
            entries.let_go(&retired);
            if serving.1 == Seen::Absent {
                entries.retire(self.age, now);
            }
            entries.keep(&due, now);
        });
        Ok(due.len() == PAGE)
    }

    /// The side that this gateway serves, with its register, while that says so or there is none.
    async fn serving(&self) -> Option<(Side, Seen)> {
        let stand = self.participant.position.lock().await.stand.clone();
        let own = self.participant.registers.read().await.of(stand.side);
        let is_served = match &own {
            Seen::Absent => true,
            Seen::Row(register) => register.state == Standing::Open,
            Seen::Unreachable => false,
        };
        (stand.state == State::Serving && is_served).then_some((stand.side, own))
    }
}
