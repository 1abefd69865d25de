//! Where something stands in a file, and what is wrong there.

use super::split::{Token, lines, next};
use std::fmt;
use std::path::PathBuf;

/// A line and a column, both from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The place of a byte of a text.
    #[must_use]
    pub fn of(text: &str, byte: usize) -> Self {
        let before = &text[..text.floor_char_boundary(byte)];
        let line = before.rfind(['\n', '\r']).map_or(before, |at| &before[at + 1..]);
        Self { line: lines(before) + 1, column: line.chars().count() + 1 }
    }
}

/// What is wrong in a file, so that it can neither run nor be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where, when it is a place in the text.
    pub place: Option<Place>,
    /// What, and what to do.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.path.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(out, ":{line}:{column}")?;
        }
        write!(out, ": {}", self.why)
    }
}

/// The text of a file's bytes, or where and why they are none.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, (Option<Place>, String)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((Some(Place { line: 1, column: 1 }), "is UTF-16; save it as UTF-8".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let known = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let byte = bytes[error.valid_up_to()];
        let why = format!("holds the byte 0x{byte:02x}, which is not UTF-8: the file mixes encodings or is in another; save it as UTF-8");
        (Some(Place::of(known, known.len())), why)
    })?;
    let at = |byte| Some(Place::of(text, byte));
    if let Some(byte) = text.find('\u{feff}') {
        return Err((at(byte), "holds a byte order mark, at which the server stops; save it without".to_owned()));
    }
    if let Some(byte) = text.find('\0') {
        return Err((at(byte), "holds a zero byte, which the server takes in no text".to_owned()));
    }
    Ok(text)
}

/// What only `psql` understands, and what never ends: the first of them and its byte.
pub(super) fn unusable(text: &str) -> Option<(usize, String)> {
    let (mut at, mut words, mut open): (usize, Vec<String>, Vec<usize>) = (0, Vec::new(), Vec::new());
    while let Some((token, length)) = next(&text[at..]) {
        let piece = &text[at..at + length];
        if let Some(what) = endless(piece) {
            return Some((at, format!("begins a {what} that never ends")));
        }
        match token {
            Some(Token::Sign('\\')) => {
                let command: String = text[at..].chars().take_while(|c| !c.is_whitespace()).take(20).collect();
                return Some((at, format!("`{command}` is a command of psql; a migration holds SQL alone")));
            }
            Some(Token::Sign(';')) if open.is_empty() => words.clear(),
            Some(Token::Sign('(')) => open.push(at),
            Some(Token::Sign(')')) => {
                open.pop();
            }
            Some(Token::Word(word)) if open.is_empty() => {
                let is_data = word == "stdin" && words.first().is_some_and(|first| first == "copy");
                if is_data && words.last().is_some_and(|last| last == "from") {
                    let why =
                        "`copy … from stdin` reads data that follow, which only psql does; write `insert` statements";
                    return Some((at, why.to_owned()));
                }
                words.push(word);
            }
            _ => {}
        }
        at += length;
    }
    open.first().map(|at| (*at, "opens a parenthesis that is never closed".to_owned()))
}

/// What a piece opens and does not close.
fn endless(piece: &str) -> Option<&'static str> {
    let body = piece.strip_prefix(['e', 'E']).filter(|rest| rest.starts_with('\'')).unwrap_or(piece);
    let is_escaped = body.len() != piece.len();
    match body.chars().next()? {
        '/' if body.starts_with("/*") && !is_closed_comment(body) => Some("comment"),
        '\'' if !is_closed(body, '\'', is_escaped) => Some("string"),
        '"' if !is_closed(body, '"', false) => Some("quoted name"),
        '$' if body.len() > 1 => {
            let tag = &body[..body[1..].find('$')? + 2];
            (body.len() < 2 * tag.len() || !body.ends_with(tag)).then_some("dollar-quoted string")
        }
        _ => None,
    }
}

/// Whether a comment is as long when more follows that would end it.
fn is_closed_comment(body: &str) -> bool {
    next(&format!("{body}*/")).is_some_and(|(_, length)| length == body.len())
}

fn is_closed(body: &str, quote: char, escapes: bool) -> bool {
    let mut inner = body.chars().skip(1).peekable();
    while let Some(c) = inner.next() {
        if escapes && c == '\\' {
            inner.next();
        } else if c == quote && inner.next_if_eq(&quote).is_none() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(Place, String)> {
        unusable(text).map(|(at, why)| (Place::of(text, at), why))
    }

    #[test]
    fn names_the_place_of_what_cannot_run() {
        let cases = [
            ("select 1;\n\\connect other", 2, 1, "command of psql"),
            ("copy t (a) from stdin;\n1\n\\.\n", 1, 17, "from stdin"),
            ("select 1;\n  select 'a;", 2, 10, "string that never ends"),
            ("select E'a\\'", 1, 8, "string that never ends"),
            ("select \"a", 1, 8, "quoted name that never ends"),
            ("do $x$ begin end $y$", 1, 4, "dollar-quoted string that never ends"),
            ("select 1 /* /* */", 1, 10, "comment that never ends"),
            ("select 1 /*/ /* */", 1, 10, "comment that never ends"),
            ("create table t (\n  a int", 1, 16, "parenthesis that is never closed"),
        ];
        for (text, line, column, why) in cases {
            let (place, said) = found(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((place, true), (Place { line, column }, said.contains(why)), "{text}: {said}");
        }
    }

    #[test]
    fn lets_pass_what_the_server_takes() {
        for text in [
            "select '\\', E'\\'', $$\\d$$, \"\\\" -- \\d",
            "copy t to stdout; create table stdin (a int)",
            "/* /* a */ */ select $1, $a$ $b$ $a$",
            "/**/ select '' , \"a\"\"b\"",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn decodes_only_plain_text() {
        for (bytes, line, why) in [
            (b"\xef\xbb\xbfselect 1".as_slice(), 1, "byte order mark"),
            (b"\xff\xfes\0", 1, "UTF-16"),
            (b"select 1;\nselect 'M\xfcller'", 2, "0xfc"),
            (b"select 1;\r\n\0", 2, "zero byte"),
        ] {
            let (place, said) = decode(bytes).expect_err(why);
            assert_eq!((place.map(|place| place.line), said.contains(why)), (Some(line), true), "{said}");
        }
        assert_eq!(decode("select 'Müller';\r\n".as_bytes()), Ok("select 'Müller';\r\n"));
    }
}
