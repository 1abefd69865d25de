//! What the plan's own SQL may say. Owns the hazards that can be seen in the text; whether the SQL is right, PostgreSQL says later.
//!
//! A mapping is asked again for every touched key, so it must be a function of blue's rows and of `values`: an answer that changes by
//! itself is never levelled, and a table that is read but not named is never watched.

use super::model::{ReplayStatements, TableName};
use super::place::Place;
use super::problem::Problems;
use super::resolve::parse_table;
use super::sql_tables::tables_read;
use super::tokens::{At, Token, tokens};

/// What a piece of SQL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One column of a mapping.
    Expression,
    /// One column of the way back.
    Back,
    /// Which rows are left behind.
    Predicate,
    /// A whole mapping.
    Select,
    /// From a row of blue to keys of green.
    Key,
    /// A value that green is asked for once.
    Value,
    /// A query of the application's, to be planned and never run.
    Query,
    /// One side's part of an invariant.
    Question,
    /// A statement that puts rows of green right.
    Repair,
    /// A statement that revokes.
    Revoke,
    /// Which revocations have something alive.
    Alive,
}

impl Kind {
    /// Whether its answer becomes part of rows, which must not change by themselves.
    fn is_mapped(self) -> bool {
        !matches!(self, Self::Value | Self::Query | Self::Question | Self::Repair | Self::Revoke | Self::Alive)
    }

    /// Whether an answer that changes by itself makes it worthless.
    fn is_steady(self) -> bool {
        self.is_mapped() || self == Self::Question
    }

    /// Whether nobody asks green for `values` on its behalf.
    fn is_without_values(self) -> bool {
        matches!(self, Self::Query | Self::Question | Self::Repair | Self::Revoke | Self::Alive)
    }

    /// Whether it is asked about revocations, which are its parameters.
    fn is_of_revocations(self) -> bool {
        matches!(self, Self::Revoke | Self::Alive)
    }
}

/// What a query of the application's may begin with, or have after its `with`.
const VERBS: [&str; 4] = ["select", "insert", "update", "delete"];

/// Calls whose answer changes without a change of the row.
const UNSTEADY_CALLS: [&str; 27] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "random_normal",
    "gen_random_uuid",
    "gen_random_bytes",
    "gen_salt",
    "uuidv4",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "nextval",
    "currval",
    "lastval",
    "setval",
    "txid_current",
    "pg_current_xact_id",
    "pg_backend_pid",
    "current_setting",
    "set_config",
    "pg_current_wal_lsn",
    "current_query",
    "pg_sleep",
];

/// Words that are such calls without parentheses.
const UNSTEADY_WORDS: [&str; 8] = [
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "localtime",
    "current_user",
    "session_user",
    "current_role",
];

/// Strings that mean a time of today once they are cast.
const UNSTEADY_TEXTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// The same statement without comments and semicolons at its end, so that it can stand inside another one.
pub(super) fn bare(sql: &str) -> &str {
    let tokens = tokens(sql);
    let last = tokens.iter().rev().find(|at| at.token != Token::Sign(';'));
    last.map_or("", |last| &sql[..last.end])
}

