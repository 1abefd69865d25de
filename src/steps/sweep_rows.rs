//! `sweep-rows`: in place, rows that cleanup rules match leave the database that serves, batch by batch, into an archive beside it.
//!
//! Before the migrations, which would break on them. All rules are looked at before the first row goes, and children go before parents; undo brings
//! rows back. What people revoke is deleted for good or not at all: a row that comes back could have been revoked while it was away.

use super::failure::fail;
use super::park_rows::said;
use super::restore_parked::{Looked, look_at_cleanup};
use super::world::World;
use crate::database::catalog::{self, Catalog};
use crate::database::claim;
use crate::database::cleanup::{self, Batches, Cascade, Restore, Restored, Sweep, Swept, children_first};
use crate::database::mapping::{self, LeftBehind, Mapping};
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{CleanupRule, Side, TableName};
use crate::revocations::is_revocable;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The step's name, and its mark on the database.
pub(super) const ID: StepId = StepId::new("sweep-rows");

/// Sweeps every rule's table.
#[derive(Debug, Clone)]
pub struct SweepRows {
    /// The rules, in the plan's order.
    pub rules: Vec<CleanupRule>,
    /// Bound on all of it.
    pub bound: Duration,
}

/// What the rules match in the one database, and its tables.
pub(super) async fn left_in_place(world: &World) -> Result<(Mapping, Vec<LeftBehind>, Catalog), StepError> {
    let blue = world.side(Side::Blue).await?;
    let catalog = catalog::read(&blue).await.map_err(|error| fail("read blue's catalog", error).retry())?;
    let (mapping, left) = mapping::left_in_place(&world.plan, &catalog).map_err(super::resolve_mapping::refused)?;
    Ok((mapping, left, catalog))
}

/// Every rule can be carried out to its end, or none is begun.
fn require(looked: &[Looked], rules: &[CleanupRule]) -> Result<(), StepError> {
    let hint = "cutover cleanup preview PLAN shows each rule; correct the plan; no row was touched";
    for one in looked {
        let preview = &one.preview;
        if preview.is_over_cap {
            let why = format!(
                "cleanup rule {}: {} of {} rows of {} match, and its cap is {} rows and {} %",
                preview.rule, preview.rows, preview.source_rows, preview.table, preview.cap_rows, preview.cap_percent
            );
            return Err(StepError::refused(why, hint));
        }
        if let Some(hanging) = one.hanging.first() {
            return Err(StepError::refused(hanging.to_string(), hint));
        }
        // Rows of a table with a rule are among those that hang, unless they go themselves.
        let has_rule = |table: &TableName| rules.iter().any(|rule| rule.table == *table);
        let is_alone = |cascade: &&Cascade| cascade.through.len() == 1 && cascade.rows > 0 && !has_rule(&cascade.table);
        if let Some(cascade) = one.cascades.iter().find(is_alone) {
            let why = format!(
                "{} rows of {} point to rows that {} would delete ({}), and no rule deals with them",
                cascade.rows, cascade.table, preview.rule, cascade.through[0]
            );
            return Err(StepError::refused(why, hint));
        }
    }
    Ok(())
}

/// A row that is brought back could have been revoked while it was away, and nobody would know.
fn require_not_revoked(rules: &[CleanupRule]) -> Result<(), StepError> {
    let Some(rule) = rules.iter().find(|rule| rule.park && is_revocable(&rule.table)) else { return Ok(()) };
    let why = format!(
        "cleanup rule {}: {} holds what people revoke, and a parked row could be revoked before it comes back",
        rule.name, rule.table
    );
    Err(StepError::refused(why, "write park: false: its rows are deleted for good; no row was touched"))
}

impl SweepRows {
    fn rule(&self, name: &str) -> Option<&CleanupRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    fn names(&self) -> String {
        self.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn batches(&self) -> Batches {
        Batches { whole: self.bound, ..Batches::default() }
    }

    /// The rules with what they match, children before the parents to which they point.
    fn ordered<'l>(
        &'l self,
        left: &'l [LeftBehind],
        catalog: &Catalog,
    ) -> Result<Vec<(&'l CleanupRule, &'l LeftBehind, &'l str)>, StepError> {
        let tables: Vec<&TableName> = left.iter().map(|one| &one.table).collect();
        let order = children_first(&tables, catalog).map_err(|error| said("put the rules in an order", error))?;
        let of_table = |place: usize| {
            let one = &left[place];
            one.predicates.iter().filter_map(move |(name, sql)| Some((self.rule(name)?, one, sql.as_str())))
        };
        Ok(order.into_iter().flat_map(of_table).collect())
    }

