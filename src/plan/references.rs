//! `${NAME}` in a plan's text. Owns their syntax; the values come from a lookup that the caller gives and are never shown.

/// A piece of a text with references.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text that stands for itself.
    Plain(&'a str),
    /// The name of a variable, and the reference as typed.
    Name { name: &'a str, typed: &'a str },
    /// Something that begins like a reference and is none, as typed.
    Broken(&'a str),
}

/// Cuts a text into plain pieces and references; `$${` stands for a plain `${`.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if at > 0 && rest.as_bytes()[at - 1] == b'$' {
            pieces.push(Piece::Plain(&rest[..at - 1]));
            pieces.push(Piece::Plain("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Plain(&rest[..at]));
        let Some(end) = rest[at..].find('}').map(|end| at + end + 1) else {
            pieces.push(Piece::Broken(&rest[at..at + 2]));
            return pieces;
        };
        let (typed, name) = (&rest[at..end], &rest[at + 2..end - 1]);
        pieces.push(if is_name(name) { Piece::Name { name, typed } } else { Piece::Broken(typed) });
        rest = &rest[end..];
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// True when a text holds a reference or something that begins like one.
pub(super) fn has_reference(text: &str) -> bool {
    pieces(text).iter().any(|piece| !matches!(piece, Piece::Plain(_)))
}

/// True for a name that a variable of the environment can have.
pub(super) fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
