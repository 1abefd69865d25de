//! Every order in every state of a participant: what is answered, where it then stands, and what a restart leaves of it.

use super::subject::Subject;
use crate::harness::eventually;
use cutover::plan::Side;
use cutover::traffic::protocol::{Order, Standing, State};
use std::time::Duration;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);
const STATES: [State; 5] = [State::Serving, State::Prepared, State::Holding, State::Switched, State::Refusing];

/// The orders of the table's columns: a verb, and whether it names the side being gone to or, calling it off, the one being left.
const ORDERS: [(&str, bool); 6] =
    [("prepare", true), ("hold", true), ("switch", true), ("verify", true), ("release", true), ("release", false)];
/// What each is answered by: the state after a 200, or another status after which everything is as before.
type Row = (&'static str, [&'static str; 6]);
/// An order of the epoch accepted last, from the same proposal.
const SAME: [Row; 5] = [
    ("serving", ["serving", "409", "409", "serving", "409", "serving"]),
    ("prepared", ["prepared", "holding", "409", "prepared", "serving", "serving"]),
    ("holding", ["holding", "holding", "switched", "holding", "serving", "serving"]),
    ("switched", ["switched", "503", "switched", "switched", "serving", "serving"]),
    ("refusing", ["503", "503", "switched", "refusing", "serving", "serving"]),
];
/// An order of the next epoch.
const HIGHER: [Row; 5] = [
    ("serving", ["prepared", "holding", "409", "serving", "serving", "serving"]),
    ("prepared", ["prepared", "holding", "409", "prepared", "serving", "serving"]),
    ("holding", ["503", "503", "409", "holding", "serving", "serving"]),
    ("switched", ["503", "503", "409", "switched", "serving", "serving"]),
    ("refusing", ["503", "503", "409", "refusing", "serving", "serving"]),
];
/// An order of an older epoch, or of this one from another proposal.
const REFUSED: [&str; 6] = ["409"; 6];

/// A participant on its way from one side to the other.
struct Stage {
    subject: Subject,
    goal: Side,
    epoch: i64,
}

fn word(state: State) -> String {
    format!("{state:?}").to_lowercase()
}

impl Stage {
    fn new(subject: Subject, goal: Side) -> Self {
        Self { subject, goal, epoch: 10 }
    }

    fn order(&self, epoch: i64, nonce: Uuid, to_goal: bool) -> Order {
        let side = if to_goal { self.goal } else { self.goal.other() };
        let deadline_ms = u64::try_from(LONG.as_millis()).expect("short");
        Order { run: Uuid::nil(), epoch, nonce, side, deadline_ms, resolvers: Vec::new() }
    }

    async fn must(&self, verb: &str, order: &Order) {
        let (status, body) = self.subject.order(verb, order).await;
        assert_eq!(status, 200, "{verb}: {body}");
    }

    /// Brings it into `state` at an epoch that it never had, from wherever it stands.
    async fn arrange(&mut self, state: State) -> Standing {
        self.epoch += 10;
        let back = self.order(self.epoch - 1, Uuid::new_v4(), false);
        self.must("release", &back).await;
        let (there, back) = {
            let nonce = Uuid::new_v4();
            (self.order(self.epoch, nonce, true), self.order(self.epoch, nonce, false))
        };
        match state {
            State::Serving => self.must("release", &back).await,
            State::Prepared => self.must("prepare", &there).await,
            State::Holding => self.must("hold", &there).await,
            State::Switched => {
                self.must("hold", &there).await;
                self.must("switch", &there).await;
            }
            // A hold that is over at once; whether it was seen to drain before that does not matter.
            State::Refusing => drop(self.subject.order("hold", &Order { deadline_ms: 1, ..there }).await),
        }
        eventually(SOON, "it stands where it shall", async || {
            let standing = self.subject.standing().await;
            (standing.state == state && standing.epoch == self.epoch).then_some(standing)
        })
        .await
    }

    /// Gives one order of the table in one state; true when it has changed nothing.
    async fn give(&self, before: &Standing, order: &Order, verb: &str, expected: &str) -> bool {
        let told = format!("{verb} to {} at {} while {before:?}", order.side, order.epoch);
        let (status, body) = self.subject.order(verb, order).await;
        let after = self.subject.standing().await;
        if let Ok(refused) = expected.parse::<u16>() {
            assert_eq!(status, refused, "{told}: {body}");
            assert_eq!(&after, before, "{told}: a refused order changes nothing");
            let said = (body["epoch"].as_i64(), body["nonce"].as_str().map(str::to_owned));
            assert_eq!(said, (Some(before.epoch), Some(before.nonce.to_string())), "{told}: {body}");
            return true;
        }
        assert_eq!((status, word(after.state).as_str()), (200, expected), "{told}: {body}");
        let mut answer: Standing = serde_json::from_value(body).expect("a standing");
        assert_eq!(answer.answered_by.take().is_some(), verb == "verify", "{told}");
        assert_eq!(answer, after, "{told}: the answer says where it stands");
        let is_accepted = verb != "verify";
        let (epoch, nonce) = if is_accepted { (order.epoch, order.nonce) } else { (before.epoch, before.nonce) };
        let side = if matches!(verb, "switch" | "release") { order.side } else { before.side };
        assert_eq!((after.epoch, after.nonce, after.side), (epoch, nonce, side), "{told}");
        after == *before
    }

