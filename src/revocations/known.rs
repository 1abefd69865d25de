//! The revocations that the one worker has to keep in mind, and what stands of each. Not their chains: those are asked of control, a page at a
//! time, so that a long queue takes some sixty bytes of memory for each event and no more.
//!
//! One worker writes the closed side, so what it has applied there holds until one of its batches touches the chain: its first batch applies every
//! revocation, a later one those that are new to it and those whose chains it touches. Whatever else was true before this worker opened is not
//! relied on.

use super::error::RevocationError;
use super::event::{Door, Event};
use super::ledger::{Changes, Ledger};
use super::touched::Touched;
use super::unasked::DeadChain;
use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;
use uuid::Uuid;

/// Events asked of control at a time.
const PAGE: usize = 2000;

/// An identity in few bytes. Two that look alike make a batch apply one revocation more, which changes nothing.
type Print = u32;

/// The revocations that count, by their ids.
#[derive(Debug, Default)]
pub struct Known {
    /// In the order of their ids.
    all: Vec<(Uuid, Mark)>,
    /// How far they had arrived when control was asked last, and those of which there was more to be heard.
    up_to: i64,
    unsettled: Vec<Uuid>,
}

#[derive(Debug)]
struct Mark {
    door: Door,
    /// Nothing but a signature says which rows are its.
    is_unsaid: bool,
    /// A committed batch has applied it, wherever its chain is.
    is_applied: bool,
    /// It was proved since a batch last touched its chain.
    is_proved: bool,
    /// It was found dead on the side that serves since a batch last touched its chain: what changes there touches it.
    is_witnessed: bool,
    prints: Prints,
    clients: Option<Box<Clients>>,
}

#[derive(Debug)]
enum Prints {
    Few(u8, [Print; 4]),
    Many(Box<[Print]>),
}

/// Whole clients, up to a time.
#[derive(Debug)]
struct Clients {
    names: Vec<String>,
    until: Option<String>,
}

/// What a batch leaves behind when it commits.
#[derive(Debug, Default)]
pub struct Seen {
    /// The revocations whose chains it touched; none when that was too much to say.
    pub met: Option<BTreeSet<Uuid>>,
    /// Those that it could not apply.
    pub failed: BTreeSet<Uuid>,
}

/// Which identity a print is of.
#[derive(Hash)]
enum Kind {
    Request,
    Consent,
    Session,
}

impl Known {
    /// Asks control which count now: those that are new are read, and those that count no more forgotten.
    ///
    /// # Errors
    /// When control does not answer; what is known is then not to be relied on, and asked for again.
    pub async fn refresh(&mut self, ledger: &Ledger, settle: Duration) -> Result<(), RevocationError> {
        let unsettled = self.unsettled.clone();
        let Changes { mut counting, mut not_counting, unsettled, up_to } =
            ledger.changes(self.up_to, unsettled, settle).await?;
        not_counting.sort_unstable();
        self.all.retain(|(id, _)| not_counting.binary_search(id).is_err());
        counting.sort_unstable();
        counting.retain(|id| self.place(*id).is_err());
        self.all.reserve_exact(counting.len());
        let read = self.read(ledger, &counting).await;
        self.all.sort_unstable_by_key(|(id, _)| *id);
        read?;
        (self.up_to, self.unsettled) = (up_to, unsettled);
        Ok(())
    }

    /// Page by page to where they stay: beside a list of their own a long queue would be held twice.
    async fn read(&mut self, ledger: &Ledger, ids: &[Uuid]) -> Result<(), RevocationError> {
        for page in ids.chunks(PAGE) {
            self.all.extend(ledger.events(page).await?.iter().map(|event| (event.id, Mark::of(event))));
        }
        Ok(())
    }

