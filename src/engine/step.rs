//! What a step is: one observable change to the outside world, how it is seen, and how it is taken back.
//!
//! Owns words only. Never runs anything: that is `run.rs`.

use super::context::Context;
use super::error::StepError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A step's name in the journal, on the screen and on the command line; never renamed after a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Cow<'static, str>);

impl StepId {
    /// A name known when compiling, like `claim-sides`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A name made from the plan, like `migrate-2`, or read from the command line.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What can be done about a step's effect afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversal {
    /// `undo` takes it back.
    Undo,
    /// It changes nothing: `verify` and `undo` are never asked, and it is asked anew when its answer must last. What it makes for itself
    /// goes with it, or with `settle` when it was cut off.
    ReadOnly,
    /// It cannot be taken back; it has a gate before it and ends the range that undo can reach. Its `undo` is asked only while
    /// its outcome is unknown, and must then settle the question by writing against it, never by reading.
    OneWay,
    /// It only ever moves onward (replay, sequences, epochs): it is never undone, and doing it again is harmless.
    Monotone,
}

/// Bounds of one step; they come from the plan and are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest that one `verify`, `forward` or `undo` may take.
    pub deadline: Duration,
    /// How often forward (or undo) is tried in one go, at least 1.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles and is jittered, up to thirty seconds.
    pub pause: Duration,
}

impl Limits {
    /// One attempt, no retry.
    #[must_use]
    pub const fn once(deadline: Duration) -> Self {
        Self { deadline, attempts: 1, pause: Duration::ZERO }
    }

    /// Several attempts with a growing pause between them.
    #[must_use]
    pub const fn retried(deadline: Duration, attempts: u32, pause: Duration) -> Self {
        Self { deadline, attempts, pause }
    }
}

/// What a step found or made, kept in the journal for later steps and for people; free of secrets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Receipt(Value);

impl Receipt {
    /// Nothing worth keeping.
    #[must_use]
    pub fn none() -> Self {
        Self(Value::Null)
    }

    /// A receipt from any serialisable value.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::to_value(value).expect("a receipt has text keys and serialises"))
    }

    /// The receipt as JSON.
    #[must_use]
    pub fn into_body(self) -> Value {
        self.0
    }
}

impl From<Value> for Receipt {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

/// What `verify` sees of a step's effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing of it is there.
    Absent,
    /// Some of it is there and carries our run's id: forward can go on from it, undo can remove it. Says what is there.
    Partial(String),
    /// All of it is there and carries our run's id (or still has the value we set). Holds the receipt as it can be read off the
    /// world, for an outcome that was never recorded.
    Present(Receipt),
    /// Something is in its place that is not ours. Says what.
    Foreign(String),
    /// It cannot be told. Says why.
    Unclear(String),
}

impl Standing {
    /// `Present`, with nothing to tell.
    #[must_use]
    pub fn present() -> Self {
        Self::Present(Receipt::none())
    }

    /// One word and the reason, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Present(_) => "present".to_owned(),
            Self::Partial(what) => format!("partly there: {what}"),
            Self::Foreign(what) => format!("not ours: {what}"),
            Self::Unclear(why) => format!("unclear: {why}"),
        }
    }
}

/// One observable change to the outside world. The user's steps are a closed enum that implements this trait.
///
/// The engine records the intent before `forward` and the outcome before the next step, asks `verify` before forward, after
/// forward and after undo, and undoes every recorded intent in reverse order.
pub trait Step: Send + Sync {
    /// The hands with which the steps act.
    type World: Send + Sync;

    /// Its stable name.
    fn id(&self) -> StepId;
    /// What it will do, one line for an operator.
    fn summary(&self) -> String;
    /// What its undo will do, one line for an operator.
    fn undo_summary(&self) -> String;
    /// What can be done about its effect afterwards.
    fn reversal(&self) -> Reversal;
    /// Its bounds.
    fn limits(&self) -> Limits;
    /// Whether it is a read-only gate that a one-way step can rely on.
    fn is_gate(&self) -> bool {
        false
    }
    /// Whether its forward may be cut off anywhere when a stop is asked for: what is left is then as after a crash, and a
    /// repetition is worth more than the wait. One that may not be cut looks at [`Context::stop`] itself, or ends first.
    fn may_be_cut(&self) -> bool {
        false
    }
    /// The one-way step whose effect this one-way step takes back (the way back after a flip). Of the two at most one is done:
    /// what is done last supersedes the other, which can then be made again.
    fn takes_back(&self) -> Option<StepId> {
        None
    }
    /// The way back before which alone it is made: it is left out of every other way. One that was begun and cut off is ended before anything
    /// else, wherever the run goes then, so ending it must harm nobody and hang on nobody.
    fn goes_with(&self) -> Option<StepId> {
        None
    }
    /// The step until whose end this one's effect must last: it is verified again (a read-only step: asked again) whenever a
    /// process takes the run up and right before that step, and made again when it is gone.
    fn holds_until(&self) -> Option<StepId> {
        None
    }

    /// The state before, as undo will need it (a value to set back); recorded in the first intent. Read-only.
    fn before(
        &self,
        _world: &Self::World,
        _context: &Context,
    ) -> impl Future<Output = Result<Value, StepError>> + Send {
        async { Ok(Value::Null) }
    }
    /// One read-only question: what of the effect is there?
    fn verify(
        &self,
        world: &Self::World,
        context: &Context,
    ) -> impl Future<Output = Result<Standing, StepError>> + Send;
    /// Makes the effect. Asked on `Absent` and on `Partial`, the latter after a crash or a failure.
    fn forward(
        &self,
        world: &Self::World,
        context: &Context,
    ) -> impl Future<Output = Result<Receipt, StepError>> + Send;
    /// Before an undo of an act whose outcome is unknown: ends what may still be under way and does not hold the term row (a
    /// server process of ours, a hung call), so that it cannot land after the undo. Effects that hold the term row need nothing:
    /// the term was raised before the undo began. Of a step that only reads it is asked on the way back when it was begun and has no good
    /// end, and when somebody answers for it instead: what it makes for itself goes then.
    fn settle(&self, _world: &Self::World, _context: &Context) -> impl Future<Output = Result<(), StepError>> + Send {
        async { Ok(()) }
    }
    /// Takes the effect back; asked on `Present` and `Partial` only, and must succeed when there is nothing to undo.
    fn undo(&self, world: &Self::World, context: &Context) -> impl Future<Output = Result<(), StepError>> + Send;
}
