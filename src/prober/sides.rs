//! Which side answered when, and for how long two did: told from requests' starts and answers' ends alone. Pure.
//!
//! A side that was left must not answer any request that began after the other side's first answer had ended. One that overlaps that answer proves
//! nothing, since it may have been under way, and is passed over.

use super::ms;
use serde::Serialize;
use std::collections::BTreeMap;

/// Two changes of side within this time are no move and its return, but two sides answering: a lockstep there and back is two verbs of a person's.
const ONE_MOVE_US: u64 = 1_000_000;
/// Changes that are kept for the report; all are counted.
const CHANGES_MAX: usize = 1_000;
/// Sides that are told apart.
const SIDES_MAX: usize = 16;
/// Characters of a side's name.
const NAME_CHARS: usize = 40;

/// The first answer of a side that did not answer before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// When that answer ended, in milliseconds since the start.
    pub at_ms: f64,
    /// Who answered before.
    pub from: String,
    /// Who answered.
    pub to: String,
}

/// What one side answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideSeen {
    /// Its name, as answers gave it.
    pub side: String,
    /// Answers.
    pub answers: u64,
    /// When the first of them ended, in milliseconds since the start.
    pub first_ms: f64,
    /// When the last of them ended.
    pub last_ms: f64,
}

/// The side that answers now, and since when.
#[derive(Debug, Clone)]
struct Now {
    side: String,
    first_end_us: u64,
}

/// All sides of one probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides {
    seen: BTreeMap<String, SideSeen>,
    now: Option<Now>,
    changes: Vec<Change>,
    changed: u64,
    /// Where a run of quick changes began.
    mixed_since_us: Option<u64>,
    mixed_us: u64,
    unnamed: u64,
}

impl Sides {
    /// Takes one answer: when its request was sent, when it had ended, and who answered. True when it was held through a change: sent before the
    /// side that answered it had answered anything.
    pub(super) fn answer(&mut self, start_us: u64, end_us: u64, side: Option<&str>) -> bool {
        let Some(side) = side.filter(|side| !side.is_empty()) else {
            self.unnamed += 1;
            return false;
        };
        let side: String = side.chars().take(NAME_CHARS).collect();
        if !self.seen.contains_key(&side) && self.seen.len() >= SIDES_MAX {
            self.unnamed += 1;
            return false;
        }
        let seen = self.seen.entry(side.clone()).or_insert_with(|| SideSeen {
            side: side.clone(),
            answers: 0,
            first_ms: ms(end_us),
            last_ms: ms(end_us),
        });
        seen.answers += 1;
        seen.last_ms = seen.last_ms.max(ms(end_us));
        self.turn(side, start_us, end_us)
    }

    fn turn(&mut self, side: String, start_us: u64, end_us: u64) -> bool {
        let Some(now) = &mut self.now else {
            self.now = Some(Now { side, first_end_us: end_us });
            return false;
        };
        if now.side == side {
            // Answers come in about the order of their ends, not quite.
            now.first_end_us = now.first_end_us.min(end_us);
            return self.changed > 0 && start_us <= now.first_end_us;
        }
        if start_us <= now.first_end_us {
            return false;
        }
        let before = std::mem::replace(now, Now { side: side.clone(), first_end_us: end_us });
        let is_quick = self.changed > 0 && start_us - before.first_end_us < ONE_MOVE_US;
        self.mixed_since_us = is_quick.then(|| self.mixed_since_us.unwrap_or(before.first_end_us));
        if let Some(since) = self.mixed_since_us {
            self.mixed_us = self.mixed_us.max(start_us - since);
        }
        self.changed += 1;
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(Change { at_ms: ms(end_us), from: before.side, to: side });
        }
        true
    }

    /// Longest time in which two sides answered, in milliseconds; 0 when never.
    pub(super) fn mixed_ms(&self) -> f64 {
        // A moment that is too short for the rounding was a moment.
        if self.mixed_us == 0 { 0.0 } else { ms(self.mixed_us).max(0.01) }
    }

    /// Every change, the first thousand.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.changes.clone()
    }

    /// How many changes there were.
    pub(super) fn changed(&self) -> u64 {
        self.changed
    }

    /// Every side that answered.
    pub(super) fn seen(&self) -> Vec<SideSeen> {
        self.seen.values().cloned().collect()
    }

    /// Answers that named nobody.
    pub(super) fn unnamed(&self) -> u64 {
        self.unnamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as (start, end, side), in milliseconds.
    fn of(answers: &[(u64, u64, &str)]) -> Sides {
        let mut sides = Sides::default();
        for (start, end, side) in answers {
            sides.answer(start * 1000, end * 1000, Some(side));
        }
        sides
    }

    #[test]
    fn a_move_and_its_return_are_no_mix_and_neither_is_what_was_under_way() {
        let moved = of(&[
            (0, 5, "blue"),
            (100, 400, "green"),
            (90, 401, "blue"),
            (399, 402, "blue"),
            (410, 415, "green"),
            (2000, 2005, "blue"),
        ]);
        assert_eq!((moved.mixed_ms(), moved.changed()), (0.0, 2));
        assert_eq!(moved.changes()[0], Change { at_ms: 400.0, from: "blue".to_owned(), to: "green".to_owned() });
    }

    #[test]
    fn a_side_that_answers_what_began_after_the_move_is_a_mix_from_the_move_on() {
        let late =
            of(&[(0, 5, "blue"), (100, 400, "green"), (450, 460, "blue"), (470, 480, "green"), (500, 505, "green")]);
        // Green had answered at 400; blue took a request at 450, and green again one at 470.
        assert_eq!((late.mixed_ms(), late.changed()), (70.0, 3));
        let flash = of(&[(0, 5, "blue"), (6, 10, "green"), (11, 12, "blue")]);
        assert!((flash.mixed_ms() - 1.0).abs() < 0.001, "{}", flash.mixed_ms());
    }

    #[test]
    fn the_first_move_may_come_at_once_and_answers_without_a_name_are_counted_apart() {
        let mut soon = of(&[(0, 1, "blue"), (2, 3, "green")]);
        soon.answer(4000, 5000, None);
        assert_eq!((soon.mixed_ms(), soon.unnamed()), (0.0, 1));
        assert_eq!(soon.seen().iter().map(|side| side.answers).collect::<Vec<_>>(), [1, 1]);
    }
}
