//! What a plan's `prepare` cannot say together with the rest.

use super::super::document::Document;
use super::super::model::Plan;
use super::super::place::Place;
use super::super::problem::Problems;
use super::unique;

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("prepare");
    unique(problems, &place, "name", "prepared values", document.prepare.iter().map(|one| one.name.as_str()));
    if document.prepare.is_empty() {
        return;
    }
    if plan.systems.is_empty() && document.systems.is_empty() {
        let hint = "values are prepared for the flip, and a plan without `systems` has none: leave `prepare` out";
        problems.key(&place, "there is `prepare` but there are no `systems`", hint);
    }
    let late = document.prepare.iter().position(|one| one.takes_effect_after.is_some());
    if let Some(index) = late.filter(|_| document.window.opens.is_none()) {
        let place = place.index(index).key("takes_effect_after");
        let hint =
            "say when the window opens, so that a run that begins too late is refused before anything is changed";
        problems.key(&place, format!("`{place}` needs `window.opens`"), hint);
    }
}
