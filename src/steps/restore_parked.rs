//! What `cleanup preview` and `cleanup restore` ask: what rules leave behind and what hangs on it; and parked rows back on green.

use super::failure::fail;
use super::park_rows::{archives, said};
use super::resolve_mapping::{Form, left_behind, mapping_as_it_is};
use super::sweep_rows::left_in_place;
use super::world::World;
use crate::database::catalog;
use crate::database::cleanup::{self, Cascade, Hanging, Preview, Restorable, Restore, Restored};
use crate::database::mapping::{LeftBehind, Mapping};
use crate::engine::{Context, StepError};
use crate::plan::{CopyMethod, Side};
use crate::revocations::is_revocable;
use serde::Serialize;

/// What a rule would leave behind, and what hangs on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Looked {
    /// Rows, their share, the cap.
    #[serde(flatten)]
    pub preview: Preview,
    /// Whether its rows are kept in the archive.
    pub parked: bool,
    /// Whether its rows are taken out of the database that serves, in place, and not only left behind there.
    pub swept: bool,
    /// Keys of some of its rows.
    pub samples: Vec<String>,
    /// Rows of blue that hang on them by blue's foreign keys.
    pub cascades: Vec<Cascade>,
    /// Rows that would be carried and point to nothing on green.
    pub hanging: Vec<Hanging>,
}

/// What the cleanup rules would leave behind on blue as it is now, and what hangs on it; reads only.
///
/// # Errors
/// When the mapping has problems, for example because green has no schema yet, or a server does not answer.
pub async fn look_at_cleanup(world: &World) -> Result<Vec<Looked>, StepError> {
    let (mapping, left, green) = matched(world).await?;
    let mut blue = world.side(Side::Blue).await?;
    let previews = cleanup::preview(&mut blue, &mapping).await;
    let previews = previews.map_err(|error| fail("count what the cleanup rules match", error))?;
    let failed = |error| fail("look at what the cleanup rules match", error);
    let on_blue = catalog::read(&blue).await.map_err(|error| fail("read blue's catalog", error))?;
    let hanging = cleanup::hanging(&blue, &mapping, &left, &green).await.map_err(failed)?;
    let mut cascades = Vec::new();
    for one in &left {
        cascades.extend(cleanup::cascades(&blue, one, &on_blue).await.map_err(failed)?);
    }
    let mut all = Vec::new();
    for preview in previews {
        let Some(one) = left.iter().find(|one| one.table == preview.table) else { continue };
        let samples = cleanup::samples(&blue, one, &preview.rule).await.map_err(failed)?;
        all.push(Looked {
            parked: one.parked.contains(&preview.rule),
            swept: world.plan.databases.is_in_place,
            samples,
            cascades: cascades.iter().filter(|cascade| cascade.rule == preview.rule).cloned().collect(),
            hanging: hanging.iter().filter(|hanging| hanging.rule == preview.rule).cloned().collect(),
            preview,
        });
    }
    Ok(all)
}

/// The mapping, what rules leave behind of it, and the tables of green: those of blue, where it stands for green or is it.
async fn matched(world: &World) -> Result<(Mapping, Vec<LeftBehind>, catalog::Catalog), StepError> {
    let form = match world.plan.copy.method {
        _ if world.plan.databases.is_in_place => return left_in_place(world).await,
        CopyMethod::Carry => Form::Final,
        CopyMethod::Logical => Form::Blue,
    };
    let mapping = mapping_as_it_is(world).await?;
    let (left, green) = left_behind(world, form).await?;
    Ok((mapping, left, green))
}

/// Parked rows of one rule on their way back.
pub struct Parked {
    left: LeftBehind,
    rule: String,
    keys: Vec<Vec<String>>,
    catalog: catalog::Catalog,
}