/// Everything that can be told from the text; `values` are the names that `$name` may have.
pub(super) fn check(
    problems: &mut Problems<'_>,
    place: &Place,
    kind: Kind,
    sql: &str,
    file: Option<&str>,
    values: &[&str],
) {
    let tokens = tokens(sql);
    let mut judge = Judge { problems, place, kind, sql, file };
    judge.shape(&tokens, kind);
    for (index, at) in tokens.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &tokens[index].token);
        let next = tokens.get(index + 1).map(|at| &at.token);
        let is_age_of_one =
            kind.is_steady() && at.token == Token::Word("age".to_owned()) && arguments(&tokens[index + 1..]) == 1;
        if is_age_of_one {
            judge.unsteady(at, "calls age() of one time");
        }
        if matches!(kind, Kind::Question | Kind::Alive) && is_write(&tokens, index) {
            let written = &sql[at.start..at.end];
            judge.told(at, &format!("writes or locks (`{written}`)"), "it only asks: a select, without `for update`");
        }
        match &at.token {
            Token::Unclosed(what) => judge.told(at, &format!("holds a {what} that never ends"), "close it"),
            Token::Sign(';') => {
                judge.told(at, "holds more than one statement", "one statement or expression, without a semicolon")
            }
            Token::Parameter(_) if kind == Kind::Query => {}
            Token::Parameter(number) if kind.is_of_revocations() => judge.parameter(at, number),
            Token::Parameter(_) => judge.told(at, "holds a parameter", "write `$name` for one of `values`"),
            Token::Value(name) => judge.value(at, name, kind, values),
            Token::Word(word) | Token::Quoted(word) if kind.is_steady() => judge.steadiness(at, word, previous, next),
            Token::Text(text) if kind.is_steady() => {
                let cast = tokens.get(index + 3).map(|at| &at.token).filter(|_| next == Some(&Token::Sign(':')));
                judge.text(at, text, previous, cast);
            }
            _ => {}
        }
    }
}

struct Judge<'p, 'a, 's> {
    problems: &'p mut Problems<'a>,
    place: &'s Place,
    kind: Kind,
    sql: &'s str,
    file: Option<&'s str>,
}

