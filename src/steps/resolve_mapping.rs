//! `resolve-mapping`: both catalogs are read, and whatever is unmapped or ambiguous, there or back, is refused before a row moves.

use super::failure::fail;
use super::world::World;
use crate::database::catalog::{self, Catalog};
use crate::database::cleanup::{self, Preview};
use crate::database::level;
use crate::database::mapping::{self, Mapping, MappingProblem};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

/// The step's name.
pub(super) const ID: StepId = StepId::new("resolve-mapping");

/// Resolves the mapping from blue's tables to green's.
#[derive(Debug, Clone)]
pub struct ResolveMapping {
    /// How many tables the plan maps by hand.
    pub written: usize,
}

/// The mapping that the step journalled.
pub(super) fn mapping(context: &Context) -> Result<Mapping, StepError> {
    context.facts().get(&ID)
}

impl Step for ResolveMapping {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        format!("match every table of blue and green ({} mapped by the plan), refuse what is left over", self.written)
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(60), 3, Duration::from_secs(1))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, _context: &Context) -> Result<Receipt, StepError> {
        let mut sides = Sides::read(world).await?;
        let mapping = sides.resolve(world).await?;
        sides.require_lookups(world, &mapping).await?;
        resolve_back(world).await?;
        Ok(Receipt::of(&mapping))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

/// What the cleanup rules would leave behind on blue as it is now; reads only.
///
/// # Errors
/// When the mapping has problems, for example because green has no schema yet, or a server does not answer.
pub async fn preview_cleanup(world: &World) -> Result<Vec<Preview>, StepError> {
    let mut sides = Sides::read(world).await?;
    let mapping = sides.resolve(world).await?;
    cleanup::preview(&mut sides.blue, &mapping).await.map_err(|error| fail("count what the cleanup rules match", error))
}

/// The mapping of the way back, for what the plan's `reverse` brings back; reads only.
///
/// # Errors
/// When something cannot go back as the plan says, or a server does not answer.
pub(super) async fn resolve_back(world: &World) -> Result<Mapping, StepError> {
    let sides = Sides::read(world).await?;
    let mapping = mapping::resolve_back(&world.plan, &sides.blue_catalog, &sides.green_catalog, &sides.values);
    judged(mapping.map_err(refused)?, Side::Green, &sides.green).await
}

/// What a mapping is made from.
struct Sides {
    blue: Client,
    green: Client,
    blue_catalog: Catalog,
    green_catalog: Catalog,
    values: BTreeMap<String, String>,
}

impl Sides {
    async fn read(world: &World) -> Result<Self, StepError> {
        let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let read = |error| fail("read the catalogs of blue and green", error).retry();
        let blue_catalog = catalog::read(&blue).await.map_err(read)?;
        let green_catalog = catalog::read(&green).await.map_err(read)?;
        let values = mapping::ask_values(&green, &world.plan.values).await.map_err(|error| {
            let hint = "green needs its schema first: cutover run PLAN --through resolve-mapping";
            fail("ask green for the plan's values", error).hint(hint)
        })?;
        Ok(Self { blue, green, blue_catalog, green_catalog, values })
    }

    async fn resolve(&self, world: &World) -> Result<Mapping, StepError> {
        let mapping = mapping::resolve(&world.plan, &self.blue_catalog, &self.green_catalog, &self.values);
        judged(mapping.map_err(refused)?, Side::Blue, &self.blue).await
    }

    /// Touched rows must find their rows on green through indexes, and not too many of them.
    async fn require_lookups(&mut self, world: &World, mapping: &Mapping) -> Result<(), StepError> {
        let (blue, green, fan_out) = (&mut self.blue, &mut self.green, world.plan.level.fan_out);
        let problems =
            level::judge_lookups(blue, &self.blue_catalog, green, &self.green_catalog, mapping, fan_out).await;
        let problems =
            problems.map_err(|error| fail("have the servers explain how touched rows are found", error).retry())?;
        if problems.is_empty() { Ok(()) } else { Err(refused(problems)) }
    }
}

/// The mapping, if the side that is asked understands it.
async fn judged(mapping: Mapping, side: Side, source: &Client) -> Result<Mapping, StepError> {
    let problems = mapping::judge(&mapping, side, source).await;
    let asked = |error| fail(format!("ask {side} whether it understands the mapping"), error).retry();
    let problems = problems.map_err(asked)?;
    if problems.is_empty() { Ok(mapping) } else { Err(refused(problems)) }
}

fn refused(problems: Vec<MappingProblem>) -> StepError {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let why = format!("the mapping has {} problems: {}", words.len(), words.join("; "));
    StepError::refused(why, "correct the plan and begin anew: cutover rollback PLAN, then cutover run PLAN")
}
