//! The gate of the soak that looks at what the invariants came to right after the flip.

use super::Verdict;
use crate::database::invariants::Answer;
use serde_json::Value;

/// Whether every invariant held when both sides stood still. `noted` is what the flip has journalled; nothing, when its process ended too early.
#[must_use]
pub fn invariants_after(noted: &Value) -> Verdict {
    let answers: Option<Vec<Answer>> = serde_json::from_value(noted["answers"].clone()).ok();
    let Some(answers) = answers else {
        let why = noted["unclear"].as_str().unwrap_or("the process that flipped ended before it could ask");
        return Verdict::Unclear(format!("whether the invariants held when green opened is not known: {why}"));
    };
    let failed: Vec<String> = answers.iter().filter(|answer| !answer.holds).map(Answer::words).collect();
    if failed.is_empty() {
        return Verdict::Go;
    }
    Verdict::NoGo(format!("what held on blue did not hold when green opened: {}", failed.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gates_take_no_answer_for_no_proof() {
        let answer = |holds: bool| json!({ "name": "grants", "holds": holds, "blue": "5", "green": "4" });
        let noted = |answers: &[Value]| json!({ "answers": answers });
        assert_eq!(invariants_after(&noted(&[answer(true), answer(true)])), Verdict::Go);
        let Verdict::NoGo(why) = invariants_after(&noted(&[answer(true), answer(false)])) else { panic!("it failed") };
        assert!(why.contains("grants: 5 on blue, 4 on green"), "{why}");
        for unknown in [Value::Null, json!({ "unclear": "blue is down" }), json!({})] {
            assert!(matches!(invariants_after(&unknown), Verdict::Unclear(_)), "{unknown}");
        }
    }
}
