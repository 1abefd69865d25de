//! The lockstep as a model: every interleaving of two orchestrators, three participants, both registers, a control that does not answer, lost and
//! late orders, ends of holds and deaths. Participants and what they conclude from registers are the product's own code; the order of the flip is that of `steps/flip`.

use super::explore::{Space, explore};
use cutover::plan::Side;
use cutover::traffic::protocol::{Order, State};
use cutover::traffic::register::{Register, Seen, State as Mark};
use cutover::traffic::stand::{Objection, Stand, Verb};
use uuid::Uuid;

const SYSTEMS: usize = 3;

/// One side's register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Reg {
    mark: Mark,
    epoch: u8,
    nonce: u8,
}

/// One participant; what it reads of the registers, it reads one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    epoch: u8,
    nonce: u8,
    side: Side,
    state: State,
    seen: Option<(Side, Reg)>,
}

/// Where an orchestrator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Off,
    Start,
    KeepOlder,
    GiveOlder(u8),
    Propose,
    Prepare(u8),
    Hold(u8),
    Fence,
    Check(u8),
    Seal,
    Resolve,
    Switch(u8),
    Open,
    Release(u8),
    Stay,
    GiveBack(u8),
    KeepClosed,
    Unseal,
    GiveUnsealed(u8),
    Done,
    Dead,
}

/// One orchestrator, and what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Orchestrator {
    at: At,
    /// Whether it was started to go back.
    goes_back: bool,
    epoch: u8,
    nonce: u8,
    /// Epochs of both registers, as it read them.
    found: (u8, u8),
    has_fence: bool,
}

/// An order under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mail {
    to: u8,
    verb: u8,
    epoch: u8,
    nonce: u8,
    side: Side,
}

/// Rules that can be left out, to see that each is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Without {
    /// A participant whose hold ends serves what it served before.
    asking: bool,
    /// Whoever settles a proposal reads the register and does not write it.
    writing: bool,
    /// The register of the side being left is written whatever it says, and nobody is asked once more whether all still hold.
    comparing: bool,
    /// It is decided although a participant does not hold, and nobody is asked once more.
    holding: bool,
}

/// How much of the world is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Scope {
    /// How many participants there are.
    systems: u8,
    /// Whether a participant reads one register first and the other later.
    reads_apart: bool,
    /// Whether the second orchestrator was started to go back.
    goes_back: bool,
    /// What may go wrong: orders lost or late, answers lost, deaths.
    faults: u8,
    without: Without,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    blue: Reg,
    green: Reg,
    parts: [Part; SYSTEMS],
    orchestrators: [Orchestrator; 2],
    /// The journal: the proposal noted last.
    proposed: Option<(u8, u8)>,
    late: Option<Mail>,
    faults: u8,
    scope: Scope,
}

/// What came of sending an order.
#[derive(PartialEq, Eq)]
enum Answer {
    Stands(State),
    Conflict,
    Failed,
}