    /// Adds events, such as those that a test makes; what is known already stays as it is.
    pub fn learn(&mut self, events: &[Event]) {
        let new = events.iter().filter(|event| self.place(event.id).is_err());
        let new: Vec<(Uuid, Mark)> = new.map(|event| (event.id, Mark::of(event))).collect();
        self.all.extend(new);
        self.all.sort_unstable_by_key(|(id, _)| *id);
    }

    fn place(&self, id: Uuid) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn mark(&mut self, id: Uuid) -> Option<&mut Mark> {
        let place = self.place(id).ok()?;
        self.all.get_mut(place).map(|(_, mark)| mark)
    }

    fn ids(&self, is_wanted: impl Fn(&Mark) -> bool) -> Vec<Uuid> {
        self.all.iter().filter(|(_, mark)| is_wanted(mark)).map(|(id, _)| *id).collect()
    }

    /// Those that a batch has to apply: new to the worker, or met by it; all when what it touched is too much to say.
    #[must_use]
    pub fn due(&self, met: Option<&BTreeSet<Uuid>>) -> Vec<Uuid> {
        let Some(met) = met else { return self.ids(|_| true) };
        let is_due = |(id, mark): &&(Uuid, Mark)| !mark.is_applied || met.contains(id);
        self.all.iter().filter(is_due).map(|(id, _)| *id).collect()
    }

    /// Whether a committed batch has applied it. A later batch that met its chain has applied it once more.
    #[must_use]
    pub fn is_applied(&self, id: Uuid) -> bool {
        self.place(id).is_ok_and(|place| self.all[place].1.is_applied)
    }

    /// Those to which touched rows may belong.
    #[must_use]
    pub fn met_by(&self, touched: &Touched) -> BTreeSet<Uuid> {
        let prints = TouchedPrints::of(touched);
        self.all.iter().filter(|(_, mark)| prints.meet(mark)).map(|(id, _)| *id).collect()
    }

    /// Of chains that died those that no revocation explains.
    #[must_use]
    pub fn unexplained(&self, chains: Vec<DeadChain>) -> Vec<DeadChain> {
        let asked: HashSet<Print> = chains.iter().map(|chain| print(&Kind::Request, &chain.request)).collect();
        let prints = self.all.iter().flat_map(|(_, mark)| mark.prints.all());
        let explained: HashSet<Print> = prints.filter(|print| asked.contains(print)).copied().collect();
        chains.into_iter().filter(|chain| !explained.contains(&print(&Kind::Request, &chain.request))).collect()
    }

    /// After the commit of a batch.
    pub fn batch_committed(&mut self, seen: &Seen) {
        for (id, mark) in &mut self.all {
            mark.is_applied = !seen.failed.contains(id);
            if !mark.is_applied || seen.met.as_ref().is_none_or(|met| met.contains(id)) {
                (mark.is_proved, mark.is_witnessed) = (false, false);
            }
        }
    }

    /// After a batch that failed: it may have committed all the same, so no proof stands, and what it could not apply may be back.
    pub fn batch_failed(&mut self, seen: &Seen) {
        for (id, mark) in &mut self.all {
            mark.is_applied &= !seen.failed.contains(id);
            (mark.is_proved, mark.is_witnessed) = (false, false);
        }
    }

    /// After a proof; gives those that were not proved before.
    pub fn proof_taken(&mut self, proved: &[Uuid]) -> Vec<Uuid> {
        let mut new = Vec::new();
        for id in proved {
            if let Some(mark) = self.mark(*id).filter(|mark| !mark.is_proved) {
                mark.is_proved = true;
                new.push(*id);
            }
        }
        new
    }

    /// After the side that serves was asked.
    pub fn witnessed(&mut self, dead: &[Uuid]) {
        for id in dead {
            if let Some(mark) = self.mark(*id) {
                mark.is_witnessed = true;
            }
        }
    }

    /// Those of which the side that serves has to be asked.
    #[must_use]
    pub fn unwitnessed(&self) -> Vec<Uuid> {
        self.ids(|mark| !mark.is_witnessed)
    }

