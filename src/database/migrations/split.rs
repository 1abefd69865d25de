//! A migration's text cut into statements, and how each may be sent. Pure; understands quotes and comments, not SQL's grammar.

/// What of a statement's text matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// An unquoted name or key word, in lower case.
    Word(String),
    /// A quoted name, without its quotes.
    Quoted(String),
    /// Any other character that is neither space nor comment; a string is one `'`.
    Sign(char),
}

/// One statement, without its semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// As it is sent: the file's text from `start` to `end`.
    pub text: String,
    /// Where what belongs to it begins: the byte behind the semicolon before it, so that its comments stand between `lead` and `start`.
    pub lead: usize,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// The byte behind its semicolon, or the end of the text without one.
    pub next: usize,
    /// The line of its first byte, from 1.
    pub line: usize,
    tokens: Vec<Token>,
}

/// An index that a statement builds concurrently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrentIndex {
    /// Its name; it comes to live in the table's schema.
    pub name: String,
    /// Its table: schema, when it is written, and name.
    pub table: (Option<String>, String),
}

/// How a statement may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// In a transaction with the mark that it was done.
    Transaction,
    /// Alone: it builds this index concurrently.
    Index(ConcurrentIndex),
    /// Alone, and again when its outcome is unknown.
    Alone,
    /// Not at all, for this reason.
    Refused(&'static str),
}

/// Words that begin a statement which the server takes only outside a transaction, or which may end one itself.
const ALONE: &[&[&str]] = &[
    &["vacuum"],
    &["call"],
    &["do"],
    &["cluster"],
    &["alter", "system"],
    &["create", "database"],
    &["drop", "database"],
    &["create", "tablespace"],
    &["drop", "tablespace"],
    &["create", "subscription"],
    &["drop", "subscription"],
    &["reindex"],
];
const TRANSACTION: &[&[&str]] = &[
    &["begin"],
    &["start", "transaction"],
    &["commit"],
    &["rollback"],
    &["end"],
    &["abort"],
    &["savepoint"],
    &["release"],
    &["prepare", "transaction"],
];

impl Statement {
    /// The first words, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        let line = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= 72 { line } else { line.chars().take(71).chain(['…']).collect() }
    }

    /// How it may be sent.
    #[must_use]
    pub fn manner(&self) -> Manner {
        if TRANSACTION.iter().any(|words| self.begins(words)) {
            return Manner::Refused("a migration may not begin or end a transaction itself");
        }
        let is_index = self.begins(&["create", "index", "concurrently"]);
        if is_index || self.begins(&["create", "unique", "index", "concurrently"]) {
            return match self.index(if is_index { 3 } else { 4 }) {
                Some(index) => Manner::Index(index),
                None => Manner::Refused(
                    "an index that is built concurrently needs a name, or what is left of it cannot be found",
                ),
            };
        }
        let is_concurrent = self.has("concurrently") && !self.begins(&["refresh"]);
        if is_concurrent || ALONE.iter().any(|words| self.begins(words)) { Manner::Alone } else { Manner::Transaction }
    }

    /// Whether it begins with these words.
    #[must_use]
    pub fn begins(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.is_word(at, word))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(found)) if found == word)
    }

    /// Whether a word stands in it, outside quotes.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        (0..self.tokens.len()).any(|at| self.is_word(at, word))
    }

    fn name(&self, at: usize) -> Option<String> {
        match self.tokens.get(at)? {
            Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
            Token::Sign(_) => None,
        }
    }

    /// Reads `[if not exists] NAME on [only] TABLE` from token `at`.
    fn index(&self, mut at: usize) -> Option<ConcurrentIndex> {
        if self.is_word(at, "if") && self.is_word(at + 1, "not") {
            at += 3;
        }
        if self.is_word(at, "on") || !self.is_word(at + 1, "on") {
            return None;
        }
        let name = self.name(at)?;
        at += if self.is_word(at + 2, "only") { 3 } else { 2 };
        let first = self.name(at)?;
        let table = match self.tokens.get(at + 1) {
            Some(Token::Sign('.')) => (Some(first), self.name(at + 2)?),
            _ => (None, first),
        };
        Some(ConcurrentIndex { name, table })
    }
}

