//! What a gateway needs to know, taken from a plan.

use crate::plan::{Adapter, Gateway, Plan, Secret};
use crate::revocations::Install;
use std::time::Duration;

/// Everything a gateway runs by.
#[derive(Clone)]
pub struct Config {
    /// Name of the plan; revocations are queued under it.
    pub plan: String,
    /// Name of this gateway among the plan's systems; it registers as a producer under it.
    pub name: String,
    /// The control database.
    pub control: Secret,
    /// Blue's database, for registers and lookups.
    pub blue: Secret,
    /// Green's database, for registers and lookups.
    pub green: Secret,
    /// The plan's `gateway:` section.
    pub gateway: Gateway,
    /// Longest hold of the plan; a flip that nobody has finished after it is written against.
    pub hold: Duration,
    /// Bound of one lookup, one append and one reading of a register.
    pub patience: Duration,
    /// Makes our tables in control where they are missing.
    pub install: Install,
}

impl Config {
    /// The gateway of a plan, or none when the plan has no `gateway:` section.
    #[must_use]
    pub fn from_plan(plan: &Plan, install: Install) -> Option<Self> {
        let gateway = plan.gateway.clone()?;
        let name = plan
            .systems
            .iter()
            .find(|system| matches!(system.adapter, Adapter::Gateway { .. }))
            .map_or_else(|| "gateway".to_owned(), |system| system.name.clone());
        Some(Self {
            plan: plan.name.clone(),
            name,
            control: plan.control.clone(),
            blue: plan.databases.blue.url.clone(),
            green: plan.databases.green.url.clone(),
            gateway,
            hold: plan.window.hold,
            patience: plan.window.hold.clamp(Duration::from_millis(500), Duration::from_secs(2)),
            install,
        })
    }
}
