//! `revoke-canaries-on-green`: before the way back, while green serves, a canary is revoked there, as its client would do it. Blue must know it
//! when it serves again.
//!
//! It never stands in the way: whoever goes back may do so because green is ill. What cannot be revoked within a few seconds is said, and the
//! canary is then let off: nobody knows whether it lives.

use super::flip::Route;
use super::flock::{door, door_word, keepers, kept, opened, sealed};
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId, chain};
use crate::gates::probes::OauthProbe;
use crate::gates::probes::oauth::{Canaries, Expected, Kind, OauthError};
use crate::plan::{Secret, Side};
use serde_json::{Value, json};
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("revoke-canaries-on-green");

/// For the canary of one probe. People wait for blue.
const EACH: Duration = Duration::from_secs(10);
/// For the journal.
const REST: Duration = Duration::from_secs(30);

/// Revokes what is to be revoked while green serves.
#[derive(Debug, Clone)]
pub struct RevokeCanariesOnGreen {
    /// Of so many probes.
    pub probes: u32,
}

async fn revoke(world: &World, probe: &OauthProbe, canaries: &mut Canaries) -> Result<(), OauthError> {
    let (engine, door) = (probe.engine(Side::Green).await?, door(world, probe, Side::Green).await?);
    canaries.revoke(Kind::WithdrawnOnGreen, &door, &engine).await
}

/// Revokes the canary of one probe, and gives what is kept from now on; none of a run that has no such canary, or cannot read it: whoever
/// looks at it then says so.
async fn withdraw(world: &World, context: &Context, (probe, key): &(OauthProbe, Secret)) -> Option<Value> {
    let (kind, run) = (Kind::WithdrawnOnGreen, context.run());
    let mut canaries = opened(key, run, kept(context.facts(), probe)?).ok().filter(|canaries| canaries.holds(kind))?;
    let mut revoked = canaries.clone();
    let done = match tokio::time::timeout(EACH, revoke(world, probe, &mut revoked)).await {
        Ok(done) => done.map_err(|error| chain(&error)),
        Err(_) => Err(format!("not done within {} s", EACH.as_secs())),
    };
    let Err(why) = done else {
        let mut receipt = sealed(probe, key, run, &revoked);
        (receipt["by"], receipt["through"]) = (json!("token"), json!(door_word(world)));
        return Some(receipt);
    };
    tracing::warn!(probe = %probe.plan.name, %why, "a canary could not be revoked on green; the way back goes on without it");
    canaries.doubt(kind);
    let mut receipt = sealed(probe, key, run, &canaries);
    receipt["doubted"] = json!(why);
    Some(receipt)
}

impl Step for RevokeCanariesOnGreen {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let within = humantime::format_duration(EACH);
        format!(
            "revoke a canary on green where clients revoke: blue must know it when it serves again; within {within}, or not at all"
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: what was revoked stays revoked".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn goes_with(&self) -> Option<StepId> {
        Some(Route::Back.id())
    }

    fn limits(&self) -> Limits {
        Limits::once(EACH.saturating_mul(self.probes.max(1)) + REST)
    }

    /// Its notes alone say it: green may be ill.
    async fn verify(&self, _world: &World, context: &Context) -> Result<Standing, StepError> {
        let revoked = context.notes().into_iter().rev().find(|note| note["phase"] == "revoked");
        Ok(revoked.map_or(Standing::Absent, |receipt| Standing::Present(receipt.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mut all = Vec::new();
        // A green that takes none of blue's tokens has none to revoke.
        let takes_them = |probe: &OauthProbe| probe.expected(Side::Green) == Expected::AsOnBlue;
        for keeper in keepers(world).into_iter().filter(|(probe, _)| takes_them(probe)) {
            all.extend(withdraw(world, context, &keeper).await);
        }
        let receipt = json!({ "phase": "revoked", "canaries": all });
        context.note(receipt.clone()).await?;
        Ok(receipt.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