impl Judge<'_, '_, '_> {
    fn shape(&mut self, tokens: &[At], kind: Kind) {
        let Some(first) = tokens.first() else {
            let subject = self.subject(0);
            return self.problems.value(
                self.place,
                format!("{subject} holds no SQL"),
                "write it, or leave the key out",
            );
        };
        let starts_query = match &first.token {
            Token::Word(word) => ["select", "with", "values", "table"].contains(&word.as_str()),
            token => *token == Token::Sign('('),
        };
        let other = tables_read(self.sql).into_iter().next();
        match (kind, other) {
            (Kind::Select | Kind::Value, _) if !starts_query => {
                self.told(first, "is not a select", "begin it with `select` or `with`");
            }
            (Kind::Question, _) if !starts_query => {
                self.told(first, "is not a select", "an invariant asks: begin it with `select` or `with`");
            }
            (Kind::Repair, _) if written_table(self.sql).is_none() => {
                let hint = "one `update table …`, `insert into table …` or `delete from table …`";
                self.told(first, "is not one update, insert or delete on a table", hint);
            }
            (Kind::Alive, _) if !starts_query => {
                self.told(first, "is not a select", "it asks which events are alive: begin it with `select` or `with`");
            }
            (Kind::Revoke, _) if !matches!(verb(tokens), Some("insert" | "update" | "delete")) => {
                let hint = "one `update …`, `insert …` or `delete …`, after a `with` where it needs one";
                self.told(first, "is not one update, insert or delete", hint);
            }
            (Kind::Revoke | Kind::Alive, _) if !names_event(tokens, kind) => {
                let hint = match kind {
                    Kind::Revoke => {
                        "a statement that does not say what was revoked revokes too much: join `unnest($2::text[], …)`"
                    }
                    _ => "it answers with the events that are alive: join `unnest($1::uuid[], …)`",
                };
                self.told(first, "names no revocation", hint);
            }
            (Kind::Query, _) if !is_query(tokens) => {
                let hint = "a query that clients send, as the engine writes it";
                self.told(first, "is not a select, insert, update or delete", hint);
            }
            (Kind::Expression, Some(table)) => {
                let hint = "changes of that table would not be seen: give the mapping a `from` with `touched_by`";
                self.told(first, &format!("reads {table}"), hint);
            }
            (Kind::Back, Some(table)) => {
                let hint = "changes of that table would not be seen: say it with the columns of green's row";
                self.told(first, &format!("reads {table}"), hint);
            }
            (Kind::Predicate, Some(table)) => {
                let hint = "its verdict would change with rows that are not watched: say it with the row's own columns, or with \
                            `orphan_of`";
                self.told(first, &format!("reads {table}"), hint);
            }
            (Kind::Predicate, None) if is_always_true(tokens) => {
                self.told(
                    first,
                    "is true for every row",
                    "say which rows are left behind; a table that is left whole is listed in `drop`",
                );
            }
            _ => {}
        }
    }

    /// The parameters of a statement about revocations are given: there are no others.
    fn parameter(&mut self, at: &At, number: &str) {
        let count = ReplayStatements::PARAMETERS.len();
        if !(1..=count).contains(&number.parse().unwrap_or(0)) {
            let named = ReplayStatements::PARAMETERS.iter().zip(1..).map(|(name, n)| format!("${n} {name}"));
            let hint = format!("there are {count}: {}", named.collect::<Vec<_>>().join(", "));
            self.told(at, &format!("has the parameter ${number}, which is not given"), &hint);
        }
    }

    fn value(&mut self, at: &At, name: &str, kind: Kind, values: &[&str]) {
        if kind == Kind::Value {
            self.told(at, &format!("uses `${name}`"), "a value cannot use another value");
        } else if kind.is_without_values() {
            let hint = match kind {
                Kind::Query | Kind::Revoke | Kind::Alive => {
                    "write a parameter, such as `$1`: nobody asks green for values here"
                }
                _ => "write a sub-select, such as `(select id from networks)`: nobody asks green for values here",
            };
            self.told(at, &format!("uses `${name}`"), hint);
        } else if !values.contains(&name) {
            let hint = match values.is_empty() {
                true => format!("add `values: {{ {name}: \"select …\" }}`"),
                false => super::check::did_you_mean(name, values.iter().copied()),
            };
            self.told(at, &format!("uses `${name}`, which is not in `values`"), &hint);
        }
    }

    fn steadiness(&mut self, at: &At, word: &str, previous: Option<&Token>, next: Option<&Token>) {
        let called = next == Some(&Token::Sign('('));
        let alone = previous != Some(&Token::Sign('.')) && next != Some(&Token::Sign('.')) && !called;
        let bare_word = matches!(at.token, Token::Word(_)) && alone && UNSTEADY_WORDS.contains(&word);
        if bare_word || (called && UNSTEADY_CALLS.contains(&word)) {
            self.unsteady(at, &if called { format!("calls {word}()") } else { format!("uses {word}") });
        }
    }

    /// A string right after the name of a type of time, or cast to one.
    fn text(&mut self, at: &At, text: &str, before: Option<&Token>, cast: Option<&Token>) {
        let is_time = |token: Option<&Token>| matches!(token, Some(Token::Word(word)) if word.starts_with("time") || word == "date");
        if UNSTEADY_TEXTS.contains(&text.trim().to_lowercase().as_str()) && (is_time(before) || is_time(cast)) {
            self.unsteady(at, &format!("uses the time '{}'", text.trim()));
        }
    }

    fn unsteady(&mut self, at: &At, what: &str) {
        let hint = match self.kind {
            Kind::Back => {
                "the way back is a function of green's row and of `values`: leave the column out, or ask green once with `values`"
            }
            Kind::Question => {
                "two sides would be asked at two times: compare with a time that is written out, such as `timestamp '2026-12-02 02:00'`"
            }
            _ => {
                "a mapping is a function of blue's row and of `values`: ask green once with `values`, or leave the column to green \
                 with `own_columns`"
            }
        };
        self.told(at, &format!("{what}, whose answer changes without a change of the row"), hint);
    }

    fn told(&mut self, at: &At, what: &str, hint: &str) {
        let message = format!("{} {what}", self.subject(at.start));
        let piece = if self.file.is_some() { "" } else { &self.sql[at.start..at.end] };
        if piece.is_empty() {
            self.problems.value(self.place, message, hint);
        } else {
            let skip = self.sql[..at.start].matches(piece).count();
            self.problems.piece(self.place, (piece, skip), message, hint);
        }
    }

    fn subject(&self, start: usize) -> String {
        match self.file {
            Some(file) => format!("`{file}` line {}", self.sql[..start].matches('\n').count() + 1),
            None => format!("`{}`", self.place),
        }
    }
}