/// Cuts a text at its semicolons and leaves out comments before a statement; not at those in strings, quoted names, dollar quotes, comments,
/// parentheses (a rule's actions) and `begin atomic` bodies.
#[must_use]
pub fn split(sql: &str) -> Vec<Statement> {
    let mut statements = Statements { sql, found: Vec::new(), lead: 0, line: 1, counted: 0 };
    let (mut start, mut at, mut depth, mut open) = (0, 0, 0_u32, 0_u32);
    let mut tokens: Vec<Token> = Vec::new();
    while let Some((token, length)) = next(&sql[at..]) {
        at += length;
        match token {
            Some(Token::Sign(';')) if depth == 0 && open == 0 => {
                statements.push(start, at - 1, at, std::mem::take(&mut tokens));
                start = at;
            }
            Some(token) => {
                if tokens.is_empty() {
                    start = at - length;
                }
                depth = nested(depth, &token, tokens.last());
                open = match token {
                    Token::Sign('(') => open + 1,
                    Token::Sign(')') => open.saturating_sub(1),
                    _ => open,
                };
                tokens.push(token);
            }
            None => {}
        }
    }
    statements.push(start, sql.len(), sql.len(), tokens);
    statements.found
}

struct Statements<'a> {
    sql: &'a str,
    found: Vec<Statement>,
    lead: usize,
    line: usize,
    /// Up to where lines were counted.
    counted: usize,
}

impl Statements<'_> {
    fn push(&mut self, start: usize, end: usize, next: usize, tokens: Vec<Token>) {
        if !tokens.is_empty() {
            let text = self.sql[start..end].trim_end().to_owned();
            self.line += lines(&self.sql[self.counted..start]);
            self.counted = start;
            let (lead, end, line) = (self.lead, start + text.len(), self.line);
            self.found.push(Statement { text, lead, start, end, next, line, tokens });
        }
        self.lead = next;
    }
}

/// How many lines end in a text; a carriage return with its line feed is one end.
pub(super) fn lines(text: &str) -> usize {
    let bytes = text.as_bytes();
    let ends = |(at, byte): (usize, &u8)| *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    bytes.iter().enumerate().filter(|one| ends(*one)).count()
}

/// How deep inside a `begin atomic … end` body we are after `token`.
fn nested(depth: u32, token: &Token, before: Option<&Token>) -> u32 {
    let Token::Word(word) = token else { return depth };
    let is_after_begin = matches!(before, Some(Token::Word(word)) if word == "begin");
    match word.as_str() {
        "atomic" if is_after_begin => depth + 1,
        "case" if depth > 0 => depth + 1,
        "end" => depth.saturating_sub(1),
        _ => depth,
    }
}

/// The next token, if it matters, and how many bytes it has; nothing at the end.
pub(in crate::database::migrations) fn next(rest: &str) -> Option<(Option<Token>, usize)> {
    let first = rest.chars().next()?;
    Some(match first {
        c if c.is_whitespace() => (None, c.len_utf8()),
        '-' if rest.starts_with("--") => (None, rest.find(['\n', '\r']).unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (None, comment(rest)),
        '\'' => (Some(Token::Sign('\'')), quoted(rest, '\'', false)),
        'e' | 'E' if rest[1..].starts_with('\'') => (Some(Token::Sign('\'')), 1 + quoted(&rest[1..], '\'', true)),
        '"' => {
            let length = quoted(rest, '"', false);
            let name = rest[1..length].strip_suffix('"').unwrap_or(&rest[1..length]).replace("\"\"", "\"");
            (Some(Token::Quoted(name)), length)
        }
        '$' => dollar(rest).map_or((Some(Token::Sign('$')), 1), |length| (Some(Token::Sign('\'')), length)),
        c if c.is_alphanumeric() || c == '_' => {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            (Some(Token::Word(rest[..length].to_lowercase())), length)
        }
        c => (Some(Token::Sign(c)), c.len_utf8()),
    })
}

/// Bytes of a comment, which may hold others; all of the text when it never ends.
fn comment(rest: &str) -> usize {
    let (mut at, mut depth) = (2, 1_u32);
    while depth > 0 && at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        let step = match (tail.starts_with(b"/*"), tail.starts_with(b"*/")) {
            (true, _) => (1, 2),
            (_, true) => (-1, 2),
            _ => (0, 1),
        };
        depth = depth.saturating_add_signed(step.0);
        at += step.1;
    }
    at.min(rest.len())
}

