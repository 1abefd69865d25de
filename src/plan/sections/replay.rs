//! The section `revocations.replay`: requests with values in them and statements with parameters, never a text that a value could break out of.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{Replay, ReplayHttp, ReplayPiece, ReplayRequest, ReplaySql, ReplayStatements, Sql};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::Kind;
use crate::plan::tokens::{Token, tokens};
use std::collections::BTreeSet;

/// The values that a request may hold.
const SUBJECT: (&str, ReplayPiece) = ("subject", ReplayPiece::Subject);
const CLIENT: (&str, ReplayPiece) = ("client", ReplayPiece::Client);

impl Resolver<'_, '_> {
    pub(in crate::plan) fn replay(&mut self, typed: &typed::Replay) -> Replay {
        let place = Place::top("revocations").key("replay");
        let http = typed.http.as_ref().map(|http| self.replay_http(&place.key("http"), http));
        let place = place.key("sql");
        let mut sql: Vec<ReplaySql> = Vec::new();
        for (index, one) in typed.sql.iter().enumerate() {
            let place = place.index(index);
            let one = self.replay_sql(&place, one);
            if sql.iter().any(|other| other.name == one.name) {
                let place = place.key("name");
                let hint = "give each its own name: it stands in what is told of them";
                self.problems.value(&place, format!("`{place}` is the name of another one"), hint);
            }
            sql.push(one);
        }
        Replay { http, sql }
    }

    fn replay_sql(&mut self, place: &Place, typed: &typed::ReplaySql) -> ReplaySql {
        if typed.blue.is_none() && typed.green.is_none() {
            self.problems.key(place, format!("`{place}` is run on no side"), "give it `green`, `blue` or both");
        }
        let mut on = |key: &str, typed: &Option<typed::ReplayStatements>| {
            typed.as_ref().map(|typed| self.replay_statements(&place.key(key), typed))
        };
        let (blue, green) = (on("blue", &typed.blue), on("green", &typed.green));
        let doors = if typed.doors.is_empty() { &typed::Door::KILLING[..] } else { &typed.doors };
        ReplaySql {
            name: self.name(&place.key("name"), &typed.name),
            doors: doors.iter().copied().collect(),
            blue,
            green,
        }
    }

    fn replay_statements(&mut self, place: &Place, typed: &typed::ReplayStatements) -> ReplayStatements {
        let revoke = self.sql(&place.key("revoke"), &typed.revoke, Kind::Revoke).unwrap_or_else(no_sql);
        let alive = typed.alive.as_ref();
        let alive = alive.map(|alive| self.sql(&place.key("alive"), alive, Kind::Alive).unwrap_or_else(no_sql));
        let (mut names, mut calls) = (BTreeSet::new(), BTreeSet::new());
        for sql in [Some(&revoke), alive.as_ref()].into_iter().flatten() {
            add_names(sql, &mut names, &mut calls);
        }
        ReplayStatements { revoke, alive, names, calls }
    }

    fn replay_http(&mut self, place: &Place, typed: &typed::ReplayHttp) -> ReplayHttp {
        let mut request = |key: &str, typed: &Option<typed::ReplayRequest>, known: &[(&str, ReplayPiece)]| {
            typed.as_ref().map(|typed| self.replay_request(&place.key(key), typed, known))
        };
        let consents = request("consents", &typed.consents, &[SUBJECT, CLIENT]);
        let sessions = request("sessions", &typed.sessions, &[SUBJECT]);
        let client_tokens = request("client_tokens", &typed.client_tokens, &[CLIENT]);
        ReplayHttp {
            blue: self.http_url(&place.key("blue"), &typed.blue).unwrap_or_default(),
            green: self.http_url(&place.key("green"), &typed.green).unwrap_or_default(),
            headers: self.headers(place, &typed.headers),
            consents,
            sessions,
            client_tokens,
        }
    }

    /// Each of the values must be named somewhere: a request that does not say whom it means revokes too much.
    fn replay_request(
        &mut self,
        place: &Place,
        typed: &typed::ReplayRequest,
        known: &[(&str, ReplayPiece)],
    ) -> ReplayRequest {
        let path = self.replay_text(&place.key("path"), &typed.path, known);
        if !typed.path.starts_with('/') || typed.path.contains('#') {
            let hint = "such as `/users/{subject}`";
            self.problems.value(&place.key("path"), format!("`{place}.path` is no path after a base URL"), hint);
        }
        let mut body = std::collections::BTreeMap::new();
        for (member, text) in &typed.body {
            body.insert(member.clone(), self.replay_text(&place.key("body").key(member), text, known));
        }
        for (name, piece) in known {
            if !path.contains(piece) && !body.values().any(|text| text.contains(piece)) {
                let hint = "a request that does not say whom it means revokes too much";
                self.problems.key(place, format!("`{place}` does not name {{{name}}}"), hint);
            }
        }
        let method = match typed.method {
            typed::ReplayMethod::Post => "POST",
            typed::ReplayMethod::Put => "PUT",
            typed::ReplayMethod::Patch => "PATCH",
            typed::ReplayMethod::Delete => "DELETE",
        };
        ReplayRequest { method, path, body }
    }

    fn replay_text(&mut self, place: &Place, typed: &str, known: &[(&str, ReplayPiece)]) -> Vec<ReplayPiece> {
        let text = self.text(place, typed).unwrap_or_default();
        pieces(&text, known).unwrap_or_else(|what| {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("{{{name}}}")).collect();
            let hint = format!("it may hold {}", names.join(" and "));
            self.problems.value(place, format!("`{place}` holds {what}"), hint);
            Vec::new()
        })
    }
}

fn add_names(sql: &Sql, names: &mut BTreeSet<String>, calls: &mut BTreeSet<String>) {
    let tokens = tokens(&sql.text);
    for (index, at) in tokens.iter().enumerate() {
        let (Token::Word(name) | Token::Quoted(name)) = &at.token else { continue };
        names.insert(name.clone());
        if tokens.get(index + 1).is_some_and(|next| next.token == Token::Sign('(')) {
            calls.insert(name.clone());
        }
    }
}

fn pieces(text: &str, known: &[(&str, ReplayPiece)]) -> Result<Vec<ReplayPiece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(ReplayPiece::Text(before.to_owned()));
        }
        let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (name, after) = name.ok_or_else(|| "a brace without its other".to_owned())?;
        let piece = known.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("`{{{name}}}`"))?;
        pieces.push(piece.1.clone());
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(ReplayPiece::Text(rest.to_owned()));
    }
    Ok(pieces)
}
