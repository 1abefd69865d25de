//! `revoke-canaries`: after the copy, while blue serves, a canary is refreshed and then revoked, as its client would do it.
//!
//! That is the grant that is lost most easily: the copy knows its first refresh token alone, what is revoked is the second, and the first
//! would live on where only tokens are compared. From here on every gate wants the whole chain dead, on both sides.
//!
//! Its tokens change here, so each act is noted before it and after it. When a process dies between a refresh and its note, nobody has the new
//! tokens, and the old ones are dead whatever becomes of the chain: it is taken back by its user's consent then, which needs no token.

use super::failure::fail;
use super::flock::{READ_THEM, door, door_word, keepers, kept, opened, sealed};
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::probes::OauthProbe;
use crate::gates::probes::oauth::{Canaries, Engine, Kind, OauthError};
use crate::plan::{Secret, Side};
use serde_json::{Value, json};
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("revoke-canaries");

/// For the canary of one probe: a handful of calls, each bounded by the plan.
const EACH: Duration = Duration::from_secs(60);

/// What to do when somebody does not answer.
const BRING_BACK: &str =
    "blue serves as before; bring the gateway and blue's engine back, then run the same command again";

/// Revokes what is to be revoked while blue serves.
#[derive(Debug, Clone)]
pub struct RevokeCanaries {
    /// Of so many probes.
    pub probes: u32,
}

/// How far a canary's chain had come when this process took it up.
enum Found {
    /// As it was issued.
    Untouched,
    /// It has its new tokens.
    Refreshed(Canaries),
    /// A refresh was begun, and nobody has noted what came of it.
    Lost,
}

fn noted(context: &Context, phase: &str, probe: &OauthProbe) -> Option<Value> {
    let is_it = |note: &Value| note["phase"] == phase && note["probe"] == probe.plan.name.as_str();
    context.notes().into_iter().rev().find(is_it)
}

fn unreadable(why: String) -> StepError {
    StepError::refused(why, READ_THEM)
}

fn found(context: &Context, probe: &OauthProbe, key: &Secret) -> Result<Found, StepError> {
    match (noted(context, "refreshed", probe), noted(context, "refreshing", probe)) {
        (Some(note), _) => opened(key, context.run(), &note).map(Found::Refreshed).map_err(unreadable),
        (None, Some(_)) => Ok(Found::Lost),
        (None, None) => Ok(Found::Untouched),
    }
}

/// Refreshes and revokes the canary of one probe, and gives what is kept from now on; none of a run that has no such canary.
async fn withdraw(
    world: &World,
    context: &Context,
    (probe, key): &(OauthProbe, Secret),
) -> Result<Option<Value>, StepError> {
    let (kind, run) = (Kind::Withdrawn, context.run());
    let Some(issued) = kept(context.facts(), probe) else { return Ok(None) };
    let mut canaries = opened(key, run, issued).map_err(unreadable)?;
    if !canaries.holds(kind) {
        return Ok(None);
    }
    let engine = probe.engine(Side::Blue).await.map_err(|error| failed("reach blue's engine", error))?;
    let door = door(world, probe, Side::Blue).await;
    let door = door.map_err(|error| failed("reach the place where clients revoke", error))?;
    let by = match found(context, probe, key)? {
        Found::Lost => {
            let taken = canaries.take_back(kind, &door, &engine).await;
            taken.map_err(|error| failed("revoke a canary whose new tokens were lost", error))?;
            "consent"
        }
        Found::Refreshed(refreshed) => {
            canaries = refreshed;
            revoke(&mut canaries, &door, &engine).await?
        }
        Found::Untouched => {
            context.note(json!({ "phase": "refreshing", "probe": probe.plan.name })).await?;
            let refreshed = canaries.refresh(kind, &door).await;
            refreshed.map_err(|error| failed("refresh a canary on blue", error))?;
            let mut note = sealed(probe, key, run, &canaries);
            note["phase"] = json!("refreshed");
            context.note(note).await?;
            revoke(&mut canaries, &door, &engine).await?
        }
    };
    let mut receipt = sealed(probe, key, run, &canaries);
    (receipt["by"], receipt["through"]) = (json!(by), json!(door_word(world)));
    Ok(Some(receipt))
}

async fn revoke(canaries: &mut Canaries, door: &Engine, engine: &Engine) -> Result<&'static str, StepError> {
    let revoked = canaries.revoke(Kind::Withdrawn, door, engine).await;
    revoked.map_err(|error| failed("revoke a canary on blue", error))?;
    Ok("token")
}

fn failed(what: &str, error: OauthError) -> StepError {
    fail(what, error).retry().hint(BRING_BACK)
}

impl Step for RevokeCanaries {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "refresh a canary on blue and revoke it where clients revoke: from here on its whole chain must be dead on both sides".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: undoing issue-canaries removes its client".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(EACH.saturating_mul(self.probes.max(1)), 3, Duration::from_secs(2))
    }

    /// Its notes alone say it: one that is half done is as good as one that is not, since forward goes on from them.
    async fn verify(&self, _world: &World, context: &Context) -> Result<Standing, StepError> {
        let revoked = context.notes().into_iter().rev().find(|note| note["phase"] == "revoked");
        Ok(revoked.map_or(Standing::Absent, |receipt| Standing::Present(receipt.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mut all = Vec::new();
        for keeper in keepers(world) {
            all.extend(withdraw(world, context, &keeper).await?);
        }
        let receipt = json!({ "phase": "revoked", "canaries": all });
        context.note(receipt.clone()).await?;
        Ok(receipt.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
