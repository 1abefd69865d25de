//! One token of a canary, what the side that made it said of it, and what another may say.

use super::Expected;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Near its end a token may be either.
const NEAR_S: i64 = 60;

/// One token, and what was said of it. Never printed or kept in clear.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) token: String,
    pub(super) is_active: bool,
    /// Whether nobody knows that it lives any more: it may have been revoked meanwhile.
    #[serde(default)]
    pub(super) is_doubted: bool,
    /// What introspection said besides: subject, client, scope, audience, end.
    pub(super) said: Value,
}

impl Kept {
    /// A token of which introspection says this.
    pub(super) fn of(token: &str, said: &Value) -> Self {
        Self { token: token.to_owned(), is_active: said["active"] == true, is_doubted: false, said: identity(said) }
    }

    pub(super) fn judge(&self, said: &Value, expected: Expected, now_s: i64) -> Result<(), String> {
        let is_active = said["active"] == true;
        let ends_s = self.said["exp"].as_i64().filter(|end| *end > 0);
        let is_over = ends_s.is_some_and(|end| now_s >= end - NEAR_S);
        match (self.is_active && expected == Expected::AsOnBlue, is_active) {
            (false, true) if !self.is_active => Err("is active, and must not be".to_owned()),
            (false, true) => Err("is active, and the plan says that this side accepts none of blue's".to_owned()),
            (true, false) if !is_over && !self.is_doubted => Err("is not active any more".to_owned()),
            (true, true) if ends_s.is_some_and(|end| now_s > end + NEAR_S) => Err("is active after its end".to_owned()),
            (true, true) => {
                let found = identity(said);
                let names = ["sub", "client_id", "scope", "aud", "exp"];
                let other: Vec<&str> =
                    names.into_iter().filter(|name| !is_same(&found[*name], &self.said[*name])).collect();
                if other.is_empty() { Ok(()) } else { Err(format!("has another {} than on blue", other.join(", "))) }
            }
            _ => Ok(()),
        }
    }
}

/// Nothing and an empty list are one audience.
fn is_same(one: &Value, other: &Value) -> bool {
    let is_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    one == other || (is_nothing(one) && is_nothing(other))
}

/// The parts of introspection that must be the same on both sides.
fn identity(said: &Value) -> Value {
    let words = |value: &Value| {
        let mut words: Vec<String> = value.as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    json!({
        "sub": said["sub"], "client_id": said["client_id"], "scope": words(&said["scope"]), "aud": said["aud"], "exp": said["exp"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(is_active: bool, exp: i64) -> Kept {
        let said = identity(&json!({ "sub": "s", "client_id": "c", "scope": "b a", "aud": null, "exp": exp }));
        Kept { token: "t".into(), is_active, is_doubted: false, said }
    }

    fn said(change: &str, value: Value) -> Value {
        let mut said =
            json!({ "active": true, "sub": "s", "client_id": "c", "scope": "a b", "aud": [], "exp": 10_000 });
        said[change] = value;
        said
    }

    #[test]
    fn gates_hold_a_canary_to_what_blue_said() {
        let judge = |kept: &Kept, said: &Value| kept.judge(said, Expected::AsOnBlue, 1_000).err().unwrap_or_default();
        let (live, dead) = (kept(true, 10_000), kept(false, 0));
        assert_eq!(judge(&live, &said("active", json!(true))), "");
        assert!(judge(&live, &json!({ "active": false })).contains("not active any more"));
        for (name, value) in [("sub", json!("")), ("client_id", json!("d")), ("scope", json!("a")), ("exp", json!(9))] {
            assert_eq!(judge(&live, &said(name, value)), format!("has another {name} than on blue"));
        }
        assert_eq!(judge(&dead, &json!({ "active": false })), "");
        assert!(judge(&dead, &said("active", json!(true))).contains("must not be"));
    }

    #[test]
    fn gates_know_that_a_canary_ends_by_itself() {
        let at = |now, said: &Value| kept(true, 10_000).judge(said, Expected::AsOnBlue, now);
        let (dead, live) = (json!({ "active": false }), said("active", json!(true)));
        assert!(at(9_900, &dead).is_err());
        assert_eq!((at(9_950, &dead), at(9_950, &live)), (Ok(()), Ok(())), "near its end either will do");
        assert_eq!(at(10_100, &dead), Ok(()));
        assert!(at(10_100, &live).is_err());
    }

    #[test]
    fn gates_can_be_told_that_a_side_accepts_none() {
        let judge = |kept: &Kept, said: &Value| kept.judge(said, Expected::None, 1_000);
        assert_eq!(judge(&kept(true, 10_000), &json!({ "active": false })), Ok(()));
        assert!(judge(&kept(true, 10_000), &said("active", json!(true))).is_err());
        assert!(judge(&kept(false, 0), &said("active", json!(true))).is_err());
    }

    #[test]
    fn gates_take_either_of_a_token_that_may_have_been_revoked() {
        let doubted = Kept { is_doubted: true, ..kept(true, 10_000) };
        let judge = |said: &Value| doubted.judge(said, Expected::AsOnBlue, 1_000);
        assert_eq!(judge(&json!({ "active": false })), Ok(()));
        assert_eq!(judge(&said("active", json!(true))), Ok(()));
        assert!(judge(&said("sub", json!("somebody"))).is_err(), "one that lives is still who it was");
    }
}
