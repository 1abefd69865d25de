//! `set-outside-…` and `give-back-…`: a value outside the databases, such as how long tokens live, is set before the window and set back on both
//! outcomes: undone with the run, or given back after the soak.
//!
//! The value before stands in the intent. What is there is only set back while it is the value that we set; another one is somebody else's.

use super::world::World;
use crate::database::migrate::command;
use crate::engine::{
    Context, Effect, Facts, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId, chain,
};
use crate::gates::Verdict;
use crate::plan::{self, PrepareBy, VALUE, with_value};
use crate::traffic::outside::Outside;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;

/// The gate before tokens live longer that nobody can end, as `--waive` says it.
pub const JWT_GATE: StepId = StepId::new("lengthen-jwt");

type Failure = Box<dyn Error + Send + Sync>;

/// Sets one value.
#[derive(Debug, Clone)]
pub struct SetOutside {
    /// Which, and to what.
    pub prepare: plan::Prepare,
}

/// Sets one value back once green is proved.
#[derive(Debug, Clone)]
pub struct GiveBack {
    /// Which.
    pub prepare: plan::Prepare,
}

/// A person answers for access tokens that live longer and cannot be revoked.
#[derive(Debug, Clone)]
pub struct LengthenJwt {
    /// The values that lengthen them.
    pub names: Vec<String>,
}

fn set_id(name: &str) -> StepId {
    StepId::named(format!("set-outside-{name}"))
}

/// The value as it is now.
async fn read(world: &World, prepare: &plan::Prepare) -> Result<Value, Failure> {
    match &prepare.by {
        PrepareBy::Command { read, env, .. } => {
            let lines = command(read, env, &world.plan.folder, prepare.within, &|_| ()).await?;
            let last = lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
            Ok(last.map_or(Value::Null, |line| Value::String(line.to_owned())))
        }
        PrepareBy::Http { read, pointer, bearer, .. } => {
            let outside = Outside { http: &world.http, bearer: bearer.as_ref(), within: prepare.within };
            Ok(outside.read(read, pointer).await?)
        }
    }
}

async fn set(world: &World, prepare: &plan::Prepare, value: &Value) -> Result<(), Failure> {
    match &prepare.by {
        PrepareBy::Command { set, env, .. } => {
            let word = words(value);
            let run: Vec<String> =
                set.iter().map(|given| if given == VALUE { word.clone() } else { given.clone() }).collect();
            command(&run, env, &world.plan.folder, prepare.within, &|_| ()).await?;
        }
        PrepareBy::Http { set, body, bearer, .. } => {
            let outside = Outside { http: &world.http, bearer: bearer.as_ref(), within: prepare.within };
            outside.set(set, &with_value(body, value)).await?;
        }
    }
    Ok(())
}

/// A value as a command takes it, and as a person reads it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Whether both are one value: a command knows only texts.
fn is_same(one: &Value, other: &Value) -> bool {
    one == other || (!one.is_null() && !other.is_null() && words(one) == words(other))
}

async fn now(world: &World, prepare: &plan::Prepare) -> Result<Value, StepError> {
    let failed = |error: Failure| {
        let hint = format!("see to it that {} can be read, then run the same command again", prepare.name);
        StepError { source: Some(error), ..StepError::new(FailureKind::Failed, format!("read {}", prepare.name)) }
            .effect(Effect::NotApplied)
            .hint(hint)
    };
    read(world, prepare).await.map_err(failed)
}

async fn set_and_see(world: &World, prepare: &plan::Prepare, value: &Value) -> Result<Value, StepError> {
    let what = format!("set {} to {}", prepare.name, shown(value));
    if let Err(error) = set(world, prepare, value).await {
        let hint = "see to it, then run the same command again: the value is absolute and may be set twice";
        let failed = StepError { source: Some(error), ..StepError::new(FailureKind::Failed, what) };
        return Err(failed.effect(Effect::Unknown).hint(hint));
    }
    now(world, prepare).await
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { format!("`{}`", words(value)) }
}

/// The latest note that holds this key.
fn noted(context: &Context, key: &str) -> Option<Value> {
    context.notes().iter().rev().find_map(|note| note.get(key).cloned())
}