    /// Those whose proof does not stand.
    #[must_use]
    pub fn unproved(&self) -> Vec<Uuid> {
        self.ids(|mark| !mark.is_proved)
    }
}

impl Mark {
    fn of(event: &Event) -> Self {
        let (door, chain) = (event.what.door, &event.what.chain);
        let requests = chain.requests.iter().chain(&chain.consents).map(|id| print(&Kind::Request, id));
        let consents = chain.consents.iter().map(|id| print(&Kind::Consent, id));
        let sessions = chain.sessions.iter().map(|id| print(&Kind::Session, id));
        let prints: BTreeSet<Print> = requests.chain(consents).chain(sessions).collect();
        let names: Vec<String> = chain.clients.iter().cloned().collect();
        let clients = (!names.is_empty()).then(|| Box::new(Clients { names, until: chain.until.clone() }));
        Self {
            door,
            is_unsaid: door == Door::Token && chain.requests.is_empty(),
            is_applied: false,
            is_proved: false,
            is_witnessed: false,
            prints: Prints::of(&prints),
            clients,
        }
    }
}

impl Prints {
    fn of(prints: &BTreeSet<Print>) -> Self {
        let mut few = [0; 4];
        match u8::try_from(prints.len()) {
            Ok(count) if prints.len() <= few.len() => {
                few.iter_mut().zip(prints).for_each(|(place, print)| *place = *print);
                Self::Few(count, few)
            }
            _ => Self::Many(prints.iter().copied().collect()),
        }
    }

    fn all(&self) -> &[Print] {
        match self {
            Self::Few(count, few) => &few[..usize::from(*count)],
            Self::Many(many) => many,
        }
    }
}

fn print(kind: &Kind, id: &str) -> Print {
    let mut hasher = DefaultHasher::new();
    (kind, id).hash(&mut hasher);
    // The upper half is as good as the lower.
    (hasher.finish() >> 32) as Print
}

/// What a batch touched, in prints.
struct TouchedPrints<'a> {
    touched: &'a Touched,
    all: HashSet<Print>,
}

impl<'a> TouchedPrints<'a> {
    fn of(touched: &'a Touched) -> Self {
        let requests = touched.requests.iter().map(|id| print(&Kind::Request, id));
        let consents = touched.consents.iter().map(|id| print(&Kind::Consent, id));
        let sessions = touched.sessions.iter().map(|id| print(&Kind::Session, id));
        Self { touched, all: requests.chain(consents).chain(sessions).collect() }
    }

    /// Whether touched rows may belong to what an event kills. One that names nothing but a signature is always met: nothing else says which
    /// rows are its.
    fn meet(&self, mark: &Mark) -> bool {
        mark.is_unsaid
            || self.touched.doors.contains(&mark.door)
            || mark.prints.all().iter().any(|print| self.all.contains(print))
            || mark.clients.as_ref().is_some_and(|clients| self.meet_clients(clients))
    }

