//! The section `prepare`: each value by commands, or over HTTP; absolute, and with the place where it goes.

use crate::plan::document as typed;
use crate::plan::model::{HttpRequest, Prepare, PrepareBy, VALUE, with_value};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use serde_json::Value;
use std::time::Duration;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn prepare(&mut self, typed: &[typed::Prepare]) -> Vec<Prepare> {
        let place = Place::top("prepare");
        typed.iter().enumerate().filter_map(|(index, one)| self.prepared(&place.index(index), one)).collect()
    }

    fn prepared(&mut self, place: &Place, typed: &typed::Prepare) -> Option<Prepare> {
        let name = self.name(&place.key("name"), &typed.name);
        let within = self.length(&place.key("within"), &typed.within).unwrap_or(Duration::from_secs(1));
        let after = typed.takes_effect_after.as_ref();
        let takes_effect_after = after.and_then(|after| self.length(&place.key("takes_effect_after"), after));
        let value = self.absolute(&place.key("value"), &typed.value)?;
        let by = match (&typed.command, &typed.http) {
            (Some(command), None) => self.prepared_by_command(&place.key("command"), command),
            (None, Some(http)) => self.prepared_over_http(&place.key("http"), http)?,
            _ => {
                let hint = "`command` for a value that a program sets, `http` for one that a service sets";
                self.problems.key(place, format!("`{place}` must have exactly one of `command` and `http`"), hint);
                return None;
            }
        };
        Some(Prepare {
            name,
            value,
            lengthens_jwt: typed.tokens == typed::PrepareTokens::Jwt,
            takes_effect_after: takes_effect_after.unwrap_or_default(),
            by,
            within,
        })
    }

    /// A value that is the same however often it is set.
    fn absolute(&mut self, place: &Place, typed: &typed::PrepareValue) -> Option<Value> {
        let text = match typed {
            typed::PrepareValue::Truth(truth) => return Some(Value::Bool(*truth)),
            typed::PrepareValue::Number(number) => return Some(Value::from(*number)),
            typed::PrepareValue::Text(text) => self.text(place, text)?,
        };
        let is_relative = text.starts_with(['+', '-', '*']) || text.ends_with('%');
        if is_relative || text.is_empty() {
            let hint =
                "the value itself, such as `4h0m0s`: a change of the present one would be another each time it is made";
            self.problems.value(place, format!("`{place}` is not an absolute value"), hint);
            self.problems.spoil(place.clone());
            return None;
        }
        Some(Value::String(text))
    }

    fn prepared_by_command(&mut self, place: &Place, typed: &typed::PrepareCommand) -> PrepareBy {
        let (read, env) = self.program_at(place, "read", &typed.read, &typed.env);
        let (set, _) = self.program_at(place, "set", &typed.set, &Default::default());
        if !set.iter().skip(1).any(|word| word == VALUE) {
            self.has_no_value(&place.key("set"), "an argument of it must be `$value`");
        }
        PrepareBy::Command { read, set, env }
    }

    fn prepared_over_http(&mut self, place: &Place, typed: &typed::PrepareHttp) -> Option<PrepareBy> {
        let bearer = typed.bearer.as_ref().and_then(|bearer| self.bearer(&place.key("bearer"), bearer));
        let read = self.request_url(&place.key("read").key("url"), &typed.read.url);
        let set = self.request_url(&place.key("set").key("url"), &typed.set.url);
        let pointer = typed.read.pointer.clone();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let place = place.key("read").key("pointer");
            self.problems.value(
                &place,
                format!("`{place}` is not a JSON pointer"),
                "such as `/lifespan`; empty for the whole answer",
            );
        }
        let place = place.key("set").key("body");
        let body = self.body(&place, &typed.set.body)?;
        if with_value(&body, &Value::Null) == with_value(&body, &Value::Bool(true)) {
            self.has_no_value(&place, "a text in it must be `$value`");
        }
        let request = |method, url| HttpRequest { method, url };
        let (read, set) = (request("GET", read?), request(typed.set.method.word(), set?));
        Some(PrepareBy::Http { read, pointer, set, body, bearer })
    }

    fn has_no_value(&mut self, place: &Place, hint: &str) {
        self.problems.value(place, format!("`{place}` does not say where the value goes"), hint);
    }

    /// A body with the references in its texts filled in.
    fn body(&mut self, place: &Place, typed: &Value) -> Option<Value> {
        match typed {
            Value::String(text) => self.text(place, text).map(Value::String),
            Value::Array(items) => items.iter().map(|item| self.body(place, item)).collect(),
            Value::Object(members) => {
                let members = members.iter().map(|(name, member)| Some((name.clone(), self.body(place, member)?)));
                members.collect::<Option<_>>().map(Value::Object)
            }
            other => Some(other.clone()),
        }
    }
}
