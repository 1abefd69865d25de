//! The fold takes every pair the engine writes and calls every other one damage, with its place.

use cutover::journal::{Kind, Record, RunState};
use jiff::Timestamp;
use serde_json::Value;

const KINDS: [Kind; 15] = [
    Kind::Opened,
    Kind::Intent,
    Kind::Done,
    Kind::Failed,
    Kind::Note,
    Kind::Held,
    Kind::Lapsed,
    Kind::Superseded,
    Kind::Unwinding,
    Kind::Undoing,
    Kind::Undone,
    Kind::UndoFailed,
    Kind::RolledBack,
    Kind::Halted,
    Kind::Arrived,
];

fn records(kinds: &[Kind]) -> Vec<Record> {
    let record = |(place, kind): (usize, &Kind)| Record {
        seq: place as i64 + 1,
        at: Timestamp::UNIX_EPOCH,
        term: 1,
        kind: *kind,
        step: kind.is_of_step().then(|| "a".to_owned()),
        body: Value::Null,
        hash: [0; 32],
    };
    kinds.iter().enumerate().map(record).collect()
}

/// The kinds that may follow `kinds`, for one and the same step.
fn may_follow(kinds: &[Kind]) -> Vec<Kind> {
    RunState::fold(&records(kinds)).expect("the beginning is sound");
    let follows = |kind: &Kind| RunState::fold(&records(&[kinds, &[*kind]].concat())).is_ok();
    KINDS.into_iter().filter(follows).collect()
}

#[test]
fn only_the_listed_pairs_are_possible() {
    use Kind::{Arrived, Done, Failed, Halted, Held, Intent, Lapsed, Note, Opened, Superseded};
    use Kind::{RolledBack, UndoFailed, Undoing, Undone, Unwinding};
    let (run, back) = ([Unwinding, Halted, Arrived], [RolledBack, Halted, Arrived]);
    let with = |before: &[Kind], mine: &[Kind], after: &[Kind]| [&[Opened], before, mine, after].concat();
    assert_eq!(may_follow(&[]), with(&[Intent], &[], &run));
    assert_eq!(may_follow(&[Intent]), with(&[Intent, Done, Failed, Note], &[], &run));
    assert_eq!(may_follow(&[Intent, Failed]), with(&[Intent], &[], &run));
    assert_eq!(
        may_follow(&[Intent, Done]),
        with(&[Intent, Note, Held, Lapsed, Superseded], &[], &run),
        "asked again, it may note"
    );
    assert_eq!(may_follow(&[Intent, Done, Superseded]), with(&[Intent], &[], &run), "it can be made again");
    for begun in [vec![Intent], vec![Intent, Failed], vec![Intent, Done]] {
        let unwinding = [begun, vec![Unwinding]].concat();
        assert_eq!(may_follow(&unwinding), with(&[], &[Undoing], &back));
    }
    let undoing = [Intent, Done, Unwinding, Undoing];
    assert_eq!(may_follow(&undoing), with(&[Note], &[Undoing, Undone, UndoFailed], &back));
    assert_eq!(may_follow(&[&undoing[..], &[UndoFailed]].concat()), with(&[], &[Undoing], &back));
    assert_eq!(may_follow(&[&undoing[..], &[Undone]].concat()), with(&[], &[], &back));
    assert_eq!(may_follow(&[Unwinding, RolledBack]), []);
}

#[test]
fn damage_is_reported_with_its_place() {
    let place = |records: &[Record]| RunState::fold(records).unwrap_err().seq;
    let sound = records(&[Kind::Intent, Kind::Done, Kind::Halted]);

    let mut gap = sound.clone();
    gap.remove(1);
    assert_eq!(place(&gap), 3);

    let mut older = sound.clone();
    older[2].term = 0;
    assert_eq!(place(&older), 3);

    let mut nameless = sound.clone();
    nameless[1].step = None;
    assert_eq!(place(&nameless), 2);

    let mut other = sound.clone();
    other[1].step = Some("b".to_owned());
    assert_eq!(place(&other), 2, "an outcome of a step without an intent");

    let mut early = records(&[Kind::Intent, Kind::Intent]);
    early[1].step = Some("b".to_owned());
    assert_eq!(place(&early), 2, "an intent before the outcome of the step before");
}