    /// Every order of one row.
    async fn row(&mut self, state: State, at: i64, same_nonce: bool, expected: &[&str; 6]) {
        let mut before = self.arrange(state).await;
        for ((verb, to_goal), expected) in ORDERS.iter().zip(expected) {
            let nonce = if same_nonce { before.nonce } else { Uuid::new_v4() };
            let order = self.order(before.epoch + at, nonce, *to_goal);
            if !self.give(&before, &order, verb, expected).await {
                before = self.arrange(state).await;
            }
        }
    }

    /// Every order in every state.
    async fn table(&mut self) {
        for state in STATES {
            let of = |rows: &[Row; 5]| rows.iter().find(|(of, _)| *of == word(state)).expect("a row").1;
            self.row(state, 0, true, &of(&SAME)).await;
            self.row(state, 1, false, &of(&HIGHER)).await;
            self.row(state, -1, true, &REFUSED).await;
            self.row(state, 0, false, &REFUSED).await;
        }
    }

    /// From every state over a restart, and on from there.
    async fn restarts(&mut self) {
        for state in [State::Serving, State::Prepared, State::Holding, State::Switched] {
            let before = self.arrange(state).await;
            let is_held = matches!(state, State::Holding | State::Switched);
            let restored = Standing { state: if is_held { State::Refusing } else { state }, ..before.clone() };
            // One that came back refusing comes back refusing once more.
            for _ in 0..2 {
                self.subject.restart().await;
                assert_eq!(self.subject.standing().await, restored, "came back from {before:?}");
            }
            for (verb, to_goal) in ORDERS {
                for (epoch, nonce) in [(before.epoch - 1, before.nonce), (before.epoch, Uuid::new_v4())] {
                    self.give(&restored, &self.order(epoch, nonce, to_goal), verb, "409").await;
                }
            }
            let back = self.order(before.epoch, before.nonce, false);
            self.give(&restored, &back, "release", "serving").await;
            self.subject.restart().await;
            let served = self.subject.standing().await;
            assert_eq!(
                (served.state, served.side, served.epoch, served.nonce),
                (State::Serving, self.goal.other(), before.epoch, before.nonce)
            );
        }
    }
}

#[tokio::test]
async fn a_gateway_answers_every_order_in_every_state_by_the_table() {
    for goal in [Side::Blue, Side::Green] {
        Stage::new(Subject::undecided_gateway().await, goal).table().await;
    }
}

#[tokio::test]
async fn an_internal_system_answers_every_order_in_every_state_by_the_table() {
    for goal in [Side::Blue, Side::Green] {
        Stage::new(Subject::system().await, goal).table().await;
    }
}

#[tokio::test]
async fn a_gateway_comes_back_from_every_state_at_its_epoch_and_serves_only_what_is_settled() {
    for goal in [Side::Blue, Side::Green] {
        Stage::new(Subject::gateway(goal.other()).await, goal).restarts().await;
    }
}

#[tokio::test]
async fn an_internal_system_comes_back_from_every_state_at_its_epoch_and_serves_only_what_is_settled() {
    for goal in [Side::Blue, Side::Green] {
        Stage::new(Subject::system().await, goal).restarts().await;
    }
}

#[tokio::test]
async fn a_repeated_hold_does_not_prolong_the_first() {
    for subject in [Subject::undecided_gateway().await, Subject::system().await] {
        let mut stage = Stage::new(subject, Side::Green);
        stage.arrange(State::Serving).await;
        let order = Order { deadline_ms: 1500, ..stage.order(stage.epoch + 1, Uuid::new_v4(), true) };
        stage.must("hold", &order).await;
        let (status, body) = stage.subject.order("hold", &Order { deadline_ms: 3_600_000, ..order }).await;
        // On a busy machine the hold may be over before it is repeated.
        assert!(status == 200 || body["state"] == "refusing", "{status}: {body}");
        eventually(SOON, "the hold ends", async || {
            (stage.subject.standing().await.state == State::Refusing).then_some(())
        })
        .await;
    }
}
