//! `issue-canaries`: grants made on blue before the copy, each in a state that green must know as well: live, rotated, revoked, expired, and
//! two that are revoked while the run is under way.
//!
//! Their tokens are kept in this step's receipt, encrypted under a secret of the environment: they are found from any machine, and nobody
//! who reads the journal learns them. Undo removes the clients to whom they were issued, and all that hangs on them.

use super::failure::fail;
use super::flock::{door, keepers, sealed};
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::probes::OauthProbe;
use crate::gates::probes::oauth::{self, Canaries};
use crate::plan::{Secret, Side};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// The step's name.
pub(super) const ID: StepId = StepId::new("issue-canaries");

/// For all canaries of one probe.
const EACH: Duration = Duration::from_secs(90);

/// What to do when an engine does not answer.
const BRING_BACK: &str = "bring the engine of that side back, then run the same command again";

/// What to do when the gateway does not.
const START_IT: &str = "no canary was issued; the gateway must answer at `gateway.listen.public` and `gateway.listen.admin` from here too: \
     start it, then run the same command again";

/// Makes the canaries.
#[derive(Debug, Clone)]
pub struct IssueCanaries {
    /// Of so many probes.
    pub probes: u32,
}

/// Two canaries are revoked later where clients revoke: that nobody answers there is told before the copy, not hours after it.
async fn require_door(world: &World) -> Result<(), StepError> {
    for (probe, _) in keepers(world) {
        let reached = door(world, &probe, Side::Blue).await;
        let failed = |error| fail("reach the place where clients revoke, as a canary must later", error);
        reached.map_err(|error| failed(error).retry().hint(START_IT))?;
    }
    Ok(())
}

/// Makes the canaries of one probe, after whatever a process before has left of them.
async fn issue(probe: &OauthProbe, key: &Secret, run: Uuid) -> Result<Value, oauth::OauthError> {
    let owner = probe.canary_owner(run);
    probe.remove_canaries(Side::Blue, run).await?;
    let engine = probe.engine(Side::Blue).await?;
    let canaries = Canaries::issue(&engine, &owner, &probe.plan.scope).await?;
    Ok(sealed(probe, key, run, &canaries))
}

/// Removes the canaries of a run from a side.
///
/// # Errors
/// When the engine does not do it; asked again it goes on.
pub(super) async fn remove(world: &World, run: Uuid, side: Side) -> Result<(), StepError> {
    for (probe, _) in keepers(world) {
        let removed = probe.remove_canaries(side, run).await;
        removed.map_err(|error| fail(format!("remove the canaries from {side}"), error).retry().hint(BRING_BACK))?;
    }
    Ok(())
}

impl Step for IssueCanaries {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "make grants on blue for clients of our own, live, rotated, revoked, expired and to be revoked, and keep their tokens encrypted".to_owned()
    }

    fn undo_summary(&self) -> String {
        "remove these clients from blue, with their grants".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(EACH.saturating_mul(self.probes.max(1)), 3, Duration::from_secs(2))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let mut standing = 0;
        for (probe, _) in keepers(world) {
            let found = probe.standing(Side::Blue, &probe.canary_owner(context.run())).await;
            standing +=
                found.map_err(|error| fail("look for the canaries on blue", error).retry().hint(BRING_BACK))?.len();
        }
        let issued = context.notes().into_iter().rev().find(|note| note["phase"] == "issued");
        Ok(match (standing, issued) {
            (0, _) => Standing::Absent,
            (_, Some(receipt)) => Standing::Present(receipt.into()),
            (clients, None) => Standing::Partial(format!("{clients} clients of canaries")),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        require_door(world).await?;
        let mut all = Vec::new();
        for (probe, key) in keepers(world) {
            let issued = issue(&probe, &key, context.run()).await;
            all.push(issued.map_err(|error| fail("make canaries on blue", error))?);
        }
        let receipt = json!({ "phase": "issued", "canaries": all });
        context.note(receipt.clone()).await?;
        Ok(receipt.into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        remove(world, context.run(), Side::Blue).await
    }
}