impl Parked {
    /// Finds the rule's archive; `keys` are those asked for, all when empty.
    ///
    /// # Errors
    /// When the plan has no such rule, it keeps no rows, or a key has another number of columns; nothing was changed.
    pub async fn find(world: &World, context: &Context, rule: &str, keys: Vec<Vec<String>>) -> Result<Self, StepError> {
        let hint = "cutover cleanup preview PLAN names the rules";
        let Some(known) = world.plan.cleanup.iter().find(|known| known.name == rule) else {
            return Err(StepError::refused(format!("the plan has no cleanup rule {rule}"), hint));
        };
        let (left, catalog) = if world.plan.databases.is_in_place {
            let (_, left, catalog) = left_in_place(world).await?;
            (left, catalog)
        } else {
            left_behind(world, Form::Final).await?
        };
        let left = left.into_iter().find(|left| left.parked.iter().any(|parked| parked == rule));
        let left = match left {
            Some(left) => as_made(world, context, left).await?,
            None => None,
        };
        let Some(left) = left else {
            let why = match known.park {
                true => format!("the run has no archive for {rule}"),
                false if world.plan.databases.is_in_place => {
                    format!("cleanup rule {rule} has park: false: its rows are gone")
                }
                false => format!("cleanup rule {rule} has park: false: its rows are on blue alone"),
            };
            return Err(StepError::refused(why, hint));
        };
        if (world.plan.revocations.is_some() || world.plan.databases.is_in_place) && is_revocable(&left.table) {
            // The engine revokes by the rows it sees: whoever is revoked between our look at the queue and our commit would live again.
            let why = format!(
                "{} holds what people revoke: a row that comes back while green serves could be one of these",
                left.table
            );
            return Err(StepError::refused(
                why,
                "nothing was changed; the rows stay in the archive, for a person to look at",
            ));
        }
        let wanted = left.rows.key.len();
        if let Some(key) = keys.iter().find(|key| key.len() != wanted) {
            let names: Vec<&str> = left.rows.key.iter().map(|column| column.name.as_str()).collect();
            let why =
                format!("a key of {} has {} values ({}), not {}", left.table, wanted, names.join(", "), key.len());
            return Err(StepError::refused(
                why,
                "write --key VALUE, or --key '[\"a\", \"b\"]' for a key of several columns",
            ));
        }
        Ok(Self { left, rule: rule.to_owned(), keys, catalog })
    }

    fn asked(&self, context: &Context) -> Restore<'_> {
        Restore {
            left: &self.left,
            rule: &self.rule,
            keys: &self.keys,
            catalog: &self.catalog,
            term: context.term(),
            batches: cleanup::Batches::default(),
        }
    }

    /// Counts what would come back; reads only.
    ///
    /// # Errors
    /// When green does not answer.
    pub async fn preview(&self, world: &World, context: &Context) -> Result<Restorable, StepError> {
        let green = world.side(Side::Green).await?;
        let counted = cleanup::restorable(&green, &self.asked(context)).await;
        counted.map_err(|error| said("count the parked rows", error))
    }

    /// Brings them back under our term, while green serves.
    ///
    /// # Errors
    /// When green does not serve or a server refuses; batches that have committed stand.
    pub async fn restore(&self, world: &World, context: &Context) -> Result<Restored, StepError> {
        let mut green = world.side(Side::Green).await?;
        let stop = || context.stop().is_requested();
        let tell =
            |restored: &Restored| context.progress(restored.rows, None, "rows", format!("restored by {}", self.rule));
        let asked = self.asked(context);
        let restored = cleanup::restore(&mut green, &asked, &(), &stop, &tell).await;
        restored.map_err(|error| said("restore parked rows", error))
    }
}

/// The rows of a table as the run has parked them; none when it has made no archive.
async fn as_made(world: &World, context: &Context, left: LeftBehind) -> Result<Option<LeftBehind>, StepError> {
    if !world.plan.databases.is_in_place {
        let is_made = archives(context)?.tables.iter().any(|table| table.target == left.rows.target);
        return Ok(is_made.then_some(left));
    }
    let green = world.side(Side::Green).await?;
    cleanup::as_parked(&green, &left).await.map_err(|error| said("look for the archive", error))
}