    fn meet_clients(&self, clients: &Clients) -> bool {
        let is_old = |client: &String| {
            let oldest = self.touched.clients.get(client);
            oldest.is_some_and(|oldest| clients.until.as_ref().is_some_and(|until| oldest <= until))
        };
        clients.names.iter().any(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Captured, Chain, Outcome, Seen as Knew};
    use super::*;
    use crate::plan::Side;

    fn event(id: u128, requests: &[&str]) -> Event {
        let chain = Chain { requests: requests.iter().map(|id| (*id).to_owned()).collect(), ..Chain::default() };
        let (blue, green) = (Knew::Found, Knew::Found);
        let what = Captured { door: Door::Token, chain, live: Side::Blue, epoch: 1, blue, green };
        let (captured_at, outcome) = (jiff::Timestamp::UNIX_EPOCH, Outcome::Executed);
        Event { id: Uuid::from_u128(id), incarnation: Uuid::nil(), seq: 1, captured_at, what, outcome }
    }

    fn known(count: u128) -> (Known, Vec<Uuid>) {
        let mut known = Known::default();
        // Not in their order, as they come.
        known.learn(&(0..count).rev().map(|id| event(id, &[&format!("r{id}")])).collect::<Vec<_>>());
        (known, (0..count).map(Uuid::from_u128).collect())
    }

    fn seen(met: Option<&[Uuid]>, failed: &[Uuid]) -> Seen {
        Seen { met: met.map(|met| met.iter().copied().collect()), failed: failed.iter().copied().collect() }
    }

    #[test]
    fn a_proof_stands_until_a_batch_touches_the_chain() {
        let (mut known, ids) = known(2);
        assert_eq!(known.proof_taken(&ids), ids);
        known.batch_committed(&seen(Some(&ids[1..]), &[]));
        assert_eq!(known.unproved(), ids[1..]);
        assert_eq!(known.proof_taken(&ids), ids[1..], "the first stood, the second is taken anew");
        known.batch_committed(&seen(None, &[]));
        assert_eq!(known.proof_taken(&ids), ids, "what was touched is not known");
        known.batch_failed(&Seen::default());
        assert_eq!(known.proof_taken(&ids[..1]), ids[..1], "it may have committed");
    }

    #[test]
    fn only_a_committed_batch_has_applied_anything() {
        let (mut known, ids) = known(3);
        let none = BTreeSet::new();
        known.batch_failed(&Seen::default());
        assert_eq!(known.due(Some(&none)), ids);
        assert!(!ids.iter().any(|id| known.is_applied(*id)), "each is to be replayed");
        known.proof_taken(&ids);
        known.batch_committed(&seen(Some(&[]), &ids[..1]));
        assert_eq!(
            (known.due(Some(&none)), known.unproved()),
            (ids[..1].to_vec(), ids[..1].to_vec()),
            "it failed there"
        );
        assert_eq!(known.due(Some(&ids[2..].iter().copied().collect())), [ids[0], ids[2]]);
        assert_eq!(known.due(None), ids);
        known.learn(&[event(9, &["new"])]);
        assert_eq!(known.due(Some(&none)), [ids[0], Uuid::from_u128(9)], "a new one is applied once");
        let applied: Vec<bool> = (0..4).chain([9]).map(|id| known.is_applied(Uuid::from_u128(id))).collect();
        assert_eq!(
            applied,
            [false, true, true, false, false],
            "of what failed, is unknown or new nothing is taken for dead"
        );
        known.batch_failed(&seen(None, &ids[1..2]));
        assert_eq!(
            (known.is_applied(ids[1]), known.is_applied(ids[2])),
            (false, true),
            "it may have brought that back"
        );
    }

    #[test]
    fn a_chain_is_met_and_explained_by_its_prints() {
        let (mut known, ids) = known(3);
        known.learn(&[event(9, &["a", "b", "c", "d", "r9"]), event(10, &[])]);
        let touched = |request: &str| Touched { requests: [request.to_owned()].into(), ..Touched::default() };
        let unsaid = Uuid::from_u128(10);
        assert_eq!(known.met_by(&touched("r1")), BTreeSet::from([ids[1], unsaid]));
        assert_eq!(known.met_by(&touched("r9")), BTreeSet::from([Uuid::from_u128(9), unsaid]), "one of many");
        assert_eq!(known.met_by(&touched("x")), BTreeSet::from([unsaid]));
        let chain = |request: &str| DeadChain { request: request.to_owned(), client: "app".to_owned() };
        assert_eq!(known.unexplained(vec![chain("r2"), chain("x"), chain("d")]), [chain("x")]);
    }

    #[test]
    fn an_event_takes_few_bytes() {
        assert!(size_of::<(Uuid, Mark)>() <= 56, "{}", size_of::<(Uuid, Mark)>());
    }
}