    async fn sweep(
        &self,
        world: &World,
        context: &Context,
        (rule, left, predicate): (&CleanupRule, &LeftBehind, &str),
        catalog: &Catalog,
    ) -> Result<Swept, StepError> {
        let mut blue = world.side(Side::Blue).await?;
        let asked = Sweep {
            rule: &rule.name,
            table: &left.table,
            key: &left.rows.key,
            predicate,
            cap_rows: rule.cap_rows,
            cap_percent: rule.cap_percent,
            park: rule.park,
            catalog,
            term: context.term(),
            side: Side::Blue,
            calm: &world.plan.level,
            batches: self.batches(),
        };
        let stop = || context.stop().is_requested();
        let tell = |swept: &Swept| {
            let waits = swept.waits.as_ref().map_or_else(String::new, |why| format!(", waiting: {why}"));
            context.progress(swept.rows, None, "rows", format!("swept by {}{waits}", rule.name));
        };
        let swept = cleanup::sweep(&mut blue, &asked, &stop, &tell).await;
        let swept = swept.map_err(|error| said("sweep a table", error).effect(Effect::Unknown))?;
        if swept.is_done {
            Ok(swept)
        } else {
            Err(StepError::parked("a stop was asked for between two batches", "cutover run PLAN"))
        }
    }

    async fn bring_back(
        &self,
        world: &World,
        context: &Context,
        (rule, left): (&CleanupRule, &LeftBehind),
        catalog: &Catalog,
    ) -> Result<Restored, StepError> {
        let mut blue = world.side(Side::Blue).await?;
        let asked =
            Restore { left, rule: &rule.name, keys: &[], catalog, term: context.term(), batches: self.batches() };
        let tell = |restored: &Restored| {
            context.progress(restored.rows, None, "rows", format!("brought back of {}", rule.name));
        };
        let back = cleanup::restore(&mut blue, &asked, &(), &|| false, &tell).await;
        back.map_err(|error| said("bring rows back", error))
    }
}

impl Step for SweepRows {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        format!(
            "delete what {} match from the database that serves, in batches of at most a fifth of a second; rows of rules with `park` are kept in schema cutover",
            self.names()
        )
    }

    fn undo_summary(&self) -> String {
        "bring parked rows back, unless the application has made a row of the same key since; rows of rules with `park: false` are gone"
            .to_owned()
    }

    fn reversal(&self) -> Reversal {
        if self.rules.iter().any(|rule| rule.park) { Reversal::Undo } else { Reversal::Monotone }
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let blue = world.side(Side::Blue).await?;
        let noted = claim::noted(&blue, context.run(), ID.as_str()).await;
        if let Some(body) = noted.map_err(|error| fail("see what was swept", error))? {
            return Ok(Standing::Present(body.into()));
        }
        let begun = cleanup::swept(&blue).await.map_err(|error| said("see what was swept", error))?;
        Ok(if begun == 0 { Standing::Absent } else { Standing::Partial(format!("{begun} rules have been begun")) })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        require_not_revoked(&self.rules)?;
        require(&look_at_cleanup(world).await?, &self.rules)?;
        let (_, left, catalog) = left_in_place(world).await?;
        let mut by_rule = Map::new();
        for one in self.ordered(&left, &catalog)? {
            let swept = self.sweep(world, context, one, &catalog).await?;
            let body = json!({ "rows": swept.rows, "parked": one.0.park, "batches": swept.batches, "longest_ms": u64::try_from(swept.longest.as_millis()).unwrap_or(u64::MAX) });
            by_rule.insert(one.0.name.clone(), body);
        }
        let body = json!({ "swept": Value::Object(by_rule) });
        let mut blue = world.side(Side::Blue).await?;
        let noted = claim::note(&mut blue, &context.term(), context.run(), ID.as_str(), &body).await;
        noted.map_err(|error| fail("note what was swept", error).effect(Effect::Unknown))?;
        Ok(body.into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let (_, left, catalog) = left_in_place(world).await?;
        let mut blue = world.side(Side::Blue).await?;
        // Parents first: a child can only come back to one that is there.
        for (rule, left, _) in self.ordered(&left, &catalog)?.into_iter().rev().filter(|(rule, ..)| rule.park) {
            let parked = cleanup::as_parked(&blue, left).await;
            let Some(left) = parked.map_err(|error| said("look for the archive", error))? else { continue };
            let back = self.bring_back(world, context, (rule, &left), &catalog).await?;
            context.progress(back.rows, None, "rows", format!("all of {} that can stand is back", rule.name));
        }
        let forgotten = cleanup::forget_swept(&mut blue, &context.term(), ID.as_str()).await;
        forgotten.map_err(|error| said("forget what was swept", error))
    }
}
