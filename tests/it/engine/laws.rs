//! One test per law, each on the smallest runbook that shows it.

use super::toy::{Crash, Fault, MortalLog, Play, There, Toy, Verb, World};
use cutover::engine::{
    Context, Engine, Event, Events, FailureKind, Halt, Limits, Outcome, Reversal, RunPhase, Runbook, RunbookError,
    StepId, Stop, StopPoint, Survey, Waiver,
};
use cutover::journal::{Kind, Log, MemoryLog, Phase, StepPhase};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

fn halt(outcome: Outcome) -> Halt {
    match outcome {
        Outcome::Halted(halt) => halt,
        Outcome::Done => panic!("it was done"),
    }
}

fn kinds(play: &Play) -> Vec<(Kind, &str)> {
    play.records.iter().map(|record| (record.kind, record.step.as_deref().unwrap_or(""))).collect()
}

fn count(play: &Play, what: &str) -> usize {
    play.world.asked().iter().filter(|asked| *asked == what).count()
}

#[tokio::test]
async fn intent_comes_before_forward_and_the_outcome_before_the_next_step() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    let expected =
        [(Kind::Intent, "a"), (Kind::Done, "a"), (Kind::Intent, "b"), (Kind::Done, "b"), (Kind::Arrived, "")];
    assert_eq!(kinds(&play), expected);
    assert_eq!(play.world.asked(), ["verify a", "forward a", "verify a", "verify b", "forward b", "verify b"]);
}

#[tokio::test]
async fn through_stops_after_its_step_and_the_next_run_goes_on() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b"), Toy::undoable("c")]);
    assert_eq!(play.through("b").await, Outcome::Done);
    assert_eq!((play.see("b"), play.see("c")), (There::Whole, There::Nothing));
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!((count(&play, "forward a"), count(&play, "forward c")), (1, 1));
}

#[tokio::test]
async fn undo_goes_newest_first_and_covers_failed_and_unknown_steps() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b"), Toy::undoable("c")]);
    play.world.fault(&StepId::new("c"), Fault::Half);
    assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Failed);
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
    let undone: Vec<_> = play.world.asked().into_iter().filter(|asked| asked.starts_with("undo")).collect();
    assert_eq!(undone, ["undo c", "undo b", "undo a"]);
    assert_eq!(count(&play, "settle c"), 1, "what may still be under way is ended first");
    assert_eq!(count(&play, "settle a"), 0);
    assert_eq!(play.state().phase, Phase::RolledBack);
}

#[tokio::test]
async fn a_step_whose_effect_never_came_is_undone_without_an_act() {
    let mut play = Play::new(vec![Toy::undoable("a")]);
    play.world.fault(&StepId::new("a"), Fault::Clean);
    play.go(Verb::Advance, None).await;
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
    assert_eq!(count(&play, "undo a"), 0);
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done, "a second rollback has nothing to do");
}

#[tokio::test]
async fn what_is_foreign_or_unclear_is_neither_overwritten_nor_undone() {
    for there in [There::Foreign, There::Unclear] {
        let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
        play.world.put(&StepId::new("b"), there);
        assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Stuck);
        assert_eq!((count(&play, "forward b"), play.see("b")), (0, there));
        // It never had an intent, so it is no obstacle on the way back.
        assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
        assert_eq!((play.see("a"), play.see("b")), (There::Nothing, there));

        let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
        play.go(Verb::Advance, None).await;
        play.world.put(&StepId::new("b"), there);
        let stuck = halt(play.go(Verb::Unwind, None).await);
        assert_eq!((stuck.kind, stuck.step), (FailureKind::Stuck, Some(StepId::new("b"))));
        assert_eq!((count(&play, "undo b"), play.see("a")), (0, There::Whole), "nothing before it is touched either");
        assert_eq!(Survey::of(&play.runbook, &play.state()).phase, RunPhase::Stuck);
    }
}

