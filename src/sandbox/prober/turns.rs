//! Where traffic turned, as answers name it, and what a turn back to blue gives up. Pure.
//!
//! The older engine cannot read what the newer one issued, and the plan says so (`reverse:`): what came from green is a declared cost
//! from the first answer of blue at a later epoch, for ever. What came from blue is never given up, whatever has turned since. Goes by
//! epochs and not by the clock: an answer that was long on its way is ruled on like one that was not.

use crate::plan::Side;

/// Where an answer came from, as the gateway names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) side: Side,
    pub(super) epoch: i64,
}

/// What is known of the turns so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turns {
    latest: Option<Origin>,
    /// The highest epoch at which blue has answered.
    blue_epoch: Option<i64>,
    /// Whether both engines have one database: nothing is given up then.
    pub(super) is_in_place: bool,
}

impl Turns {
    /// Learns from one answer.
    pub(super) fn saw(&mut self, origin: Origin) {
        if self.latest.is_none_or(|latest| latest.epoch <= origin.epoch) {
            self.latest = Some(origin);
        }
        if origin.side == Side::Blue {
            self.blue_epoch = self.blue_epoch.max(Some(origin.epoch));
        }
    }

    /// Where traffic was last known to be.
    pub(super) fn latest(&self) -> Option<Origin> {
        self.latest
    }

    /// Whether the way back gave up what came from there; nothing is when nobody knows where it came from.
    pub(super) fn gave_up(&self, born: Option<Origin>) -> bool {
        !self.is_in_place && born.is_some_and(|born| born.side == Side::Green && self.blue_epoch > Some(born.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(side: Side, epoch: i64) -> Origin {
        Origin { side, epoch }
    }

    fn after(answers: &[Origin]) -> Turns {
        let mut turns = Turns::default();
        answers.iter().for_each(|origin| turns.saw(*origin));
        turns
    }

    #[test]
    fn only_what_came_from_green_is_given_up_and_only_once_blue_answers_again() {
        let (before, first, back) = (at(Side::Blue, 1), at(Side::Green, 2), at(Side::Blue, 3));
        assert!(!after(&[before, first]).gave_up(Some(first)), "green is live");
        let returned = after(&[before, first, back]);
        assert!(returned.gave_up(Some(first)));
        assert!(!returned.gave_up(Some(before)), "a loss of blue's own is a loss");
        assert!(!returned.gave_up(Some(back)));
        assert!(!returned.gave_up(None), "an answer that names no side excuses nothing");
    }

    #[test]
    fn a_second_flip_brings_nothing_back_and_excuses_nothing_of_its_own() {
        let twice = after(&[at(Side::Blue, 1), at(Side::Green, 2), at(Side::Blue, 3), at(Side::Green, 4)]);
        assert!(twice.gave_up(Some(at(Side::Green, 2))));
        assert!(!twice.gave_up(Some(at(Side::Green, 4))));
        assert!(!twice.gave_up(Some(at(Side::Blue, 3))), "born between the flips, expected on green");
    }

    #[test]
    fn answers_that_overtake_each_other_change_nothing() {
        let turns = after(&[at(Side::Blue, 3), at(Side::Green, 2), at(Side::Blue, 1)]);
        assert_eq!(turns.latest(), Some(at(Side::Blue, 3)));
        assert!(turns.gave_up(Some(at(Side::Green, 2))));
        assert!(
            !after(&[at(Side::Blue, 2)]).gave_up(Some(at(Side::Green, 2))),
            "blue answered while that epoch was proposed"
        );
    }
}
