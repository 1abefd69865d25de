//! After the release: the invariants are asked once more, of blue, which is sealed, and of green as it was when it opened, while clients write there.
//!
//! Both are still then, so the comparison is exact. Green's moment is kept by a connection of this process; when that ends first, nothing was
//! proved and nothing is said to be. What does not hold stops nothing here: the traffic has moved, and the soak judges.

use super::{Flip, Route};
use crate::database::invariants::{self, Answer, InvariantError};
use crate::engine::{Context, Receipt, StepError, chain};
use crate::plan::{Plan, Side};
use crate::steps::asking::{not_asked, told};
use crate::steps::world::World;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client;

/// Where the receipt of the flip has what came of it.
pub(in crate::steps) const AFTER: &str = "invariants_after";

/// Bound on all questions.
pub(super) fn bound(plan: &Plan, route: Route) -> Duration {
    let questions = u32::try_from(plan.invariants.len()).unwrap_or(u32::MAX);
    if route == Route::Back { Duration::ZERO } else { plan.window.invariants.saturating_mul(questions) }
}

impl Flip {
    /// Keeps green as it is, when something is to be asked of it; the flip does not wait or fail for want of it.
    pub(super) async fn keep_green(&self, world: &World) -> Option<Client> {
        if self.route == Route::Back || world.plan.invariants.is_empty() {
            return None;
        }
        let kept = async {
            let green = invariants::session(world.url(Side::Green), Side::Green).await?;
            invariants::keep(&green, Side::Green).await?;
            Ok::<_, InvariantError>(green)
        };
        kept.await.inspect_err(|error| tracing::warn!(error = %chain(error), "green's last moment is not kept")).ok()
    }

    /// The receipt, with what came of asking.
    pub(super) async fn ask_after(
        &self,
        world: &World,
        context: &Context,
        kept: Option<Client>,
        receipt: Receipt,
    ) -> Result<Receipt, StepError> {
        let mut body = receipt.into_body();
        let Some(green) = kept else { return Ok(asked_already(context, body).into()) };
        body[AFTER] = match ask(world, context, &green).await {
            Ok(answers) => json!({ "answers": answers }),
            Err(why) => json!({ "unclear": why }),
        };
        context.note(json!({ "phase": "asked", "epoch": body["epoch"], AFTER: body[AFTER] })).await?;
        Ok(body.into())
    }
}

/// The receipt, with what a process that has died since was answered at this epoch.
pub(super) fn asked_already(context: &Context, mut receipt: Value) -> Value {
    let notes = context.notes();
    let asked = notes.iter().rev().find(|note| note["phase"] == "asked" && note["epoch"] == receipt["epoch"]);
    if let Some(asked) = asked {
        receipt[AFTER] = asked[AFTER].clone();
    }
    receipt
}

/// The answers, or why there are none.
async fn ask(world: &World, context: &Context, green: &Client) -> Result<Vec<Answer>, String> {
    let why = |error| not_asked(error).why();
    let (plan, bound) = (&world.plan, world.plan.window.invariants);
    let mut blue = invariants::session(world.url(Side::Blue), Side::Blue).await.map_err(why)?;
    let blue = invariants::begin(&mut blue, Side::Blue, bound, None).await.map_err(why)?;
    invariants::resume(green, Side::Green, bound).await.map_err(why)?;
    let mut answers = Vec::new();
    for (index, invariant) in plan.invariants.iter().enumerate() {
        if context.stop().is_requested() {
            return Err(format!("asked to stop by {} while asking", context.stop().by()));
        }
        let answer = invariants::ask(invariant, &blue, green).await.map_err(why)?;
        context.progress(index as u64 + 1, Some(plan.invariants.len() as u64), "invariants", told(&answer));
        if !answer.holds {
            tracing::warn!("after the flip an invariant does not hold: {}", answer.words());
        }
        answers.push(answer);
    }
    Ok(answers)
}
