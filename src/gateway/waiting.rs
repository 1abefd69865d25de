//! The queue of held requests: bounded in count and bytes, left in order of urgency. Knows nothing of sides.

use crate::plan::Route;
use crate::revocations::hydra::Class;
use std::collections::BTreeMap;

/// Most bytes that one held request counts for: no more of its body than this and a buffer is read while it is held.
pub(super) const BODY_COUNTS_BYTES: u64 = 64 * 1024;

/// Where a held request waits: in the first lane revocations, behind them the plan's priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane(u8);

impl Lane {
    const REVOCATIONS: Self = Self(0);
    const COUNT: usize = Route::LAST as usize + 1;

    /// Where a class waits when the plan says nothing; there is room between them for what it says.
    pub(super) fn of(class: Class) -> Self {
        match class {
            Class::Revocation => Self::REVOCATIONS,
            Class::Introspection => Self(2),
            Class::Token => Self(4),
            Class::Other => Self(6),
        }
    }

    /// Where a priority of the plan waits: never before a revocation.
    pub(super) fn at(priority: u8) -> Self {
        Self(priority.clamp(1, Route::LAST))
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most requests.
    pub(super) requests: usize,
    /// Most bytes of their bodies.
    pub(super) bytes: u64,
}

/// The place of one held request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    lane: Lane,
    number: u64,
}

/// Held requests, each with whatever wakes it.
pub(super) struct Waiting<T> {
    /// By number, which is the order of arrival, with the bytes that each counts for.
    lanes: [BTreeMap<u64, (T, u64)>; Lane::COUNT],
    /// Number of the next to come.
    next: u64,
    count: usize,
    bytes: u64,
    bounds: Bounds,
}

impl<T> Waiting<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { lanes: std::array::from_fn(|_| BTreeMap::new()), next: 0, count: 0, bytes: 0, bounds }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Queues one; none when there is no room.
    pub(super) fn push(&mut self, lane: Lane, body_bytes: u64, held: T) -> Option<Place> {
        let bytes = body_bytes.min(BODY_COUNTS_BYTES);
        if self.count >= self.bounds.requests || self.bytes + bytes > self.bounds.bytes {
            return None;
        }
        let place = Place { lane, number: self.next };
        self.lanes[lane.index()].insert(place.number, (held, bytes));
        self.next += 1;
        self.count += 1;
        self.bytes += bytes;
        Some(place)
    }

    /// Gives up the place of one that waits no more; nothing when it was taken already.
    pub(super) fn leave(&mut self, place: Place) {
        if let Some((_, bytes)) = self.lanes[place.lane.index()].remove(&place.number) {
            self.count -= 1;
            self.bytes -= bytes;
        }
    }

    /// Takes up to `most`, the most urgent first; revocations leave alone, so that they have a step's start on the rest.
    pub(super) fn take_step(&mut self, most: usize) -> Vec<T> {
        let revocations = self.lanes[Lane::REVOCATIONS.index()].len();
        self.take(if revocations > 0 { revocations.min(most) } else { most })
    }

    /// Takes up to `most`, the most urgent first.
    pub(super) fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            while taken.len() < most {
                let Some((_, (held, bytes))) = lane.pop_first() else {
                    break;
                };
                self.count -= 1;
                self.bytes -= bytes;
                taken.push(held);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_leave_first_and_in_their_own_order() {
        let mut waiting = Waiting::new(Bounds { requests: 10, bytes: 1000 });
        let arrivals = [
            (Lane::at(9), 0),
            (Lane::of(Class::Other), 1),
            (Lane::of(Class::Token), 2),
            (Lane::of(Class::Revocation), 3),
            (Lane::of(Class::Introspection), 4),
            (Lane::of(Class::Revocation), 5),
            (Lane::at(1), 6),
        ];
        for (lane, name) in arrivals {
            waiting.push(lane, 1, name).expect("there is room");
        }
        assert_eq!(waiting.take_step(9), [3, 5]);
        assert_eq!(waiting.take_step(3), [6, 4, 2]);
        assert_eq!(waiting.take_step(9), [1, 0]);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn the_queue_is_bounded_in_count_and_bytes() {
        let mut waiting = Waiting::new(Bounds { requests: 2, bytes: 100 });
        assert!(waiting.push(Lane::of(Class::Other), 101, 'a').is_none());
        assert!(waiting.push(Lane::of(Class::Other), 60, 'b').is_some());
        assert!(waiting.push(Lane::of(Class::Other), 60, 'c').is_none());
        assert!(waiting.push(Lane::of(Class::Other), 0, 'd').is_some());
        assert!(waiting.push(Lane::of(Class::Other), 0, 'e').is_none());
        assert_eq!(waiting.take(9), ['b', 'd']);
    }

    #[test]
    fn one_that_leaves_makes_room_in_count_and_bytes_and_once_alone() {
        let mut waiting = Waiting::new(Bounds { requests: 2, bytes: 100 });
        let gone = waiting.push(Lane::of(Class::Token), 60, 'a').expect("there is room");
        waiting.push(Lane::of(Class::Token), 40, 'b').expect("there is room");
        waiting.leave(gone);
        waiting.leave(gone);
        let taken = waiting.push(Lane::of(Class::Token), 60, 'c').expect("there is room again");
        assert!(waiting.push(Lane::of(Class::Token), 0, 'd').is_none());
        assert_eq!(waiting.take_step(9), ['b', 'c']);
        waiting.leave(taken);
        assert_eq!(waiting.len(), 0);
    }
}
