//! `resolve-mapping`: both catalogs are read, and whatever is unmapped or ambiguous is refused before a row moves.

use super::failure::fail;
use super::world::World;
use crate::database::catalog;
use crate::database::cleanup::{self, Preview};
use crate::database::mapping::{self, Mapping, MappingProblem};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use std::time::Duration;

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
        Ok(Receipt::of(&resolve(world).await?))
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
    let mapping = resolve(world).await?;
    let mut blue = world.side(Side::Blue).await?;
    cleanup::preview(&mut blue, &mapping).await.map_err(|error| fail("count what the cleanup rules match", error))
}

async fn resolve(world: &World) -> Result<Mapping, StepError> {
    let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
    let read = |error| fail("read the catalogs of blue and green", error).retry();
    let (blue_catalog, green_catalog) =
        (catalog::read(&blue).await.map_err(read)?, catalog::read(&green).await.map_err(read)?);
    let values = mapping::ask_values(&green, &world.plan.values).await;
    let values = values.map_err(|error| {
        let hint = "green needs its schema first: cutover run PLAN --through resolve-mapping";
        fail("ask green for the plan's values", error).hint(hint)
    })?;
    let mapping = mapping::resolve(&world.plan, &blue_catalog, &green_catalog, &values).map_err(refused)?;
    let problems = mapping::judge(&mapping, Side::Blue, &blue).await;
    let problems = problems.map_err(|error| fail("ask blue whether it understands the mapping", error).retry())?;
    if problems.is_empty() { Ok(mapping) } else { Err(refused(problems)) }
}

fn refused(problems: Vec<MappingProblem>) -> StepError {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let why = format!("the mapping has {} problems: {}", words.len(), words.join("; "));
    StepError::refused(why, "correct the plan and begin anew: cutover rollback PLAN, then cutover run PLAN")
}
