//! Reading both registers, and what this gateway may conclude from them and its own memory. Writes only against a flip that nobody
//! finishes, through the one function that its login may call.

use crate::plan::{Secret, Side};
use crate::revocations::Link;
use crate::traffic::protocol::{Resolution, ResolutionState};
use crate::traffic::register::{self, Decision, Seen, decide};
use crate::traffic::stand::{Settled, Stand};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Both registers, over connections that come back.
pub(super) struct Registers {
    blue: Link,
    green: Link,
}

/// Both registers as just read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readings {
    pub(super) blue: Seen,
    pub(super) green: Seen,
}

impl Registers {
    pub(super) fn new(blue: &Secret, green: &Secret, limit: Duration) -> Self {
        Self { blue: Link::new(blue.clone(), "blue", limit), green: Link::new(green.clone(), "green", limit) }
    }

    /// The usual bound of one reading.
    pub(super) fn limit(&self) -> Duration {
        self.blue.limit()
    }

    /// Reads both at once, each within the usual bound.
    pub(super) async fn read(&self) -> Readings {
        self.read_within(self.limit()).await
    }

    /// Reads both at once; one that has not answered within `bound` is out of reach.
    pub(super) async fn read_within(&self, bound: Duration) -> Readings {
        let until = Instant::now() + bound;
        let blue = read_one(&self.blue, Side::Blue, until);
        let green = read_one(&self.green, Side::Green, until);
        let (blue, green) = tokio::join!(blue, green);
        Readings { blue, green }
    }
}

impl Registers {
    /// Writes against the flip of `stand`: the side that this gateway served stays open, unless that was decided otherwise before. Whether
    /// it was written within its bound is for the next reading to say.
    pub(super) async fn keep_open(&self, stand: &Stand, until: Instant) {
        let link = if stand.side == Side::Blue { &self.blue } else { &self.green };
        let Ok(Ok(client)) = timeout_at(until, link.client("settle the register")).await else { return };
        match timeout_at(until, register::keep_open(&*client, stand.epoch, stand.nonce)).await {
            Ok(Ok(register)) => tracing::warn!(?register, "nobody finished the flip; settled it by a write against it"),
            Ok(Err(error)) => tracing::warn!(%error, "the flip that nobody finished cannot be settled yet"),
            Err(_) => link.drop_client().await,
        }
    }
}

async fn read_one(link: &Link, side: Side, until: Instant) -> Seen {
    let Ok(Ok(client)) = timeout_at(until, link.client("read the register")).await else {
        return Seen::Unreachable;
    };
    let answer = timeout_at(until, register::read_of(&*client, side)).await;
    let seen = answer.map_or(Seen::Unreachable, Seen::from);
    if seen == Seen::Unreachable {
        link.drop_client().await;
    }
    seen
}

impl Readings {
    /// One side's.
    pub(super) fn of(self, side: Side) -> Seen {
        match side {
            Side::Blue => self.blue,
            Side::Green => self.green,
        }
    }

    /// Which side this gateway may serve, given where it stands; none when it must refuse.
    pub(super) fn settle(&self, stand: &Stand) -> Option<Settled> {
        stand.settle(&self.blue, &self.green)
    }

    /// What this gateway says as a resolver: what the registers say, and where none is seen, what it would serve itself. From absent
    /// registers alone one would conclude blue at epoch 0, long after clients went to green.
    pub(super) fn resolution(&self, stand: &Stand) -> Resolution {
        let epoch = self.highest().unwrap_or(stand.epoch);
        let decision = match self.highest() {
            Some(_) => decide(&self.blue, &self.green, 0),
            None => self.settle(stand).map_or(self.open_question(), |found| Decision::Serving(found.side, found.epoch)),
        };
        match decision {
            Decision::Serving(side, epoch) => Resolution { side: Some(side), epoch, state: ResolutionState::Open },
            Decision::Undecided => Resolution { side: None, epoch, state: ResolutionState::Undecided },
            Decision::Unreachable => Resolution { side: None, epoch, state: ResolutionState::Unreachable },
        }
    }

    fn open_question(&self) -> Decision {
        if self.are_absent() { Decision::Undecided } else { Decision::Unreachable }
    }

    fn are_absent(&self) -> bool {
        self.blue == Seen::Absent && self.green == Seen::Absent
    }