#[test]
fn an_unsound_list_of_steps_is_no_runbook() {
    let flip = || Toy::new("flip", Reversal::OneWay);
    let id = StepId::new;
    let refuse = |steps| Runbook::<Toy>::new(steps).unwrap_err();
    assert_eq!(refuse(vec![Toy::undoable("a"), flip()]), RunbookError::NoGate(id("flip")));
    assert_eq!(refuse(vec![flip(), Toy::gate("g")]), RunbookError::NoGate(id("flip")));
    let second = Toy::new("drop", Reversal::OneWay);
    assert_eq!(refuse(vec![Toy::gate("g"), flip(), second]), RunbookError::NoGate(id("drop")));
    assert_eq!(refuse(vec![Toy::undoable("a"), Toy::undoable("a")]), RunbookError::Twice(id("a")));
    assert_eq!(refuse(vec![Toy { gate: true, ..Toy::undoable("a") }]), RunbookError::ActingGate(id("a")));
    assert_eq!(refuse(vec![Toy::undoable("a").retried(0)]), RunbookError::NoAttempt(id("a")));
    let held = RunbookError::HoldsUntil { step: id("b"), until: id("a") };
    assert_eq!(refuse(vec![Toy::undoable("a"), Toy::undoable("b").until("a")]), held);
    assert!(Runbook::new(vec![Toy::gate("g"), flip()]).is_ok());
}

#[tokio::test]
async fn an_act_is_tried_again_only_when_nothing_of_it_is_there() {
    let id = StepId::new("a");
    let retried = || Play::new(vec![Toy::undoable("a").retried(3)]);

    let mut play = retried();
    play.world.fault(&id, Fault::Clean);
    play.world.fault(&id, Fault::UnknownNothing);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!(count(&play, "forward a"), 3);

    let mut play = retried();
    play.world.fault(&id, Fault::UnknownWhole);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!(count(&play, "forward a"), 1, "it was there already");

    let mut play = retried();
    play.world.fault(&id, Fault::Half);
    assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Failed);
    assert_eq!(count(&play, "forward a"), 1);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done, "the next process goes on from the half");

    let mut play = retried();
    (0..3).for_each(|_| play.world.fault(&id, Fault::Clean));
    assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Failed);
    assert_eq!(count(&play, "forward a"), 3, "the attempts are bounded");
}

#[tokio::test]
async fn a_look_that_fails_is_repeated_within_the_attempts() {
    for (failures, kind) in [(2, None), (3, Some(FailureKind::Failed))] {
        let mut play = Play::new(vec![Toy::undoable("a").retried(3)]);
        play.world.blind.lock().unwrap().insert(StepId::new("a"), failures);
        let outcome = play.go(Verb::Advance, None).await;
        assert_eq!(kind, if outcome == Outcome::Done { None } else { Some(halt(outcome).kind) });
        assert_eq!(count(&play, "forward a"), usize::from(kind.is_none()), "nothing is done blindly");
    }
}

#[tokio::test]
async fn an_act_that_never_answers_ends_at_its_deadline_as_unknown() {
    let limits = Limits::once(Duration::from_millis(20));
    let mut play = Play::new(vec![Toy { limits, ..Toy::undoable("a") }]);
    play.world.fault(&StepId::new("a"), Fault::Hangs);
    let late = halt(play.go(Verb::Advance, None).await);
    assert_eq!(late.kind, FailureKind::Failed);
    assert!(late.why.contains("did not end within 20ms"), "{}", late.why);
    assert_eq!(play.state().step("a").unwrap().failure.as_ref().unwrap()["effect"], "unknown");
}

#[tokio::test]
async fn forward_that_ends_well_without_its_whole_effect_is_a_failure() {
    for fault in [Fault::LiesNothing, Fault::LiesHalf] {
        let mut play = Play::new(vec![Toy::undoable("a")]);
        play.world.fault(&StepId::new("a"), fault);
        assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Failed);
        assert_eq!(play.state().step("a").unwrap().phase, StepPhase::Failed);
    }
}

