//! Crash at every record, kept or lost, also in recovery; failure at each step, clean, half done or dying: afterwards the run
//! can be brought to its end and can be taken back without leftovers.

use super::toy::{Crash, Fault, Play, There, Toy, Verb};
use cutover::engine::{FailureKind, Outcome, Reversal, StepId};

const STEPS: [&str; 6] = ["claim", "copy", "replay", "index", "gate", "flip"];
/// More appends than any verb of this runbook makes.
const MOST_APPENDS: usize = 16;

fn runbook() -> Vec<Toy> {
    vec![
        Toy::undoable("claim"),
        Toy { notes: 1, ..Toy::undoable("copy") },
        Toy::new("replay", Reversal::Monotone),
        Toy::undoable("index"),
        Toy::gate("gate"),
        Toy { notes: 1, ..Toy::new("flip", Reversal::OneWay) },
    ]
}

fn crashes() -> Vec<Option<Crash>> {
    let at = (1..=MOST_APPENDS).flat_map(|at| [true, false].map(|kept| Some(Crash { at, kept })));
    std::iter::once(None).chain(at).collect()
}

fn faults() -> Vec<Option<(&'static str, Fault)>> {
    let kinds = [Fault::Clean, Fault::Half, Fault::UnknownNothing, Fault::UnknownWhole, Fault::DiesHalf];
    let each = STEPS.into_iter().flat_map(|step| kinds.map(|fault| Some((step, fault))));
    std::iter::once(None).chain(each).collect()
}

fn start(fault: Option<(&'static str, Fault)>) -> Play {
    let play = Play::new(runbook());
    if let Some((step, fault)) = fault {
        play.world.fault(&StepId::new(step), fault);
    }
    play
}

/// Runs `advance` until it is done; every further run must change nothing.
async fn assert_ends_forward(mut play: Play, how: &str) {
    let mut outcome = play.go(Verb::Advance, None).await;
    for _ in 0..2 {
        if outcome != Outcome::Done {
            outcome = play.go(Verb::Advance, None).await;
        }
    }
    assert_eq!(outcome, Outcome::Done, "{how}");
    for step in STEPS {
        assert_eq!(play.see(step), There::Whole, "{how}: {step}");
    }
    let asked = play.world.asked().len();
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done, "{how}");
    assert_eq!(play.world.asked().len(), asked, "{how}: a finished run was touched again");
}

/// Runs `unwind` until it is done: nothing undoable is left, or the one-way step had happened and nothing was touched.
async fn assert_ends_back(mut play: Play, how: &str) {
    let flipped = play.see("flip") == There::Whole;
    let before: Vec<_> = STEPS.iter().map(|step| play.see(step)).collect();
    let mut outcome = play.go(Verb::Unwind, None).await;
    for _ in 0..2 {
        if outcome != Outcome::Done {
            outcome = play.go(Verb::Unwind, None).await;
        }
    }
    play.state();
    if flipped {
        let Outcome::Halted(halt) = outcome else { panic!("{how}: rolled back past the line") };
        assert_eq!(halt.kind, FailureKind::Refused, "{how}: {halt:?}");
        let after: Vec<_> = STEPS.iter().map(|step| play.see(step)).collect();
        assert_eq!(before, after, "{how}: a refused rollback acted");
        return;
    }
    assert_eq!(outcome, Outcome::Done, "{how}");
    for step in ["claim", "copy", "index", "flip"] {
        assert_eq!(play.see(step), There::Nothing, "{how}: {step} is left");
    }
    assert_eq!(before[2], play.see("replay"), "{how}: a monotone step was undone");
}

#[tokio::test]
async fn every_crash_and_failure_can_be_brought_to_the_end_or_taken_back() {
    for fault in faults() {
        for crash in crashes() {
            let how = format!("{fault:?} {crash:?}");
            let mut play = start(fault);
            play.go(Verb::Advance, crash).await;
            assert_ends_forward(play, &how).await;
            let mut play = start(fault);
            play.go(Verb::Advance, crash).await;
            assert_ends_back(play, &how).await;
        }
    }
}

#[tokio::test]
async fn a_crash_in_recovery_changes_nothing_about_it() {
    for fault in
        [None, Some(("copy", Fault::DiesHalf)), Some(("flip", Fault::Half)), Some(("flip", Fault::UnknownWhole))]
    {
        for first in crashes() {
            for second in crashes().into_iter().flatten() {
                let how = format!("{fault:?} {first:?} then {second:?}");
                let mut play = start(fault);
                play.go(Verb::Advance, first).await;
                play.go(Verb::Advance, Some(second)).await;
                assert_ends_forward(play, &how).await;
                let mut play = start(fault);
                play.go(Verb::Advance, first).await;
                play.go(Verb::Unwind, Some(second)).await;
                assert_ends_back(play, &how).await;
            }
        }
    }
}

#[tokio::test]
async fn an_undo_that_fails_is_tried_again_by_the_next_rollback() {
    for step in ["claim", "copy", "index"] {
        for fault in [Fault::Clean, Fault::Half, Fault::UnknownNothing, Fault::UnknownWhole, Fault::DiesHalf] {
            let mut play = start(None);
            play.through("gate").await;
            play.world.undo_fault(&StepId::new(step), fault);
            let outcome = play.go(Verb::Unwind, None).await;
            assert_ne!(outcome, Outcome::Done, "{step} {fault:?}");
            assert_ends_back(play, &format!("{step} {fault:?}")).await;
        }
    }
}