/// Whether a statement selects or writes rows.
fn is_query(tokens: &[At]) -> bool {
    verb(tokens).is_some()
}

/// What a statement does, by its first word or the one that its `with` leads to; none when that is none of [`VERBS`].
fn verb(tokens: &[At]) -> Option<&'static str> {
    let mut rest = tokens.iter().skip_while(|at| at.token == Token::Sign('('));
    let Some(Token::Word(first)) = rest.next().map(|at| &at.token) else { return None };
    let known = |word: &str| VERBS.into_iter().find(|verb| *verb == word);
    if first != "with" {
        return known(first);
    }
    let mut depth = 0_usize;
    for at in rest {
        match &at.token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && known(word).is_some() => return known(word),
            Token::Word(word) if depth == 0 && ["merge", "values", "table"].contains(&word.as_str()) => return None,
            _ => {}
        }
    }
    None
}

/// Whether a statement about revocations says which: one that kills by anything but the time alone, one that asks by the event.
fn names_event(tokens: &[At], kind: Kind) -> bool {
    let last = ReplayStatements::PARAMETERS.len().to_string();
    tokens.iter().any(|at| match &at.token {
        Token::Parameter(number) if kind == Kind::Alive => number == "1",
        Token::Parameter(number) => *number != last,
        _ => false,
    })
}

/// Whether a statement that writes or locks begins with this word: the server's read-only transaction would refuse it, late.
fn is_write(tokens: &[At], index: usize) -> bool {
    let word = |at: usize| match tokens.get(at).map(|at| &at.token) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let Some(before) = index.checked_sub(1) else { return false };
    let begins = matches!(tokens[before].token, Token::Sign('(' | ')'));
    match (word(before), word(index), word(index + 1)) {
        (_, "insert" | "merge", "into") | (_, "delete", "from") => begins,
        (_, "update", next) if begins => !next.is_empty(),
        ("for", "update" | "share" | "no" | "key", _) => true,
        ("insert" | "merge", "into", _) => false,
        (_, into, _) => into == "into",
    }
}

/// The table that one update, insert or delete is about.
pub(super) fn written_table(sql: &str) -> Option<TableName> {
    let tokens = tokens(sql);
    let word = |at: usize| match tokens.get(at).map(|at| &at.token) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let mut name = match (word(0), word(1)) {
        ("update", _) => 1,
        ("insert", "into") | ("delete", "from") => 2,
        _ => return None,
    };
    name += usize::from(word(name) == "only");
    let end = |at: usize| tokens.get(at).map(|at| at.end);
    let is_qualified = tokens.get(name + 1).is_some_and(|at| at.token == Token::Sign('.'));
    let last = end(if is_qualified { name + 2 } else { name })?;
    parse_table(&sql[tokens.get(name)?.start..last])
}

/// `true`, `1 = 1` and the like, in any parentheses.
fn is_always_true(tokens: &[At]) -> bool {
    let said: Vec<&Token> =
        tokens.iter().map(|at| &at.token).filter(|token| !matches!(token, Token::Sign('(' | ')'))).collect();
    match said.as_slice() {
        [Token::Word(word)] => word == "true",
        [Token::Word(not), Token::Word(word)] => not == "not" && word == "false",
        [left, Token::Sign('='), right] => left == right && !matches!(left, Token::Word(_) | Token::Quoted(_)),
        _ => false,
    }
}

/// How many arguments a call has whose parentheses begin here; 0 when none do.
fn arguments(tokens: &[At]) -> usize {
    let mut depth = 0_usize;
    let mut count = 0;
    for at in tokens {
        match at.token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') if depth > 0 => depth -= 1,
            Token::Sign(',') if depth == 1 => count = count.max(1) + 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        count = count.max(1);
    }
    count
}