#[tokio::test]
async fn the_state_before_is_in_the_first_intent_and_outlives_later_attempts() {
    let mut play = Play::new(vec![Toy::undoable("a")]);
    play.world.fault(&StepId::new("a"), Fault::Half);
    play.go(Verb::Advance, None).await;
    play.go(Verb::Advance, None).await;
    let state = play.state();
    assert_eq!(state.step("a").unwrap().intent, json!("Nothing"));
    assert_eq!(state.step("a").unwrap().attempts, 2);
}

#[tokio::test]
async fn notes_are_durable_in_order_and_seen_by_the_next_process() {
    let mut play = Play::new(vec![Toy { notes: 2, ..Toy::undoable("a") }]);
    play.world.fault(&StepId::new("a"), Fault::DiesHalf);
    play.go(Verb::Advance, None).await;
    assert_eq!(play.state().step("a").unwrap().notes, [json!(0), json!(1)]);
    play.go(Verb::Advance, None).await;
    assert_eq!(play.state().step("a").unwrap().notes.len(), 4);
}

#[tokio::test]
async fn a_stop_parks_between_steps_and_the_next_run_goes_on() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    let (ask, stop) = Stop::channel();
    ask.ask("SIGINT");
    let parked = halt(play.act(Verb::Advance, None, None, stop).await);
    assert_eq!((parked.kind, parked.step), (FailureKind::Parked, Some(StepId::new("a"))));
    assert_eq!(Survey::of(&play.runbook, &play.state()).phase, RunPhase::Parked);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
}

/// Runs to the halt with a stop asked for twice while step `a` is under way; where it was said to stop.
async fn stopped_in_a(play: &Play) -> (Halt, Vec<StopPoint>, MemoryLog) {
    let (log, (ask, stop), (events, mut told)) = (MemoryLog::new(Uuid::nil()), Stop::channel(), Events::channel());
    let engine = Engine { runbook: &play.runbook, world: &play.world, log: &log, events, stop, waiver: None };
    let asking = async {
        for by in ["SIGINT", "SIGTERM"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ask.ask(by);
        }
    };
    let (outcome, ()) = tokio::join!(engine.advance(None), asking);
    drop(engine);
    let mut stops = Vec::new();
    while let Some(stamped) = told.recv().await {
        if let Event::Stopping { stops: point, .. } = stamped.event {
            stops.push(point);
        }
    }
    (halt(outcome), stops, log)
}

#[tokio::test]
async fn a_stop_cuts_a_step_that_may_be_cut_and_lets_another_end() {
    let mut play = Play::new(vec![Toy { cut: true, ..Toy::undoable("a") }, Toy::undoable("b")]);
    play.world.fault(&StepId::new("a"), Fault::Hangs);
    let (parked, stops, log) = stopped_in_a(&play).await;
    assert_eq!((parked.kind, parked.step), (FailureKind::Parked, Some(StepId::new("a"))));
    assert!(parked.why.contains("SIGINT"), "{}", parked.why);
    assert_eq!(stops, [StopPoint::Here]);
    play.records = log.records().await.unwrap();
    assert_eq!(play.state().step("a").unwrap().failure.as_ref().unwrap()["effect"], "unknown", "undo will look at it");
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);

    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    play.world.fault(&StepId::new("a"), Fault::Lingers);
    let (parked, stops, log) = stopped_in_a(&play).await;
    assert_eq!((parked.kind, parked.step), (FailureKind::Parked, Some(StepId::new("b"))));
    assert_eq!((stops.as_slice(), play.see("a")), (&[StopPoint::AfterStep; 2][..], There::Whole), "told each time");
    play.records = log.records().await.unwrap();
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!(count(&play, "forward a"), 1);
}

#[tokio::test]
async fn a_stop_parks_a_rollback_between_undos_and_the_next_one_goes_on() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    play.go(Verb::Advance, None).await;
    let (ask, stop) = Stop::channel();
    ask.ask("SIGTERM");
    let parked = halt(play.act(Verb::Unwind, None, None, stop).await);
    assert_eq!((parked.kind, play.see("a"), play.see("b")), (FailureKind::Parked, There::Whole, There::Whole));
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
    assert_eq!((play.see("a"), play.see("b")), (There::Nothing, There::Nothing));
}

