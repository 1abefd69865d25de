//! The terminal: the three-line contract, plain lines or JSON events, the summary last. The only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use super::exit::{CommandError, Ending};
use crate::plan::Problem;
use serde_json::{Map, Value, json};

/// Where a verb tells what it does: people on standard error and output, programs by one JSON event a line on standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    json: bool,
}

/// Which side is live, where the run stands and why, and the next safe command: the first three lines of every screen and error.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// `blue`, `green`, or `unknown` with a reason.
    pub(super) live: String,
    /// Where the run stands, and why.
    pub(super) state: String,
    /// The next safe command.
    pub(super) next: String,
}

impl Screen {
    /// A screen for people, or for programs.
    #[must_use]
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    #[must_use]
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// One line for people; programs get the event.
    pub(super) fn line(self, text: &str, event: &Value) {
        if self.json { println!("{event}") } else { println!("{text}") }
    }

    /// One line for people only.
    pub(super) fn say(self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// One event for programs only.
    pub(super) fn event(self, event: &Value) {
        if self.json {
            println!("{event}");
        }
    }

    /// Asks a person at a terminal; programs, and whoever cannot answer, have not agreed.
    #[must_use]
    pub(super) fn is_asked(self, question: &str) -> bool {
        use std::io::{BufRead as _, IsTerminal as _, Write as _};
        if self.json || !std::io::stdin().is_terminal() {
            return false;
        }
        print!("{question}");
        let mut answer = String::new();
        let read = std::io::stdout().flush().and_then(|()| std::io::stdin().lock().read_line(&mut answer));
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// A mistake in a plan.
    pub(super) fn problem(self, problem: &Problem) {
        if self.json { println!("{}", problem.to_json()) } else { eprintln!("{problem}\n") }
    }

    /// The three lines.
    pub(super) fn standing(self, standing: &Standing) {
        if !self.json {
            println!("live:  {}\nstate: {}\nnext:  {}", standing.live, standing.state, standing.next);
        }
    }

    /// The last words of a verb that did not do what it was asked, with the three lines first.
    pub(super) fn error(self, live: &str, error: &CommandError) {
        if !self.json {
            eprintln!("live:  {live}\nstate: {}: {}\nnext:  {}", error.ending.word(), error.why, error.next);
        }
    }

    /// The end of a verb that could not do what it was asked: its last words, and its summary.
    pub(super) fn refused(self, live: &str, error: &CommandError) -> Ending {
        self.error(live, error);
        self.summary(error.ending, json!({ "why": error.why, "next": error.next }));
        error.ending
    }

    /// The end of a verb that only looks: the summary of what it saw, or why it saw nothing.
    pub(super) fn looked(self, live: &str, looked: Result<Value, CommandError>) -> Ending {
        match looked {
            Ok(summary) => {
                self.summary(Ending::Done, summary);
                Ending::Done
            }
            Err(error) => self.refused(live, &error),
        }
    }

    /// The summary, last line of every verb for programs.
    pub(super) fn summary(self, ending: Ending, rest: Value) {
        if !self.json {
            return;
        }
        let mut summary = Map::new();
        summary.insert("event".to_owned(), json!("summary"));
        summary.insert("outcome".to_owned(), json!(ending.word()));
        if let Value::Object(rest) = rest {
            summary.extend(rest);
        }
        println!("{}", Value::Object(summary));
    }
}
