//! Before the hold: every gateway that lives denies every revocation, so that the second line stands everywhere before anybody moves.

use super::{FORWARD_PAUSE, Flip};
use crate::database::client::connect;
use crate::engine::StepError;
use crate::revocations::unconfirmed;
use crate::steps::failure::fail;
use crate::steps::world::World;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for gateways to catch up with the queue; they look at it four times a second.
const WITHIN: Duration = Duration::from_secs(15);

impl Flip {
    pub(super) async fn every_gateway_denies(&self, world: &World) -> Result<(), StepError> {
        if world.plan.gateway.is_none() || world.ledger(self.route.from()).is_none() {
            return Ok(());
        }
        let control = connect(&world.plan.control, "control").await;
        let control = control.map_err(|error| fail("reach control", error).retry())?;
        let until = Instant::now() + WITHIN;
        loop {
            let reasons = unconfirmed(&control, &world.plan.name).await;
            let reasons = reasons.map_err(|error| fail("ask which gateways deny what was revoked", error))?;
            if reasons.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                let why = format!("not every gateway denies what was revoked: {}", reasons.join("; "));
                let hint = format!("see that each of them runs and reaches control, then: {}", self.route.command());
                return Err(StepError::refused(why, hint));
            }
            tokio::time::sleep(FORWARD_PAUSE).await;
        }
    }
}