#[tokio::test]
async fn an_effect_that_must_last_is_asked_again_and_never_made_anew() {
    let steps = || {
        vec![
            Toy::undoable("capture").until("flip"),
            Toy::gate("gate").until("flip"),
            Toy::new("flip", Reversal::OneWay),
        ]
    };
    let mut play = Play::new(steps());
    play.through("gate").await;
    play.world.put(&StepId::new("capture"), There::Nothing);
    let parked = halt(play.go(Verb::Advance, None).await);
    assert_eq!((parked.kind, parked.step), (FailureKind::Parked, Some(StepId::new("capture"))));
    assert_eq!((count(&play, "forward capture"), count(&play, "forward flip")), (1, 0));
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);

    let mut play = Play::new(steps());
    play.through("gate").await;
    play.world.fault(&StepId::new("gate"), Fault::Clean);
    assert_eq!(halt(play.go(Verb::Advance, None).await).step, Some(StepId::new("gate")), "a gate may change its mind");
    assert_eq!(count(&play, "forward flip"), 0);
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
}

#[tokio::test]
async fn a_done_one_way_step_ends_the_range_of_undo() {
    let steps = vec![Toy::undoable("a"), Toy::gate("gate"), Toy::new("flip", Reversal::OneWay)];
    let mut play = Play::new(steps);
    play.go(Verb::Advance, None).await;
    let refused = halt(play.go(Verb::Unwind, None).await);
    assert_eq!((refused.kind, refused.step), (FailureKind::Refused, Some(StepId::new("flip"))));
    assert_eq!((play.see("a"), play.see("flip")), (There::Whole, There::Whole));
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done, "forward is still open");
}

#[tokio::test]
async fn an_unknown_one_way_step_is_settled_by_writing_against_it() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::gate("gate"), Toy::new("flip", Reversal::OneWay)]);
    play.world.fault(&StepId::new("flip"), Fault::UnknownNothing);
    play.go(Verb::Advance, None).await;
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
    assert_eq!(count(&play, "undo flip"), 1, "reading is not enough");
    assert_eq!(play.see("a"), There::Nothing);

    // Writing against it loses: it was decided after all.
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::gate("gate"), Toy::new("flip", Reversal::OneWay)]);
    play.world.fault(&StepId::new("flip"), Fault::Half);
    play.go(Verb::Advance, None).await;
    play.world.undo_fault(&StepId::new("flip"), Fault::Half);
    let failed = halt(play.go(Verb::Unwind, None).await);
    assert_eq!((failed.kind, play.see("a")), (FailureKind::Failed, There::Whole));
    assert_eq!(play.state().phase, Phase::Forward, "the way forward is still open");
}

#[tokio::test]
async fn after_a_rollback_began_there_is_no_forward() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    play.go(Verb::Advance, None).await;
    play.world.undo_fault(&StepId::new("a"), Fault::Clean);
    play.go(Verb::Unwind, None).await;
    let refused = halt(play.go(Verb::Advance, None).await);
    assert_eq!(refused.kind, FailureKind::Refused);
    assert_eq!((play.see("a"), play.see("b")), (There::Whole, There::Nothing));
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done);
}

#[tokio::test]
async fn a_journal_with_a_step_of_another_runbook_is_refused() {
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b")]);
    play.go(Verb::Advance, None).await;
    play.runbook = Runbook::new(vec![Toy::undoable("a")]).unwrap();
    assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Changed);
    assert_eq!(halt(play.go(Verb::Unwind, None).await).kind, FailureKind::Changed);
}