/// Bytes of something in quotes, in which a doubled quote, and after `escapes` a backslash, stands for itself.
fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + 1,
            }
        }
    }
    rest.len()
}

/// Bytes of a dollar-quoted string, or nothing when `$` begins none.
fn dollar(rest: &str) -> Option<usize> {
    let end = rest[1..].find('$')? + 2;
    let tag = &rest[..end];
    let name = &tag[1..end - 1];
    let is_name =
        !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| rest[end..].find(tag).map_or(rest.len(), |at| end + at + end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(sql: &str) -> Vec<String> {
        split(sql).into_iter().map(|statement| statement.text).collect()
    }

    fn manner(sql: &str) -> Manner {
        split(sql)[0].manner()
    }

    #[test]
    fn cuts_only_between_statements() {
        let sql = "select ';' ; select \"a;\"\"b\" -- ; no\n; /* ; /* ; */ ; */ select E'it\\';' ;;
            do $body$ begin; perform $$;$$; end $body$; select $1;\n-- the end;";
        let cut = texts(sql);
        assert_eq!(cut.len(), 5, "{cut:#?}");
        assert_eq!(cut[0], "select ';'");
        assert!(cut[3].ends_with("$body$"), "{cut:#?}");
        assert_eq!(
            texts(
                "create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3"
            )
            .len(),
            2
        );
        assert_eq!(texts("select typename'x;y'; select value$1").len(), 2);
        assert_eq!(texts("create rule r as on insert to t do (select 1; select ')'; select 2); select 3").len(), 2);
        assert!(texts(" ; -- nothing\n /* ; */").is_empty());
    }

    #[test]
    fn knows_what_must_stand_alone() {
        let index = |schema: Option<&str>, table: &str| {
            Manner::Index(ConcurrentIndex {
                name: "i".to_owned(),
                table: (schema.map(str::to_owned), table.to_owned()),
            })
        };
        assert_eq!(manner("-- why\nCREATE INDEX CONCURRENTLY i ON t (a)"), index(None, "t"));
        assert_eq!(
            manner("create unique index concurrently if not exists \"i\" on only S.\"T\" (a)"),
            index(Some("s"), "T")
        );
        assert!(matches!(manner("create index concurrently on t (a)"), Manner::Refused(_)));
        assert!(matches!(manner("COMMIT"), Manner::Refused(_)));
        assert_eq!(manner("drop index concurrently i"), Manner::Alone);
        assert_eq!(manner("vacuum t"), Manner::Alone);
        assert_eq!(manner("alter table p detach partition q concurrently"), Manner::Alone);
        assert_eq!(manner("refresh materialized view concurrently v"), Manner::Transaction);
        assert_eq!(manner("create index i on t (a)"), Manner::Transaction);
        assert_eq!(manner("comment on table t is 'create index concurrently'"), Manner::Transaction);
    }

    #[test]
    fn knows_where_each_stands() {
        let sql = "-- first\r\nselect 1;\n\n/* why */ select\n2 ;\rselect 3 -- end";
        let cut = split(sql);
        let places: Vec<_> =
            cut.iter().map(|one| (one.line, &sql[one.lead..one.start], &sql[one.start..one.end])).collect();
        assert_eq!(places[0], (2, "-- first\r\n", "select 1"));
        assert_eq!(places[1], (4, "\n\n/* why */ ", "select\n2"));
        assert_eq!(places[2], (6, "\r", "select 3 -- end"));
        assert!(cut.iter().all(|one| one.text == sql[one.start..one.end]));
        assert_eq!((&sql[cut[1].end..cut[1].next], cut[2].next), (" ;", sql.len()));
        // A comment ends at a carriage return, as it does for the server.
        assert_eq!(texts("-- comment\rdrop table t").len(), 1);
    }

    proptest! {
        #[test]
        fn never_panics_nor_loses_text(sql in "[a-e$';/*\"\\\\ \n-]{0,60}") {
            let joined: String = texts(&sql).concat();
            prop_assert!(joined.len() <= sql.len());
        }

        #[test]
        fn takes_any_text(sql in "\\PC{0,80}") {
            let _ = split(&sql);
        }
    }
}
