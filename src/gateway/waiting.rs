//! The queue of held requests: bounded in count and bytes, left in order of urgency. Knows nothing of sides.

use crate::revocations::hydra::Class;
use std::collections::VecDeque;

/// Most bytes that one held request counts for: its body is not read while it is held, so no more than a buffer of it is kept.
const BODY_COUNTS_BYTES: u64 = 64 * 1024;

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most requests.
    pub(super) requests: usize,
    /// Most bytes of their bodies.
    pub(super) bytes: u64,
}

/// Held requests, each with whatever wakes it.
pub(super) struct Waiting<T> {
    lanes: [VecDeque<(T, u64)>; Class::COUNT],
    count: usize,
    bytes: u64,
    bounds: Bounds,
}

impl<T> Waiting<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), count: 0, bytes: 0, bounds }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Queues one; gives it back when there is no room.
    pub(super) fn push(&mut self, class: Class, body_bytes: u64, held: T) -> Result<(), T> {
        let bytes = body_bytes.min(BODY_COUNTS_BYTES);
        if self.count >= self.bounds.requests || self.bytes + bytes > self.bounds.bytes {
            return Err(held);
        }
        self.lanes[class as usize].push_back((held, bytes));
        self.count += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes up to `most`, the most urgent first; revocations leave alone, so that they have a step's start on the rest.
    pub(super) fn take_step(&mut self, most: usize) -> Vec<T> {
        let revocations = self.lanes[Class::Revocation as usize].len();
        self.take(if revocations > 0 { revocations.min(most) } else { most })
    }

    /// Takes up to `most`, the most urgent first.
    pub(super) fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            while taken.len() < most {
                let Some((held, bytes)) = lane.pop_front() else {
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
            (Class::Other, 1),
            (Class::Token, 2),
            (Class::Revocation, 3),
            (Class::Introspection, 4),
            (Class::Revocation, 5),
        ];
        for (class, name) in arrivals {
            waiting.push(class, 1, name).expect("there is room");
        }
        assert_eq!(waiting.take_step(9), [3, 5]);
        assert_eq!(waiting.take_step(2), [4, 2]);
        assert_eq!(waiting.take_step(9), [1]);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn the_queue_is_bounded_in_count_and_bytes() {
        let mut waiting = Waiting::new(Bounds { requests: 2, bytes: 100 });
        assert_eq!(waiting.push(Class::Other, 101, 'a'), Err('a'));
        assert_eq!(waiting.push(Class::Other, 60, 'b'), Ok(()));
        assert_eq!(waiting.push(Class::Other, 60, 'c'), Err('c'));
        assert_eq!(waiting.push(Class::Other, 0, 'd'), Ok(()));
        assert_eq!(waiting.push(Class::Other, 0, 'e'), Err('e'));
    }
}