#[tokio::test]
async fn a_survey_says_how_far_a_run_is() {
    let (line, gate) = (Toy::new("flip", Reversal::OneWay), Toy::gate("gate"));
    let mut play = Play::new(vec![Toy::undoable("a"), Toy::undoable("b"), gate, line]);
    let phase = |play: &Play| Survey::of(&play.runbook, &play.state()).phase;
    assert_eq!(phase(&play), RunPhase::Fresh);
    play.through("a").await;
    assert_eq!(phase(&play), RunPhase::Running);
    play.through("b").await;
    assert_eq!(phase(&play), RunPhase::AtFlipPoint, "the gate is asked when the flip is");
    play.through("gate").await;
    assert_eq!(phase(&play), RunPhase::AtFlipPoint);
    play.world.fault(&StepId::new("flip"), Fault::Clean);
    play.go(Verb::Advance, None).await;
    let survey = Survey::of(&play.runbook, &play.state());
    assert_eq!((survey.phase, survey.step, survey.done), (RunPhase::Failed, Some(StepId::new("flip")), 3));
    assert!(survey.why.contains("toy flip failed"));
    play.go(Verb::Advance, None).await;
    assert_eq!(phase(&play), RunPhase::Flipped);
}

#[tokio::test]
async fn events_tell_what_is_recorded_with_its_place() {
    let world = World::default();
    let log = MortalLog::new(&world, Vec::new(), None);
    let runbook = Runbook::new(vec![Toy { notes: 1, ..Toy::undoable("a") }]).unwrap();
    let (events, mut heard) = Events::channel();
    let engine = Engine { runbook: &runbook, world: &world, log: &log, events, stop: Stop::never(), waiver: None };
    assert_eq!(engine.advance(None).await, Outcome::Done);
    drop(engine);
    let mut told = Vec::new();
    while let Some(stamped) = heard.recv().await {
        told.push(match stamped.event {
            Event::StepStarted { seq, .. } => ("started", seq),
            Event::Note { seq, .. } => ("note", seq),
            Event::StepDone { seq, .. } => ("done", seq),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, [("started", 1), ("note", 2), ("done", 3)]);
}

#[tokio::test]
async fn receipts_are_facts_for_later_steps() {
    let mut play = Play::new(vec![Toy::undoable("a")]);
    play.go(Verb::Advance, None).await;
    let facts = cutover::engine::Facts::of(&play.state());
    assert_eq!(facts.get::<String>(&StepId::new("a")).unwrap(), "made");
    assert!(facts.get::<u64>(&StepId::new("a")).is_err(), "another shape is an error, not a guess");
    assert!(facts.get::<String>(&StepId::new("b")).is_err());
    let term = cutover::journal::Term { term: 1, nonce: uuid::Uuid::nil() };
    let context = Context::detached(uuid::Uuid::nil(), term, StepId::new("a"), facts);
    context.note(json!("kept in memory")).await.unwrap();
    assert_eq!(context.notes(), [json!("kept in memory")]);
}

/// A way out and its way back, each with a gate before it.
fn out_and_back() -> Play {
    let steps = vec![
        Toy::undoable("a"),
        Toy::gate("ready"),
        Toy::new("out", Reversal::OneWay),
        Toy::gate("ready-back").until("back"),
        Toy::back_from("back", "out"),
    ];
    let play = Play::new(steps);
    play.world.ways_back.lock().unwrap().insert(StepId::new("out"), StepId::new("back"));
    play
}

#[tokio::test]
async fn the_way_back_supersedes_the_way_out_and_the_other_way_round() {
    let mut play = out_and_back();
    let phase = |play: &Play| Survey::of(&play.runbook, &play.state()).phase;
    for _ in 0..2 {
        play.through("out").await;
        assert_eq!(phase(&play), RunPhase::Flipped);
        assert_eq!((play.see("out"), play.see("back")), (There::Whole, There::Nothing));
        let survey = Survey::of(&play.runbook, &play.state());
        assert_eq!((survey.done, survey.of), (3, 3), "the way back is no part of the way out");
        assert_eq!(halt(play.go(Verb::Unwind, None).await).kind, FailureKind::Refused, "past the line");
        play.through("back").await;
        assert_eq!(phase(&play), RunPhase::Returned);
        assert_eq!((play.see("out"), play.see("back")), (There::Nothing, There::Whole));
    }
    assert_eq!(play.go(Verb::Unwind, None).await, Outcome::Done, "nothing one-way stands");
    assert_eq!(play.see("a"), There::Nothing);
}

#[tokio::test]
async fn a_way_back_that_is_under_way_comes_before_everything_else() {
    let mut play = out_and_back();
    play.through("out").await;
    play.world.fault(&StepId::new("back"), Fault::Half);
    assert_eq!(halt(play.through("back").await).kind, FailureKind::Failed);
    let refused = halt(play.through("a").await);
    assert_eq!((refused.kind, refused.hint.as_str()), (FailureKind::Refused, "finish it first: cutover rollback PLAN"));
    assert_eq!(play.through("back").await, Outcome::Done);
    assert_eq!(play.see("out"), There::Nothing);
}

#[tokio::test]
async fn a_way_back_that_is_not_done_gives_way_to_the_way_out() {
    for fault in [Fault::Half, Fault::UnknownNothing, Fault::DiesHalf] {
        let mut play = out_and_back();
        play.through("out").await;
        play.world.fault(&StepId::new("back"), fault);
        halt(play.through("back").await);
        assert_eq!(play.through("out").await, Outcome::Done, "{fault:?}");
        assert_eq!((play.see("out"), play.see("back")), (There::Whole, There::Nothing), "{fault:?}");
        assert_eq!(Survey::of(&play.runbook, &play.state()).phase, RunPhase::Flipped, "{fault:?}");
        assert_eq!(play.through("back").await, Outcome::Done, "{fault:?}: it can be gone all the same");
    }
}

#[tokio::test]
async fn a_way_back_that_was_done_unseen_is_followed_by_the_way_out() {
    let mut play = out_and_back();
    play.through("out").await;
    play.world.fault(&StepId::new("back"), Fault::UnknownWhole);
    halt(play.through("back").await);
    assert_eq!(play.through("out").await, Outcome::Done);
    assert_eq!((play.see("out"), play.see("back")), (There::Whole, There::Nothing));
    assert!(play.world.asked().iter().filter(|asked| *asked == "forward out").count() == 2, "{:?}", play.world.asked());
}

#[tokio::test]
async fn a_waived_gate_is_not_asked_and_the_journal_says_why() {
    let steps = vec![Toy::gate("soak").until("end"), Toy::gate("other"), Toy::new("end", Reversal::OneWay)];
    let mut play = Play::new(steps);
    play.world.fault(&StepId::new("soak"), Fault::Clean);
    assert_eq!(halt(play.through("end").await).kind, FailureKind::Failed);
    play.waiver = Some(Waiver { gate: StepId::new("soak"), because: "a quiet night".to_owned() });
    play.world.fault(&StepId::new("soak"), Fault::Clean);
    assert_eq!(play.through("end").await, Outcome::Done);
    assert_eq!(play.state().step("soak").unwrap().receipt, Some(json!({ "waived": "a quiet night" })));
    assert!(play.world.asked().contains(&"forward other".to_owned()), "only the gate that was named is left out");
}

#[tokio::test]
async fn what_a_gate_made_for_itself_is_ended_on_the_way_back_and_when_somebody_answers_for_it() {
    let steps = || vec![Toy::undoable("a"), Toy::gate("b"), Toy::undoable("c")];
    let mut cut = Play::new(steps());
    cut.go(Verb::Advance, Some(Crash { at: 3, kept: true })).await;
    assert_eq!(cut.state().step("b").unwrap().phase, StepPhase::Running);
    assert_eq!(cut.go(Verb::Unwind, None).await, Outcome::Done);
    assert_eq!((count(&cut, "settle b"), count(&cut, "undo b"), cut.see("a")), (1, 0, There::Nothing));

    let mut answered = Play::new(steps());
    answered.go(Verb::Advance, Some(Crash { at: 3, kept: true })).await;
    answered.waiver = Some(Waiver { gate: StepId::new("b"), because: "a quiet night".to_owned() });
    assert_eq!(answered.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!((count(&answered, "settle b"), answered.see("c")), (1, There::Whole));

    let mut passed = Play::new(steps());
    assert_eq!(passed.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!(passed.go(Verb::Unwind, None).await, Outcome::Done);
    assert_eq!(count(&passed, "settle b"), 0, "it ended by itself");
}

#[tokio::test]
async fn only_a_gate_can_be_waived() {
    let mut play = Play::new(vec![Toy::undoable("a")]);
    play.waiver = Some(Waiver { gate: StepId::new("a"), because: "no".to_owned() });
    assert_eq!(play.through("a").await, Outcome::Done);
    assert_eq!(play.see("a"), There::Whole);
}

#[tokio::test]
async fn a_way_back_is_only_gone_when_asked_for() {
    let mut play = out_and_back();
    assert_eq!(play.go(Verb::Advance, None).await, Outcome::Done);
    assert_eq!((play.see("out"), play.see("back")), (There::Whole, There::Nothing));
}

/// With a step that belongs to the way back, and a gate behind both ways.
fn accompanied() -> Play {
    let steps = vec![
        Toy::undoable("a"),
        Toy::gate("ready"),
        Toy::new("out", Reversal::OneWay),
        Toy::companion("beside", "back"),
        Toy::gate("ready-back").until("back"),
        Toy::back_from("back", "out"),
        Toy::gate("soak"),
    ];
    let play = Play::new(steps);
    play.world.ways_back.lock().unwrap().insert(StepId::new("out"), StepId::new("back"));
    play
}

/// A way back whose process died in this step.
async fn cut_off_in(step: &'static str) -> Play {
    let mut play = accompanied();
    play.through("out").await;
    play.world.fault(&StepId::new(step), Fault::DiesHalf);
    halt(play.through("back").await);
    assert_eq!(play.state().step(step).unwrap().phase, StepPhase::Running);
    play
}

#[tokio::test]
async fn what_belongs_to_a_way_back_is_made_on_that_way_alone_and_once() {
    let mut play = accompanied();
    assert_eq!(play.through("soak").await, Outcome::Done);
    assert_eq!(count(&play, "forward beside"), 0, "green is watched, and nobody goes back");
    for _ in 0..2 {
        assert_eq!(play.through("back").await, Outcome::Done);
        assert_eq!((count(&play, "forward beside"), play.see("beside")), (1, There::Whole));
        assert_eq!(play.through("out").await, Outcome::Done);
    }
    let asked = play.world.asked();
    let first = |what: &str| asked.iter().position(|asked| asked == what);
    assert!(first("forward beside") < first("forward ready-back"), "{asked:?}");
}

#[tokio::test]
async fn what_belongs_to_a_way_back_and_was_cut_off_is_ended_wherever_the_run_goes_then() {
    for through in ["soak", "out", "a", "back"] {
        let mut play = cut_off_in("beside").await;
        assert_eq!(play.through(through).await, Outcome::Done, "{through}");
        let phase = play.state().step("beside").unwrap().phase;
        assert_eq!((phase, play.see("beside")), (StepPhase::Done, There::Whole), "{through}");
        let serves = if through == "back" { "back" } else { "out" };
        assert_eq!(play.see(serves), There::Whole, "{through}");
    }
}

#[tokio::test]
async fn a_gate_further_on_that_said_no_blocks_nothing() {
    let steps = vec![Toy::undoable("a"), Toy::gate("ready"), Toy::new("out", Reversal::OneWay), Toy::gate("later")];
    let mut play = Play::new(steps);
    play.world.fault(&StepId::new("later"), Fault::Clean);
    assert_eq!(halt(play.go(Verb::Advance, None).await).kind, FailureKind::Failed);
    assert_eq!(play.through("out").await, Outcome::Done);
}

#[tokio::test]
async fn a_gate_of_a_way_back_whose_process_died_blocks_no_other_way() {
    for through in ["soak", "out", "a", "back"] {
        let mut play = cut_off_in("ready-back").await;
        assert_eq!(play.through(through).await, Outcome::Done, "{through}");
        assert_eq!(play.through("back").await, Outcome::Done, "after {through}");
        assert_eq!((play.see("out"), play.see("back")), (There::Nothing, There::Whole), "{through}");
    }
}
