//! `resolve-copy` and `resolve-mapping`: both catalogs are read, and whatever is unmapped or ambiguous, there or back, is refused.
//!
//! With method `carry` there is one mapping, and no row moves before it is resolved. With `logical` there are two, one after the other:
//! green first has blue's own schema and then, after its migrations, its final one. A step says by its `Form` which of both it goes by.

use super::failure::fail;
use super::world::World;
use crate::database::catalog::{self, Catalog};
use crate::database::level;
use crate::database::mapping::{self, LeftBehind, Mapping, MappingProblem};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{CopyMethod, Side, TableName};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

const ONE_TO_ONE: StepId = StepId::new("resolve-copy");
const PLANNED: StepId = StepId::new("resolve-mapping");

/// Whose schema green has at the time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Blue's own: every table goes one to one.
    Blue,
    /// Its final one: tables go by the plan's mapping.
    Final,
}

/// Resolves the mapping from blue's tables to green's.
#[derive(Debug, Clone)]
pub struct ResolveMapping {
    /// Which of the mappings.
    pub form: Form,
    /// How many tables the plan maps by hand.
    pub written: usize,
}

impl Form {
    /// The name of the step that resolves its mapping.
    fn resolved_by(self) -> StepId {
        match self {
            Self::Blue => ONE_TO_ONE,
            Self::Final => PLANNED,
        }
    }

    /// The mapping that was journalled.
    pub(super) fn mapping(self, context: &Context) -> Result<Mapping, StepError> {
        context.facts().get(&self.resolved_by())
    }
}

impl Step for ResolveMapping {
    type World = World;

    fn id(&self) -> StepId {
        self.form.resolved_by()
    }

    fn summary(&self) -> String {
        match self.form {
            Form::Blue => "match every table of blue and green one to one, refuse what cannot be followed".to_owned(),
            Form::Final => {
                format!(
                    "match every table of blue and green ({} mapped by the plan), refuse what is left over",
                    self.written
                )
            }
        }
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

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if self.form == Form::Blue {
            return Ok(Receipt::of(&resolve_one_to_one(world).await?));
        }
        let mut sides = Sides::read(world).await?;
        let mapping = sides.resolve(world).await?;
        sides.require_lookups(world, &mapping).await?;
        if world.plan.copy.method == CopyMethod::Logical {
            require_captured(&mapping, &Form::Blue.mapping(context)?)?;
        }
        resolve_back(world).await?;
        Ok(Receipt::of(&mapping))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

/// The mapping by which rows would be copied now; reads only.
///
/// # Errors
/// When it has problems, for example because green has no schema yet, or a server does not answer.
pub(super) async fn mapping_as_it_is(world: &World) -> Result<Mapping, StepError> {
    match world.plan.copy.method {
        CopyMethod::Carry => Sides::read(world).await?.resolve(world).await,
        CopyMethod::Logical => resolve_unfilled(world).await,
    }
}

/// What cleanup rules leave behind, and the catalog of green; of blue's own form blue stands for both.
///
/// # Errors
/// When the mapping has problems, or a server does not answer.
pub(super) async fn left_behind(world: &World, form: Form) -> Result<(Vec<LeftBehind>, Catalog), StepError> {
    if form == Form::Blue {
        let blue = world.side(Side::Blue).await?;
        let read = |error| fail("read blue's catalog", error).retry();
        let catalog = catalog::read(&blue).await.map_err(read)?;
        let left = mapping::left_behind_one_to_one(&world.plan, &catalog, &catalog).map_err(refused)?;
        return Ok((left, catalog));
    }
    let sides = Sides::read(world).await?;
    let left = mapping::left_behind(&world.plan, &sides.blue_catalog, &sides.green_catalog, &sides.values);
    Ok((left.map_err(refused)?, sides.green_catalog))
}

/// The second mapping can only follow tables that were captured for the first.
fn require_captured(mapping: &Mapping, copied: &Mapping) -> Result<(), StepError> {
    let captured = copied.captured();
    let missing = |name: TableName| MappingProblem {
        table: name,
        what: "the mapping reads this table of blue, whose changes were not captured during the copy".to_owned(),
        hint: "take it off own: and drop:".to_owned(),
    };
    let problems: Vec<_> =
        mapping.captured().into_iter().filter(|name| !captured.contains(name)).map(missing).collect();
    if problems.is_empty() { Ok(()) } else { Err(refused(problems)) }
}

/// What the copy will take, before there is a schema on green: blue stands for both sides.
async fn resolve_unfilled(world: &World) -> Result<Mapping, StepError> {
    let blue = world.side(Side::Blue).await?;
    let read = |error| fail("read blue's catalog", error).retry();
    let catalog = catalog::read(&blue).await.map_err(read)?;
    mapping::resolve_one_to_one(&world.plan, &catalog, &catalog).map_err(refused)
}

async fn resolve_one_to_one(world: &World) -> Result<Mapping, StepError> {
    let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
    let (blue_catalog, green_catalog) = catalogs(&blue, &green).await?;
    let mapping = mapping::resolve_one_to_one(&world.plan, &blue_catalog, &green_catalog);
    judged(mapping.map_err(refused)?, Side::Blue, &blue).await
}

async fn catalogs(blue: &Client, green: &Client) -> Result<(Catalog, Catalog), StepError> {
    let read = |error| fail("read the catalogs of blue and green", error).retry();
    Ok((catalog::read(blue).await.map_err(read)?, catalog::read(green).await.map_err(read)?))
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
        let (blue_catalog, green_catalog) = catalogs(&blue, &green).await?;
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

pub(super) fn refused(problems: Vec<MappingProblem>) -> StepError {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let why = format!("the mapping has {} problems: {}", words.len(), words.join("; "));
    StepError::refused(why, "correct the plan and begin anew: cutover rollback PLAN, then cutover run PLAN")
}
