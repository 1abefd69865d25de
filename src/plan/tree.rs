//! YAML as a tree whose every node knows its place. Owns the reading of YAML; calls the parser; judges nothing about plans.
//!
//! serde stops at the first mistake, so the plan is first read into this tree, which later passes walk to the end.

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::borrow::Cow;
use std::ops::Range;

/// Deepest nesting of a plan; the deepest that the language has is seven.
const MAX_DEPTH: usize = 32;

/// A value with the bytes of the text it stands on.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) content: Content,
}

/// What a node holds, by YAML's core schema.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// Why the text is no tree; one mistake, since nothing after it can be trusted.
#[derive(Debug)]
pub(super) struct NotATree {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl Node {
    /// What a person calls this kind of value.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "true or false",
            Content::Integer(_) | Content::Number(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map of keys",
        }
    }

    /// The child under a key or an index, with the key's place when it has one.
    pub(super) fn child(&self, segment: &str) -> Option<(&Node, Option<Range<usize>>)> {
        match &self.content {
            Content::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == segment)
                .map(|entry| (&entry.node, Some(entry.key_span.clone()))),
            Content::List(items) => segment.parse::<usize>().ok().and_then(|i| items.get(i)).map(|node| (node, None)),
            _ => None,
        }
    }
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Node, NotATree> {
    let mut reader = Reader { events: Parser::new_from_str(text), length: text.len() };
    let root = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd, _) => break Node { span: 0..0, content: Content::Null },
            (event, span) => break reader.node(event, &span, 0)?,
        }
    };
    reader.end()?;
    Ok(root)
}

struct Reader<'a> {
    events: Parser<'a, serde_yaml::granit_parser::StrInput<'a>>,
    length: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), NotATree> {
        loop {
            match self.events.next() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => {
                    let at = error.marker().byte_offset().unwrap_or(0).min(self.length);
                    let hint = Some("look at the indentation and the quotes of this line and the one above it");
                    return Err(NotATree {
                        span: at..at,
                        message: format!("this is not YAML: {}", error.info()),
                        hint,
                    });
                }
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, NotATree> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(refused(place, format!("nested deeper than {MAX_DEPTH} levels"), None));
        }
        match event {
            Event::Scalar(value, style, _, tag) => {
                untagged(tag.is_some(), &place)?;
                Ok(Node { span: place, content: scalar(value, style) })
            }
            Event::SequenceStart(_, _, tag) => {
                untagged(tag.is_some(), &place)?;
                self.list(place, depth)
            }
            Event::MappingStart(_, _, tag) => {
                untagged(tag.is_some(), &place)?;
                self.map(place, depth)
            }
            Event::Alias(_) => Err(refused(
                place,
                "aliases are not part of a plan".to_owned(),
                Some("write the value out in each place"),
            )),
            other => Err(refused(place, format!("this is not a value ({other:?})"), None)),
        }
    }

    fn list(&mut self, span: Range<usize>, depth: usize) -> Result<Node, NotATree> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node { span, content: Content::List(items) }),
                (event, place) => items.push(self.node(event, &place, depth + 1)?),
            }
        }
    }

    fn map(&mut self, span: Range<usize>, depth: usize) -> Result<Node, NotATree> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node { span, content: Content::Map(entries) });
            }
            let key_span = self.place(&place);
            let Event::Scalar(key, ..) = event else {
                return Err(refused(key_span, "a key must be text".to_owned(), None));
            };
            let (event, place) = self.next()?;
            let node = self.node(event, &place, depth + 1)?;
            entries.push(Entry { key: key.into_owned(), key_span, node });
        }
    }

    /// Refuses whatever follows the document.
    fn end(&mut self) -> Result<(), NotATree> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, span) => return Err(refused(self.place(&span), "a plan is one YAML document".to_owned(), None)),
            }
        }
    }

    fn place(&self, span: &Span) -> Range<usize> {
        let start = span.start.byte_offset().unwrap_or(0).min(self.length);
        let end = span.end.byte_offset().unwrap_or(start).clamp(start, self.length);
        start..end
    }
}

fn refused(span: Range<usize>, message: String, hint: Option<&'static str>) -> NotATree {
    NotATree { span, message, hint }
}

fn untagged(tagged: bool, place: &Range<usize>) -> Result<(), NotATree> {
    if tagged {
        return Err(refused(place.clone(), "tags are not part of a plan".to_owned(), Some("leave the `!…` out")));
    }
    Ok(())
}

/// A scalar by YAML's core schema: only plain ones can be anything but text.
fn scalar(value: Cow<'_, str>, style: ScalarStyle) -> Content {
    if style != ScalarStyle::Plain {
        return Content::Text(value.into_owned());
    }
    match value.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" => return Content::Bool(true),
        "false" | "False" | "FALSE" => return Content::Bool(false),
        _ => {}
    }
    let looks_numeric = value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if let (true, Ok(number)) = (looks_numeric, value.parse::<i64>()) {
        return Content::Integer(number);
    }
    match value.parse::<f64>() {
        Ok(number) if looks_numeric && number.is_finite() => Content::Number(number),
        _ => Content::Text(value.into_owned()),
    }
}