/// Why it would be too late: what is set now is everywhere only after the window has opened.
fn too_late(prepare: &plan::Prepare, set_at: Timestamp, opens: Option<Timestamp>) -> Option<String> {
    let opens = opens.filter(|_| !prepare.takes_effect_after.is_zero())?;
    let after = SignedDuration::try_from(prepare.takes_effect_after).ok()?;
    let there = set_at.checked_add(after).ok()?;
    if there <= opens {
        return None;
    }
    Some(format!(
        "{} is everywhere {} after it is set: set at {set_at:.0} that is {there:.0}, and the window opens at {opens}, {} before that",
        prepare.name,
        humantime::format_duration(prepare.takes_effect_after),
        humantime::format_duration(Duration::from_secs(there.duration_since(opens).unsigned_abs().as_secs()))
    ))
}

/// Right before the flip: every value is still the one that was set, and long enough.
pub(super) async fn still_set(world: &World, context: &Context) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for prepare in &world.plan.prepare {
        let Some(receipt) = context.facts().receipt(&set_id(&prepare.name)) else { continue };
        verdicts.push(match read(world, prepare).await {
            Ok(value) if !is_same(&value, &receipt["set"]) => Verdict::NoGo(format!(
                "{} is {} and no longer {}: somebody else has set it",
                prepare.name,
                shown(&value),
                shown(&receipt["set"])
            )),
            Ok(_) => settled(prepare, receipt, Timestamp::now()),
            Err(error) => Verdict::Unclear(format!("read {}: {}", prepare.name, chain(error.as_ref()))),
        });
    }
    verdicts
}

fn settled(prepare: &plan::Prepare, receipt: &Value, now: Timestamp) -> Verdict {
    let set_at = receipt["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    match set_at.and_then(|set_at| too_late(prepare, set_at, Some(now))) {
        None if set_at.is_none() => Verdict::Unclear(format!("nobody knows when {} was set", prepare.name)),
        None => Verdict::Go,
        Some(_) => {
            let after = humantime::format_duration(prepare.takes_effect_after);
            let at = receipt["at"].as_str().unwrap_or_default();
            Verdict::NoGo(format!("{} was set at {at} and is everywhere only {after} later", prepare.name))
        }
    }
}

impl SetOutside {
    /// What was seen after it was set; the plan's word until then.
    fn ours(&self, context: &Context) -> Value {
        noted(context, "set").unwrap_or_else(|| self.prepare.value.clone())
    }

    fn in_time(&self, world: &World) -> Result<(), StepError> {
        let Some(why) = too_late(&self.prepare, Timestamp::now(), world.plan.window.opens) else { return Ok(()) };
        let hint = "let the window open later, in the plan or by --set window.opens=TIME, then: cutover run PLAN; blue serves as before";
        Err(StepError::refused(why, hint).effect(Effect::NotApplied))
    }

    fn receipt(&self, context: &Context) -> Value {
        let at = noted(context, "at").unwrap_or_else(|| json!(Timestamp::now().to_string()));
        json!({ "before": context.before()["value"], "set": self.ours(context), "at": at })
    }
}

impl Step for SetOutside {
    type World = World;

    fn id(&self) -> StepId {
        set_id(&self.prepare.name)
    }

    fn summary(&self) -> String {
        let after = match self.prepare.takes_effect_after {
            Duration::ZERO => String::new(),
            after => {
                format!("; everywhere {} later, and the window must open after that", humantime::format_duration(after))
            }
        };
        format!("set {} to {} until the end of the run{after}", self.prepare.name, shown(&self.prepare.value))
    }

    fn undo_summary(&self) -> String {
        format!("set {} back to what it was, unless somebody else has set it since", self.prepare.name)
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        // It is read before and after, and asked for once more by `verify`.
        Limits::once(self.prepare.within * 3 + Duration::from_secs(5))
    }

