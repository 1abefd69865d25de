//! What is wrong with a plan, and where. Owns the wording's frame (place, caret, hint), never the judgement itself.

use super::place::Place;
use super::tree::{Content, Node};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// One mistake in a plan. Quotes the plan's text, which holds the names of references and never their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the plan, from 1; 0 when the plan could not be read at all.
    pub line: usize,
    /// Column in the line, in characters from 1.
    pub column: usize,
    /// Key it is about, such as `window.hold`; empty for the whole plan.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The line with a caret under the place, ready to print.
    pub excerpt: String,
}

impl Problem {
    /// The event that `--json` prints, one a line.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Event<'a> {
            event: &'static str,
            line: usize,
            column: usize,
            path: &'a str,
            message: &'a str,
            hint: &'a str,
        }
        let Self { line, column, path, message, hint, .. } = self;
        let event = Event { event: "problem", line: *line, column: *column, path, message, hint };
        serde_json::to_value(event).unwrap_or_default()
    }

    /// A problem with one line of a file whose text must not be shown.
    pub(super) fn of_line(line: usize, column: usize, message: String, hint: &str) -> Self {
        let excerpt = format!("error: line {line}, column {column}: {message}");
        Self { line, column, path: String::new(), message, hint: hint.to_owned(), excerpt }
    }

    /// A problem without a place: the file itself.
    pub(super) fn of_file(message: String, hint: &str) -> Self {
        let excerpt = format!("error: {message}");
        Self { line: 0, column: 0, path: String::new(), message, hint: hint.to_owned(), excerpt }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.excerpt)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

/// Most problems told at once; who has more reads no further.
const MOST_TOLD: usize = 200;

/// Gathers problems while a plan is walked, so that all are told at once.
pub(super) struct Problems<'a> {
    text: &'a str,
    name: &'a str,
    root: Option<&'a Node>,
    /// Places already complained about: what follows from them is not told again.
    spoiled: Vec<Place>,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name, root: None, spoiled: Vec::new(), found: Vec::new() }
    }

    /// From now on places are looked up in this tree.
    pub(super) fn look_in(&mut self, root: &'a Node) {
        self.root = Some(root);
    }

    /// A problem with a value.
    pub(super) fn value(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.value_span(place);
        self.at(span, place, message, hint);
    }

    /// A problem with a key, or with something missing under it.
    pub(super) fn key(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.key_span(place);
        self.at(span, place, message, hint);
    }

    /// A problem with one piece of a value as typed, after `skip` others like it; with the whole value when it cannot be found there.
    pub(super) fn piece(
        &mut self,
        place: &Place,
        (piece, skip): (&str, usize),
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let whole = self.value_span(place);
        let found = self.text.get(whole.clone()).and_then(|typed| typed.match_indices(piece).nth(skip));
        let span = found.map_or(whole.clone(), |(at, _)| whole.start + at..whole.start + at + piece.len());
        self.at(span, place, message, hint);
    }

    /// A problem with some bytes of the plan.
    pub(super) fn at(
        &mut self,
        span: Range<usize>,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.is_spoiled(place) || self.found.len() >= MOST_TOLD {
            return;
        }
        let message = message.into();
        let (line, column) = line_and_column(self.text, span.start);
        let excerpt = excerpt(self.text, self.name, span, &message);
        self.found.push(Problem { line, column, path: place.to_string(), message, hint: hint.into(), excerpt });
    }

    /// From now on nothing is told about this place or what is under it.
    pub(super) fn spoil(&mut self, place: Place) {
        self.spoiled.push(place);
    }

    /// True when this place has been complained about already.
    pub(super) fn is_spoiled(&self, place: &Place) -> bool {
        self.spoiled.iter().any(|spoiled| place.is_within(spoiled))
    }

    /// True while nothing has been found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        self.found.dedup();
        self.found
    }

    fn value_span(&self, place: &Place) -> Range<usize> {
        match self.find(place) {
            Some((Node { content: Content::Map(_) | Content::List(_) | Content::Null, span }, key)) => {
                key.unwrap_or(span.start..span.start)
            }
            Some((node, _)) => node.span.clone(),
            None => self.key_span(&place.parent()),
        }
    }

    fn key_span(&self, place: &Place) -> Range<usize> {
        match self.find(place) {
            Some((_, Some(key))) => key,
            Some((node, None)) => node.span.start..node.span.start,
            None if place.is_root() => 0..0,
            None => self.key_span(&place.parent()),
        }
    }

    fn find(&self, place: &Place) -> Option<(&'a Node, Option<Range<usize>>)> {
        let mut found = (self.root?, None);
        for segment in place.segments() {
            found = found.0.child(&segment)?;
        }
        Some(found)
    }
}

/// Line and column, both from 1, the column in characters.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The line of the plan with a caret, passwords typed into a URL blotted out.
fn excerpt(text: &str, name: &str, span: Range<usize>, message: &str) -> String {
    let shown = blot_passwords(text);
    let line_end = shown[span.start..].find('\n').map_or(shown.len(), |at| span.start + at);
    let span = span.start..span.end.clamp(span.start, line_end);
    let annotation = AnnotationKind::Primary.span(span);
    let snippet = Snippet::source(shown.as_str()).path(name).annotation(annotation);
    Renderer::plain().render(&[Level::ERROR.primary_title(message).element(snippet)])
}

/// Replaces what stands between `user:` and `@` of a URL by as many asterisks, so that places stay.
fn blot_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let authority = after.find(|c: char| c.is_whitespace() || "/\"'".contains(c)).unwrap_or(after.len());
        rest = after;
        if let Some((login, _)) = after[..authority].rsplit_once('@')
            && let Some((user, password)) = login.split_once(':')
        {
            shown.push_str(user);
            shown.push(':');
            shown.extend(password.bytes().map(|_| '*'));
            rest = &after[login.len()..];
        }
    }
    shown.push_str(rest);
    shown
}
