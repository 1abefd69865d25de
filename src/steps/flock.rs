//! The canaries of a run: where they are kept, at which door their clients revoke them, and what a side says of each.
//!
//! Three steps keep them, each in its receipt: one that issues them, and two that revoke one while the run is under way. The newest counts,
//! so that every gate knows which of them have been revoked by then.

use super::probing::Probes;
use super::world::World;
use super::{issue_canaries, revoke_canaries, revoke_canaries_on_green};
use crate::engine::Facts;
use crate::gates::probes::OauthProbe;
use crate::gates::probes::oauth::{self, Canaries, Engine, OauthError};
use crate::gates::{Finding, Reading};
use crate::plan::{Secret, Side, Upstream};
use serde_json::{Value, json};
use uuid::Uuid;

/// What to do when the canaries cannot be read.
pub(super) const READ_THEM: &str = "set the variable of `canaries.key` to what it was, then run the same command again";

/// The canaries of one probe, as a run has kept them.
#[derive(Clone)]
struct Watched {
    probe: OauthProbe,
    canaries: Result<Canaries, String>,
}

/// The canaries of a run.
#[derive(Clone)]
pub(super) struct Flock(Vec<Watched>);

/// The probes with canaries, and the secrets under which those are kept.
pub(super) fn keepers(world: &World) -> Vec<(OauthProbe, Secret)> {
    let probes = Probes::of(world);
    probes.oauth().filter_map(|probe| Some((probe.clone(), probe.plan.canaries.clone()?))).collect()
}

/// As they are kept in a receipt or a note: with every token encrypted.
pub(super) fn sealed(probe: &OauthProbe, key: &Secret, run: Uuid, canaries: &Canaries) -> Value {
    let sealed = oauth::seal(key, &run.to_string(), &canaries.to_text());
    json!({ "probe": probe.plan.name, "clients": canaries.clients(), "sealed": sealed })
}

/// The other way round.
///
/// # Errors
/// In words, when the secret is another one, or the text another version's.
pub(super) fn opened(key: &Secret, run: Uuid, sealed: &Value) -> Result<Canaries, String> {
    let text = sealed["sealed"].as_str().unwrap_or_default();
    let text = oauth::open(key, &run.to_string(), text).map_err(|error| error.to_string())?;
    Canaries::of_text(&text).ok_or_else(|| "the canaries have another shape (written by another version?)".to_owned())
}

/// What the newest step that has kept the canaries of a probe has kept; none where none were issued.
pub(super) fn kept<'a>(facts: &'a Facts, probe: &OauthProbe) -> Option<&'a Value> {
    let newest_first = [revoke_canaries_on_green::ID, revoke_canaries::ID, issue_canaries::ID];
    newest_first.iter().find_map(|step| {
        let all = facts.receipt(step)?["canaries"].as_array()?;
        all.iter().find(|kept| kept["probe"] == probe.plan.name.as_str())
    })
}

/// Where clients of the side that serves revoke: at the gateway, which captures it, or at the engine itself where the plan has none.
///
/// # Errors
/// When nobody answers there.
pub(super) async fn door(world: &World, probe: &OauthProbe, serving: Side) -> Result<Engine, OauthError> {
    match &world.plan.gateway {
        Some(gateway) => {
            let (public, admin) = (gateway.listen.public.clone(), gateway.listen.admin.clone());
            probe.engine_at(&Upstream { public, admin }).await
        }
        None => probe.engine(serving).await,
    }
}

/// The same, in a word for a receipt.
pub(super) fn door_word(world: &World) -> &'static str {
    if world.plan.gateway.is_some() { "gateway" } else { "engine" }
}

impl Flock {
    /// The canaries that a run has made; none where it has made none.
    pub(super) fn of(world: &World, run: Uuid, facts: &Facts) -> Self {
        let watched = keepers(world).into_iter().filter_map(|(probe, key)| {
            let canaries = opened(&key, run, kept(facts, &probe)?);
            Some(Watched { probe, canaries })
        });
        Self(watched.collect())
    }

    /// What a side says of each. Reads only.
    pub(super) async fn look(&self, side: Side) -> Vec<Reading> {
        let mut readings = Vec::new();
        for Watched { probe, canaries } in &self.0 {
            let name = &probe.plan.name;
            let one = |finding| vec![Reading::new(name, "canaries", finding)];
            readings.extend(match (canaries, probe.engine(side).await) {
                (Err(why), _) => one(Finding::Broken(why.clone())),
                (_, Err(error)) => one(error.finding()),
                (Ok(canaries), Ok(engine)) => {
                    let now_s = jiff::Timestamp::now().as_second();
                    canaries.look(&engine, name, probe.expected(side), now_s).await
                }
            });
        }
        readings
    }
}
