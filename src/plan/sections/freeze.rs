//! The section `freeze`: each job by commands, or over HTTP.

use crate::plan::document as typed;
use crate::plan::model::{Freeze, FreezeBy, HttpRequest, Secret};
use crate::plan::place::Place;
use crate::plan::references;
use crate::plan::resolve::Resolver;
use std::time::Duration;

/// Fewest characters of a token of our own.
const LEAST_TOKEN: usize = 16;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn freeze(&mut self, typed: &[typed::Freeze]) -> Vec<Freeze> {
        let place = Place::top("freeze");
        typed.iter().enumerate().filter_map(|(index, job)| self.frozen_job(&place.index(index), job)).collect()
    }

    fn frozen_job(&mut self, place: &Place, typed: &typed::Freeze) -> Option<Freeze> {
        let name = self.name(&place.key("name"), &typed.name);
        let within = self.length(&place.key("within"), &typed.within).unwrap_or(Duration::from_secs(1));
        let by = match (&typed.command, &typed.http) {
            (Some(command), None) => self.frozen_by_command(&place.key("command"), command),
            (None, Some(http)) => self.frozen_over_http(&place.key("http"), http)?,
            _ => {
                let hint = "`command` for a job that a program stops, `http` for one that listens";
                self.problems.key(place, format!("`{place}` must have exactly one of `command` and `http`"), hint);
                return None;
            }
        };
        Some(Freeze { name, by, within })
    }

    fn frozen_by_command(&mut self, place: &Place, typed: &typed::FreezeCommand) -> FreezeBy {
        let (freeze, env) = self.program_at(place, "freeze", &typed.freeze, &typed.env);
        let (thaw, _) = self.program_at(place, "thaw", &typed.thaw, &Default::default());
        let verify =
            (!typed.verify.is_empty()).then(|| self.program_at(place, "verify", &typed.verify, &Default::default()).0);
        FreezeBy::Command { freeze, thaw, verify, env }
    }

    fn frozen_over_http(&mut self, place: &Place, typed: &typed::FreezeHttp) -> Option<FreezeBy> {
        let bearer = typed.bearer.as_ref().and_then(|bearer| self.bearer(&place.key("bearer"), bearer));
        let freeze = self.request(&place.key("freeze"), &typed.freeze);
        let thaw = self.request(&place.key("thaw"), &typed.thaw);
        let verify = typed.verify.as_ref().and_then(|verify| self.request(&place.key("verify"), verify));
        Some(FreezeBy::Http { freeze: freeze?, thaw: thaw?, verify, bearer })
    }

    /// A token that comes from the environment: the plan's text is kept in the journal.
    pub(in crate::plan) fn bearer(&mut self, place: &Place, typed: &str) -> Option<Secret> {
        if !references::has_reference(typed) {
            let hint = "put it into a variable and write `${NAME}`: the plan is kept in the journal";
            self.problems.value(place, format!("`{place}` holds a token"), hint);
            self.problems.spoil(place.clone());
            return None;
        }
        let token = self.text(place, typed)?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint = "letters, digits and signs, without white space";
            self.problems.value(place, format!("`{place}` is no token that a header can hold"), hint);
            return None;
        }
        Some(Secret::new(token))
    }

    /// The token of those who may add revocations; one that can be guessed is none.
    pub(in crate::plan) fn added_token(&mut self, place: &Place, typed: &typed::AddedRevocations) -> Option<Secret> {
        let place = place.key("revocations").key("token");
        let token = self.bearer(&place, &typed.token)?;
        if token.expose().len() < LEAST_TOKEN {
            let hint = "at least 16 characters, made by chance";
            self.problems.value(&place, format!("`{place}` is too short for a token"), hint);
            return None;
        }
        Some(token)
    }

    fn request(&mut self, place: &Place, typed: &typed::FreezeRequest) -> Option<HttpRequest> {
        let url = self.request_url(&place.key("url"), &typed.url)?;
        Some(HttpRequest { method: typed.method.word(), url })
    }

    /// The URL of an HTTP service, without credentials.
    pub(super) fn request_url(&mut self, place: &Place, typed: &str) -> Option<String> {
        let text = self.text(place, typed)?;
        let hint = "such as `http://127.0.0.1:8080/pause`; a token belongs into `bearer`";
        match url::Url::parse(&text) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                self.problems.value(place, format!("`{place}` holds credentials"), hint);
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.fragment().is_none() => {
                return Some(text);
            }
            _ => self.problems.value(place, format!("`{place}` is not the URL of an HTTP service"), hint),
        }
        self.problems.spoil(place.clone());
        None
    }
}
