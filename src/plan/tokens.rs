//! SQL cut into tokens, as far as the plan's rules need it: names, quoted things, `$values`. Understands no grammar.

/// One token of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An unquoted name or key word, in lower case.
    Word(String),
    /// A quoted name.
    Quoted(String),
    /// A string, without its quotes.
    Text(String),
    /// A number.
    Number(String),
    /// `$name`.
    Value(String),
    /// `$1`.
    Parameter(String),
    /// Any other character.
    Sign(char),
    /// A quote or comment that never ends.
    Unclosed(&'static str),
}

/// A token and the byte it starts at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Cuts SQL into tokens; comments and white space are left out.
pub(super) fn tokens(sql: &str) -> Vec<At> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (token, length) = match next {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => comment(rest),
            '\'' => quoted(rest, '\'', false, Token::Text),
            '"' => quoted(rest, '"', false, Token::Quoted),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                let (token, length) = quoted(&rest[1..], '\'', true, Token::Text);
                (token, length + 1)
            }
            '$' => dollar(rest),
            c if c.is_ascii_digit() => number(rest),
            c if c.is_alphabetic() || c == '_' => {
                let length = name_length(rest);
                (Some(Token::Word(rest[..length].to_lowercase())), length)
            }
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        found.extend(token.map(|token| At { token, start: at, end: at + length }));
        at += length;
    }
    found
}

type Cut = (Option<Token>, usize);

/// A comment, which may hold comments.
fn comment(rest: &str) -> Cut {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (None, at);
            }
        } else {
            at += 1;
        }
    }
    (Some(Token::Unclosed("comment")), rest.len())
}

/// Something in quotes; a doubled quote stands for one.
fn quoted(rest: &str, quote: char, escapes: bool, wrap: fn(String) -> Token) -> Cut {
    let mut inner = String::new();
    let mut letters = rest.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if escapes && letter == '\\' {
            inner.extend(letters.next().map(|(_, escaped)| escaped));
        } else if letter != quote {
            inner.push(letter);
        } else if letters.next_if(|(_, following)| *following == quote).is_some() {
            inner.push(quote);
        } else {
            return (Some(wrap(inner)), at + quote.len_utf8());
        }
    }
    (Some(Token::Unclosed("quote")), rest.len())
}

/// `$1`, `$name`, `$$…$$` or `$tag$…$tag$`.
fn dollar(rest: &str) -> Cut {
    let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        return (Some(Token::Parameter(rest[1..=digits].to_owned())), digits + 1);
    }
    let name = rest[1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
    if rest[1 + name..].starts_with('$') {
        let tag = &rest[..name + 2];
        return match rest[tag.len()..].find(tag) {
            Some(inner) => (Some(Token::Text(rest[tag.len()..tag.len() + inner].to_owned())), inner + 2 * tag.len()),
            None => (Some(Token::Unclosed("quote")), rest.len()),
        };
    }
    match name {
        0 => (Some(Token::Sign('$')), 1),
        _ => (Some(Token::Value(rest[1..=name].to_owned())), name + 1),
    }
}

fn number(rest: &str) -> Cut {
    let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'_').count();
    (Some(Token::Number(rest[..length].to_owned())), length)
}

fn name_length(rest: &str) -> usize {
    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '$').map(char::len_utf8).sum()
}