fn nonce(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn verb(number: u8) -> Verb {
    [Verb::Prepare, Verb::Hold, Verb::Switch, Verb::Release][usize::from(number)]
}

impl Part {
    fn stand(self) -> Stand {
        Stand { epoch: i64::from(self.epoch), nonce: nonce(self.nonce), side: self.side, state: self.state }
    }

    fn of(stand: &Stand) -> Self {
        let small = |number: u128| u8::try_from(number).expect("a small number");
        let epoch = u8::try_from(stand.epoch).expect("a small epoch");
        Self { epoch, nonce: small(stand.nonce.as_u128()), side: stand.side, state: stand.state, seen: None }
    }

    /// The side on which it lets work begin, if any.
    fn acts_on(self) -> Option<Side> {
        matches!(self.state, State::Serving | State::Prepared).then_some(self.side)
    }
}

impl Reg {
    fn seen(self, side: Side) -> Seen {
        let epoch = i64::from(self.epoch);
        Seen::Row(Register { side, epoch, nonce: nonce(self.nonce), state: self.mark, fence_pid: None })
    }

    /// The compare-and-set of `traffic::register`: only from what was read, only upwards.
    fn change(&mut self, from: (Mark, u8), to: (Mark, u8, u8)) -> bool {
        let wins = (self.mark, self.epoch) == from && to.1 > self.epoch;
        if wins {
            *self = Self { mark: to.0, epoch: to.1, nonce: to.2 };
        }
        wins
    }

    /// `register::recover`: true when it stays open at `epoch` or above.
    fn recover(&mut self, epoch: u8, nonce: u8, without: Without) -> bool {
        if self.mark == Mark::Open && self.epoch < epoch && !without.writing {
            *self = Self { mark: Mark::Open, epoch, nonce };
        }
        self.mark == Mark::Open
    }
}

impl World {
    fn new(scope: Scope) -> Self {
        let part = Part { epoch: 0, nonce: 0, side: Side::Blue, state: State::Serving, seen: None };
        let orchestrator = |at, number, goes_back| Orchestrator {
            at,
            goes_back,
            epoch: 0,
            nonce: number,
            found: (0, 0),
            has_fence: false,
        };
        Self {
            blue: Reg { mark: Mark::Open, epoch: 1, nonce: 0 },
            green: Reg { mark: Mark::Closed, epoch: 0, nonce: 0 },
            parts: [part; SYSTEMS],
            orchestrators: [orchestrator(At::Start, 1, false), orchestrator(At::Off, 2, scope.goes_back)],
            proposed: None,
            late: None,
            faults: scope.faults,
            scope,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    fn faulty(&self, change: impl FnOnce(&mut Self)) -> Option<Self> {
        (self.faults > 0).then(|| {
            self.with(|next| {
                next.faults -= 1;
                change(next);
            })
        })
    }

    /// An order reaches its participant.
    fn deliver(&mut self, mail: Mail) -> Answer {
        let part = &mut self.parts[usize::from(mail.to)];
        let order = Order {
            run: Uuid::nil(),
            epoch: i64::from(mail.epoch),
            nonce: nonce(mail.nonce),
            side: mail.side,
            deadline_ms: 0,
            resolvers: Vec::new(),
        };
        match part.stand().obey(verb(mail.verb), &order) {
            Ok(next) => {
                // A repeated order changes nothing, and what is being read of the registers still counts.
                if next != part.stand() {
                    *part = Part::of(&next);
                }
                Answer::Stands(next.state)
            }
            Err(Objection::Conflict(_)) => Answer::Conflict,
            Err(Objection::NotNow(_)) => Answer::Failed,
        }
    }

    /// Sends an order: it arrives and is answered; or, each a fault, is lost, or its answer is, or it arrives late.
    fn send(&self, mail: Mail, then: impl Fn(&mut Self, Answer)) -> Vec<Self> {
        let arrived = self.with(|next| {
            let answer = next.deliver(mail);
            then(next, answer);
        });
        let lost = self.faulty(|next| then(next, Answer::Failed));
        let unanswered = self.faulty(|next| {
            next.deliver(mail);
            then(next, Answer::Failed);
        });
        let late = self.late.is_none().then(|| {
            self.faulty(|next| {
                next.late = Some(mail);
                then(next, Answer::Failed);
            })
        });
        [Some(arrived), lost, unanswered, late.flatten()].into_iter().flatten().collect()
    }

    /// What one orchestrator may do next, up to the decision.
    fn orchestrate(&self, who: usize) -> Vec<Self> {
        let one = self.orchestrators[who];
        let go = |at: At| move |next: &mut Self| next.orchestrators[who].at = at;
        let mail = |to: u8, verb: u8, side: Side| Mail { to, verb, epoch: one.epoch, nonce: one.nonce, side };
        let last = self.scope.systems - 1;
        match one.at {
            At::Off if self.orchestrators[0].at == At::Start => Vec::new(),
            At::Off => vec![self.with(go(At::Start))],
            At::Start => vec![self.with(|next| next.start(who))],
            At::KeepOlder => vec![self.with(|next| next.keep_older(who))],
            At::GiveOlder(i) => {
                let (epoch, nonce) = self.proposed.expect("there was a proposal");
                let end = if one.goes_back { At::Done } else { At::Propose };
                let at = after(one.at, At::GiveOlder, end, last);
                self.send(Mail { to: i, verb: 3, epoch, nonce, side: Side::Blue }, |next, _| go(at)(next))
            }
            At::Propose => self.note(who),
            At::Prepare(i) => {
                let at = after(one.at, At::Prepare, At::Hold(last), last);
                self.send(mail(i, 0, Side::Green), |next, answer| {
                    go(if answer == Answer::Stands(State::Prepared) { at } else { At::Stay })(next);
                })
            }
            At::Hold(i) => {
                let at = after(one.at, At::Hold, At::Fence, 0);
                self.send(mail(i, 1, Side::Green), |next, answer| {
                    let goes_on = answer == Answer::Stands(State::Holding) || next.scope.without.holding;
                    go(if goes_on { at } else { At::Stay })(next);
                })
            }
            At::Fence if self.orchestrators[1 - who].has_fence => vec![self.with(go(At::Stay))],
            At::Fence => vec![self.with(|next| {
                next.orchestrators[who].has_fence = true;
                let Without { comparing, holding, .. } = next.scope.without;
                go(if comparing || holding { At::Seal } else { At::Check(0) })(next);
            })],
            At::Check(i) => {
                let part = self.parts[usize::from(i)];
                let holds = (part.state, part.epoch, part.nonce) == (State::Holding, one.epoch, one.nonce);
                vec![self.with(go(if holds { after(one.at, At::Check, At::Seal, last) } else { At::Stay }))]
            }
            At::Seal => self.seal(who),
            _ => self.settle(who),
        }
    }

    /// What it may do once it has decided, or been decided against.
    fn settle(&self, who: usize) -> Vec<Self> {
        let one = self.orchestrators[who];
        let go = |at: At| move |next: &mut Self| next.orchestrators[who].at = at;
        let mail = |to: u8, verb: u8, side: Side| Mail { to, verb, epoch: one.epoch, nonce: one.nonce, side };
        let last = self.scope.systems - 1;
        match one.at {
            At::Resolve => vec![self.with(|next| {
                let kept = next.blue.recover(one.epoch, one.nonce, next.scope.without);
                next.go_forward(who, if kept { At::Stay } else { At::Switch(0) });
            })],
            // Somebody has begun to go back: a person is told.
            At::Switch(0) | At::Open if self.green.mark == Mark::Closed && self.green.epoch >= one.epoch => {
                vec![self.with(go(At::Dead))]
            }
            At::Switch(i) => {
                let at = after(one.at, At::Switch, At::Open, last);
                self.send(mail(i, 2, Side::Green), |next, answer| match answer {
                    Answer::Stands(State::Switched) => go(at)(next),
                    Answer::Conflict => go(At::Dead)(next),
                    Answer::Stands(_) | Answer::Failed => next.go_forward(who, At::Switch(0)),
                })
            }
            At::Open => vec![self.with(|next| {
                let from = (Mark::Closed, one.found.1);
                let opened = next.green.change(from, (Mark::Open, one.epoch, one.nonce));
                next.go_forward(who, if opened { At::Release(0) } else { At::Switch(0) });
            })],
            At::Release(i) => {
                let at = after(one.at, At::Release, At::Done, last);
                self.send(mail(i, 3, Side::Green), |next, answer| match answer {
                    Answer::Stands(State::Serving) => go(at)(next),
                    Answer::Conflict => go(At::Dead)(next),
                    Answer::Stands(_) | Answer::Failed => {}
                })
            }
            At::Stay => vec![self.with(|next| {
                next.orchestrators[who].has_fence = false;
                let kept = next.blue.recover(one.epoch, one.nonce, next.scope.without);
                go(if kept { At::GiveBack(0) } else { At::Start })(next);
            })],
            At::GiveBack(i) => {
                let at = after(one.at, At::GiveBack, At::Done, last);
                self.send(mail(i, 3, Side::Blue), |next, _| go(at)(next))
            }
            At::KeepClosed => vec![self.with(|next| {
                let from = (Mark::Closed, one.found.1);
                let kept = next.green.change(from, (Mark::Closed, one.epoch, one.nonce));
                go(if kept { At::Unseal } else { At::Start })(next);
            })],
            At::Unseal => vec![self.with(|next| {
                let from = (Mark::Sealed, one.found.0);
                let unsealed = next.blue.change(from, (Mark::Open, one.epoch, one.nonce));
                go(if unsealed { At::GiveUnsealed(0) } else { At::Start })(next);
            })],
            At::GiveUnsealed(i) => {
                let at = after(one.at, At::GiveUnsealed, At::Done, last);
                self.send(mail(i, 3, Side::Blue), |next, _| go(at)(next))
            }
            _ => Vec::new(),
        }
    }

    /// An orchestrator reads both registers and finds out what there is to do.
    fn start(&mut self, who: usize) {
        let one = &mut self.orchestrators[who];
        one.found = (self.blue.epoch, self.green.epoch);
        let decided = if self.green.mark == Mark::Open { self.green } else { self.blue };
        one.at = match (self.blue.mark, self.green.mark) {
            (Mark::Open, _) if self.proposed.is_some() && who == 1 && one.epoch == 0 => At::KeepOlder,
            (Mark::Open, _) if one.goes_back => At::Done,
            (Mark::Open, _) => At::Propose,
            (_, Mark::Open) if one.goes_back => At::Done,
            (Mark::Sealed, Mark::Closed) if one.goes_back => {
                one.epoch = above(self.blue, self.green, &self.parts);
                At::KeepClosed
            }
            (_, mark) => {
                (one.epoch, one.nonce) = (decided.epoch, decided.nonce);
                if mark == Mark::Open { At::Release(0) } else { At::Switch(0) }
            }
        };
    }

    /// The proposal of the one before is written against, and its fence ended.
    fn keep_older(&mut self, who: usize) {
        let (epoch, nonce) = self.proposed.expect("there was a proposal");
        if !self.scope.without.writing {
            self.orchestrators[1 - who].has_fence = false;
        }
        let kept = self.blue.recover(epoch, nonce, self.scope.without);
        self.orchestrators[who].at = if kept { At::GiveOlder(0) } else { At::Start };
    }

    /// Nothing is ordered before control has the proposal; whether it has, may stay unknown, and its orchestrator ends then.
    fn note(&self, who: usize) -> Vec<Self> {
        let noted = self.with(|next| next.propose(who));
        let unanswered = self.faulty(|next| {
            next.propose(who);
            next.orchestrators[who].at = At::Dead;
        });
        let away = self.faulty(|next| next.orchestrators[who].at = At::Dead);
        [Some(noted), unanswered, away].into_iter().flatten().collect()
    }

    fn propose(&mut self, who: usize) {
        let (blue, green, epoch) = (self.blue, self.green, above(self.blue, self.green, &self.parts));
        let one = &mut self.orchestrators[who];
        if blue.mark != Mark::Open {
            one.at = At::Start;
            return;
        }
        (one.epoch, one.found, one.at) = (epoch, (blue.epoch, green.epoch), At::Prepare(0));
        self.proposed = Some((one.epoch, one.nonce));
    }

    /// The decision: it is committed, or lost, and either may stay unknown.
    fn seal(&self, who: usize) -> Vec<Self> {
        let one = self.orchestrators[who];
        let commit = |next: &mut Self| {
            next.orchestrators[who].has_fence = false;
            if next.scope.without.comparing {
                next.blue = Reg { mark: Mark::Sealed, epoch: one.epoch, nonce: one.nonce };
                return true;
            }
            let from = (Mark::Open, one.found.0);
            one.has_fence && next.blue.change(from, (Mark::Sealed, one.epoch, one.nonce))
        };
        let decided = self.with(|next| {
            let sealed = commit(next);
            next.go_forward(who, if sealed { At::Switch(0) } else { At::Stay });
        });
        let unanswered = self.faulty(|next| {
            commit(next);
            next.orchestrators[who].at = At::Resolve;
        });
        let broken = self.faulty(|next| {
            next.orchestrators[who].has_fence = false;
            next.orchestrators[who].at = At::Resolve;
        });
        [Some(decided), unanswered, broken].into_iter().flatten().collect()
    }

    /// After the decision every round begins by reading green's register.
    fn go_forward(&mut self, who: usize, at: At) {
        let is_open = self.green.mark == Mark::Open;
        let one = &mut self.orchestrators[who];
        one.found.1 = self.green.epoch;
        one.at = if at == At::Switch(0) && is_open { At::Release(0) } else { at };
    }

    /// What a participant may do by itself: its hold ends, it asks the registers, writes against the flip, or dies and comes back.
    fn participate(&self, who: usize) -> Vec<Self> {
        let part = self.parts[who];
        let mut all = Vec::new();
        if matches!(part.state, State::Holding | State::Switched) {
            all.push(self.with(|next| {
                let stand = part.stand();
                let ended = if next.scope.without.asking {
                    Stand { state: State::Serving, ..stand }
                } else {
                    stand.without_word()
                };
                next.parts[who] = Part::of(&ended);
            }));
        }
        // Once its hold is over it also asks and writes while clients still wait, before it refuses them.
        if part.stand().is_held() {
            all.extend(self.ask(who));
            all.push(self.with(|next| {
                let left = if part.side == Side::Blue { &mut next.blue } else { &mut next.green };
                if left.mark == Mark::Open {
                    left.recover(part.epoch, part.nonce, next.scope.without);
                }
            }));
        }
        all.extend(self.faulty(|next| next.parts[who] = Part::of(&part.stand().restarted())));
        all
    }

    /// Reads the registers, at once or one and then the other, and concludes.
    fn ask(&self, who: usize) -> Vec<Self> {
        let part = self.parts[who];
        if !self.scope.reads_apart {
            return vec![self.conclude(who, self.blue, self.green)];
        }
        let Some((side, first)) = part.seen else {
            let begin = |side: Side, register: Reg| self.with(|next| next.parts[who].seen = Some((side, register)));
            return vec![begin(Side::Blue, self.blue), begin(Side::Green, self.green)];
        };
        let (blue, green) = if side == Side::Blue { (first, self.green) } else { (self.blue, first) };
        vec![self.conclude(who, blue, green)]
    }

    fn conclude(&self, who: usize, blue: Reg, green: Reg) -> Self {
        let stand = self.parts[who].stand();
        let settled = stand.settle(&blue.seen(Side::Blue), &green.seen(Side::Green));
        self.with(|next| {
            next.parts[who].seen = None;
            if let Some(settled) = settled {
                next.parts[who] = Part::of(&stand.settled(settled));
            }
        })
    }

    fn parts(&self) -> &[Part] {
        &self.parts[..usize::from(self.scope.systems)]
    }
}

/// The same with the next participant, or what follows the last one; `ends` is the last.
fn after(at: At, next: fn(u8) -> At, follows: At, ends: u8) -> At {
    match at {
        At::GiveOlder(i)
        | At::Prepare(i)
        | At::Hold(i)
        | At::Check(i)
        | At::Switch(i)
        | At::Release(i)
        | At::GiveBack(i)
        | At::GiveUnsealed(i)
            if i != ends =>
        {
            next(if ends == 0 { i - 1 } else { i + 1 })
        }
        _ => follows,
    }
}

/// An epoch above both registers and all participants.
fn above(blue: Reg, green: Reg, parts: &[Part; SYSTEMS]) -> u8 {
    let accepted = parts.iter().map(|part| part.epoch).max().unwrap_or(0);
    blue.epoch.max(green.epoch).max(accepted) + 1
}

impl Space for World {
    fn next(&self) -> Vec<Self> {
        let mut all: Vec<Self> = (0..self.parts().len()).flat_map(|who| self.participate(who)).collect();
        for who in 0..2 {
            all.extend(self.orchestrate(who));
            let one = self.orchestrators[who];
            if one.has_fence {
                // The server ends it when its time is over, whatever its owner does.
                all.push(self.with(|next| next.orchestrators[who].has_fence = false));
            }
            if !matches!(one.at, At::Off | At::Done | At::Dead) {
                all.extend(self.faulty(|next| {
                    next.orchestrators[who].has_fence = false;
                    next.orchestrators[who].at = At::Dead;
                }));
            }
        }
        if let Some(mail) = self.late {
            all.push(self.with(|next| {
                next.late = None;
                next.deliver(mail);
            }));
        }
        all
    }

    fn wrong(&self) -> Option<&'static str> {
        let acts: Vec<Side> = self.parts().iter().filter_map(|part| part.acts_on()).collect();
        if self.blue.mark == Mark::Open && self.green.mark == Mark::Open {
            return Some("both registers are open");
        }
        if acts.contains(&Side::Blue) && acts.contains(&Side::Green) {
            return Some("two sides are served");
        }
        if acts.contains(&Side::Green) && self.green.mark != Mark::Open {
            return Some("green is served and not open");
        }
        if acts.contains(&Side::Blue) && self.blue.mark != Mark::Open {
            return Some("blue is served and sealed");
        }
        None
    }

    fn is_settled(&self) -> bool {
        let serves = |side: Side, register: Reg| {
            register.mark == Mark::Open && self.parts().iter().all(|part| part.acts_on() == Some(side))
        };
        // Decided, and everybody who could go on is gone: all refuse, and a person is needed.
        let nobody = self.orchestrators.iter().all(|one| matches!(one.at, At::Done | At::Dead))
            && self.parts().iter().all(|part| part.acts_on().is_none());
        serves(Side::Blue, self.blue) || serves(Side::Green, self.green) || nobody
    }
}

/// Three participants with two faults, and fewer where more is read apart: each of these makes many times as many states.
const SCOPES: [(u8, bool, bool, u8); 7] = [
    (3, false, false, 2),
    (3, false, true, 2),
    (2, true, false, 0),
    (2, true, true, 1),
    (2, false, false, 1),
    (1, true, false, 2),
    (1, true, true, 2),
];

fn scopes(without: Without) -> impl Iterator<Item = Scope> {
    let scope =
        move |(systems, reads_apart, goes_back, faults)| Scope { systems, reads_apart, goes_back, faults, without };
    SCOPES.into_iter().map(scope)
}

#[test]
fn no_interleaving_serves_two_sides_or_leaves_the_traffic_stuck() {
    for scope in scopes(Without::default()) {
        let explored = explore(World::new(scope));
        let states = explored.unwrap_or_else(|trace| panic!("{scope:?}: {trace}"));
        assert!(states > 1000, "{scope:?}: only {states} states");
    }
}

#[test]
fn each_rule_of_the_lockstep_is_needed() {
    let cases = [
        ("asking", Without { asking: true, ..Without::default() }),
        ("writing", Without { writing: true, ..Without::default() }),
        ("comparing", Without { comparing: true, ..Without::default() }),
        ("holding", Without { holding: true, ..Without::default() }),
    ];
    for (rule, without) in cases {
        assert!(scopes(without).any(|scope| explore(World::new(scope)).is_err()), "without {rule} nothing went wrong");
    }
}