    fn highest(&self) -> Option<i64> {
        let epochs = [&self.blue, &self.green].into_iter().filter_map(|seen| match seen {
            Seen::Row(register) => Some(register.epoch),
            _ => None,
        });
        epochs.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::protocol::State as Standing;
    use crate::traffic::register::{Register, State};
    use uuid::Uuid;

    fn row(side: Side, epoch: i64, state: State) -> Seen {
        Seen::Row(Register { side, epoch, nonce: Uuid::nil(), state, fence_pid: None })
    }

    fn stored(epoch: i64, state: Standing, side: Side) -> Stand {
        Stand { epoch, nonce: Uuid::nil(), state, side }
    }

    fn resolved(readings: &Readings, stand: &Stand) -> (Option<Side>, i64, ResolutionState) {
        let resolution = readings.resolution(stand);
        (resolution.side, resolution.epoch, resolution.state)
    }

    fn settled(readings: &Readings, stand: &Stand) -> Option<(Side, i64)> {
        readings.settle(stand).map(|settled| (settled.side, settled.epoch))
    }

    #[test]
    fn a_hold_is_settled_only_at_its_own_epoch() {
        let undecided = Readings { blue: row(Side::Blue, 1, State::Open), green: row(Side::Green, 0, State::Closed) };
        assert_eq!(settled(&undecided, &stored(2, Standing::Holding, Side::Blue)), None);
        let kept = Readings { blue: row(Side::Blue, 2, State::Open), ..undecided.clone() };
        assert_eq!(settled(&kept, &stored(2, Standing::Holding, Side::Blue)), Some((Side::Blue, 2)));
        let decided = Readings { blue: row(Side::Blue, 2, State::Sealed), green: row(Side::Green, 2, State::Open) };
        assert_eq!(settled(&decided, &stored(2, Standing::Refusing, Side::Blue)), Some((Side::Green, 2)));
    }

    #[test]
    fn released_back_to_blue_it_serves_blue_after_a_restart() {
        let readings = Readings { blue: row(Side::Blue, 1, State::Open), green: row(Side::Green, 0, State::Closed) };
        assert_eq!(settled(&readings, &stored(2, Standing::Serving, Side::Blue)), Some((Side::Blue, 1)));
        assert_eq!(settled(&readings, &stored(2, Standing::Serving, Side::Green)), None, "an older blue has come back");
    }

    #[test]
    fn without_an_answer_there_is_no_side() {
        let dark = Readings { blue: Seen::Unreachable, green: Seen::Unreachable };
        assert_eq!(settled(&dark, &Stand::first(Standing::Refusing)), None);
        assert_eq!(dark.resolution(&Stand::first(Standing::Refusing)).state, ResolutionState::Unreachable);
        let never = Readings { blue: Seen::Absent, green: Seen::Unreachable };
        assert_eq!(settled(&never, &Stand::first(Standing::Refusing)), Some((Side::Blue, 0)));
    }

    #[test]
    fn after_a_finalize_a_resolver_says_what_it_serves() {
        let removed = Readings { blue: Seen::Absent, green: Seen::Absent };
        let open = |side, epoch| (Some(side), epoch, ResolutionState::Open);
        assert_eq!(resolved(&removed, &stored(2, Standing::Serving, Side::Green)), open(Side::Green, 2));
        assert_eq!(resolved(&removed, &stored(3, Standing::Prepared, Side::Blue)), open(Side::Blue, 3));
        assert_eq!(
            resolved(&removed, &Stand::first(Standing::Refusing)),
            open(Side::Blue, 0),
            "there never was a register"
        );
    }

    #[test]
    fn without_registers_a_resolver_does_not_guess() {
        let removed = Readings { blue: Seen::Absent, green: Seen::Absent };
        for state in [Standing::Holding, Standing::Switched, Standing::Refusing] {
            let undecided = (None, 2, ResolutionState::Undecided);
            assert_eq!(resolved(&removed, &stored(2, state, Side::Green)), undecided, "held on green: {state:?}");
        }
        let dark = Readings { blue: Seen::Absent, green: Seen::Unreachable };
        let unreachable = (None, 2, ResolutionState::Unreachable);
        assert_eq!(resolved(&dark, &stored(2, Standing::Serving, Side::Green)), unreachable, "not blue at epoch 0");
    }

    #[test]
    fn a_register_outweighs_what_a_resolver_remembers() {
        let decided = Readings { blue: row(Side::Blue, 2, State::Sealed), green: row(Side::Green, 2, State::Open) };
        let green = (Some(Side::Green), 2, ResolutionState::Open);
        assert_eq!(resolved(&decided, &stored(1, Standing::Serving, Side::Blue)), green);
        assert_eq!(resolved(&decided, &stored(3, Standing::Holding, Side::Blue)), green, "held, it is still asked");
    }
}