    async fn before(&self, world: &World, _context: &Context) -> Result<Value, StepError> {
        self.in_time(world)?;
        Ok(json!({ "value": now(world, &self.prepare).await? }))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        if context.before().is_null() || noted(context, "given_back").is_some() {
            return Ok(Standing::Absent);
        }
        let (is, was, ours) = (now(world, &self.prepare).await?, &context.before()["value"], self.ours(context));
        let was_set = noted(context, "at").is_some();
        Ok(if is_same(&is, &ours) && (was_set || !is_same(&is, was)) {
            Standing::Present(self.receipt(context).into())
        } else if is_same(&is, was) {
            Standing::Absent
        } else {
            let (name, is) = (&self.prepare.name, shown(&is));
            Standing::Foreign(format!(
                "{name} is {is}, and neither {} as before nor {} as we set it",
                shown(was),
                shown(&ours)
            ))
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        // The intent may be hours old.
        self.in_time(world)?;
        let (value, was) = (&self.prepare.value, &context.before()["value"]);
        let seen = set_and_see(world, &self.prepare, value).await?;
        if !is_same(&seen, value) && is_same(&seen, was) {
            let why =
                format!("set {} to {}: it was accepted, and is still {}", self.prepare.name, shown(value), shown(was));
            let hint = "see how the plan reads and sets it";
            return Err(StepError::new(FailureKind::Failed, why).effect(Effect::NotApplied).hint(hint));
        }
        // A service may tell a value in other words than those it was given.
        context.note(json!({ "set": seen, "at": Timestamp::now().to_string() })).await?;
        Ok(self.receipt(context).into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let was = context.before()["value"].clone();
        set_back(world, &self.prepare, &was).await?;
        context.note(json!({ "given_back": was })).await
    }
}

/// Sets it back and sees that it is.
async fn set_back(world: &World, prepare: &plan::Prepare, was: &Value) -> Result<(), StepError> {
    let seen = set_and_see(world, prepare, was).await?;
    if is_same(&seen, was) {
        return Ok(());
    }
    let why = format!("set {} back to {}: it was accepted, and is {}", prepare.name, shown(was), shown(&seen));
    let hint = format!("set {} to {} by hand, then run the same command again", prepare.name, shown(was));
    Err(StepError::new(FailureKind::Failed, why).effect(Effect::Unknown).hint(hint))
}

impl GiveBack {
    fn before_and_set(&self, facts: &Facts) -> Result<(Value, Value), StepError> {
        let receipt: Value = facts.get(&set_id(&self.prepare.name))?;
        Ok((receipt["before"].clone(), receipt["set"].clone()))
    }
}

impl Step for GiveBack {
    type World = World;

    fn id(&self) -> StepId {
        StepId::named(format!("give-back-{}", self.prepare.name))
    }

    fn summary(&self) -> String {
        format!("set {} back to what it was before the run, unless somebody else has set it since", self.prepare.name)
    }

    fn undo_summary(&self) -> String {
        "nothing: it is as it was before the run".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::once(self.prepare.within * 3 + Duration::from_secs(5))
    }

    async fn verify(&self, _world: &World, context: &Context) -> Result<Standing, StepError> {
        Ok(match noted(context, "given_back") {
            Some(value) => Standing::Present(json!({ "now": value }).into()),
            None => Standing::Absent,
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if context.facts().receipt(&super::soak::ID).is_none() {
            let why = "green is not proved: values outside are given back after the soak";
            return Err(StepError::refused(why, "watch on: cutover run PLAN --through soak"));
        }
        let (was, ours) = self.before_and_set(context.facts())?;
        let is = now(world, &self.prepare).await?;
        if is_same(&is, &ours) {
            set_back(world, &self.prepare, &was).await?;
        } else if !is_same(&is, &was) {
            // A person's own word since then; at the end of a run nothing hangs on it any more.
            tracing::warn!("{} is {} by somebody else's word and stays so", self.prepare.name, shown(&is));
        }
        let left = if is_same(&is, &ours) { was } else { is };
        context.note(json!({ "given_back": left })).await?;
        Ok(json!({ "now": left }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

impl Step for LengthenJwt {
    type World = World;

    fn id(&self) -> StepId {
        JWT_GATE
    }

    fn summary(&self) -> String {
        format!(
            "gate: somebody answers for access tokens that live longer and cannot be revoked: {}",
            self.names.join(", ")
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: it only asks".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(5))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, _world: &World, _context: &Context) -> Result<Receipt, StepError> {
        let why = format!(
            "{} lengthens the life of access tokens that others verify by themselves: one that is revoked is accepted until it expires, on either side, and nothing here can end it sooner",
            self.names.join(", ")
        );
        let hint = "nothing was changed; leave them as short as they are, or answer for it: cutover run PLAN --waive lengthen-jwt --because 'why'";
        Err(StepError::refused(why, hint))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
