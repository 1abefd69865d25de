//! The resolved section `prepare`: values outside the databases that are set before the window and set back at the end.

use super::{HttpRequest, Secret};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What stands in a command or a body for the value that is set.
pub const VALUE: &str = "$value";

/// One value outside.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Name, unique in the plan.
    pub name: String,
    /// What it is set to.
    pub value: Value,
    /// Whether tokens live longer by it that nobody can end before they expire.
    pub lengthens_jwt: bool,
    /// How long it takes until everything behaves by it.
    pub takes_effect_after: Duration,
    /// How it is read and set.
    pub by: PrepareBy,
    /// Bound on one command or one request.
    pub within: Duration,
}

/// How a value is read and set.
#[derive(Debug, Clone)]
pub enum PrepareBy {
    /// By commands, without a shell.
    Command {
        /// Prints it as its last line.
        read: Vec<String>,
        /// Sets it; an argument is [`VALUE`].
        set: Vec<String>,
        /// Environment added; values are secret.
        env: BTreeMap<String, Secret>,
    },
    /// Over HTTP.
    Http {
        /// Answers JSON that holds it.
        read: HttpRequest,
        /// Where in that JSON.
        pointer: String,
        /// Sets it.
        set: HttpRequest,
        /// The body of that; a text in it is [`VALUE`].
        body: Value,
        /// Bearer token for both.
        bearer: Option<Secret>,
    },
}

/// A JSON value with every text [`VALUE`] in it replaced.
#[must_use]
pub fn with_value(body: &Value, value: &Value) -> Value {
    match body {
        Value::String(text) if text == VALUE => value.clone(),
        Value::Array(items) => items.iter().map(|item| with_value(item, value)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (name.clone(), with_value(member, value))).collect())
        }
        other => other.clone(),
    }
}
