//! `repair-NAME`: rows of green are put right when an invariant does not hold and a person has allowed it by name; counted, capped, and asked
//! again before it stands.
//!
//! Only over rows that migrations have made: a batch derives touched keys anew by the mapping, and would fight with a repair of carried rows.

use super::asking::{self, Asking, not_asked};
use super::failure::fail;
use super::flip;
use super::world::World;
use crate::database::claim;
use crate::database::invariants::{self, Answer, Changed, put_right};
use crate::database::term;
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{self, Side};
use serde_json::json;
use std::time::Duration;

/// What each of these steps is called first.
pub(super) const PREFIX: &str = "repair-";

/// Puts rows of green right, if that is needed and allowed.
#[derive(Debug, Clone)]
pub struct Repair {
    /// Which, and how.
    pub repair: plan::Repair,
    /// Bound on all of it.
    pub bound: Duration,
}

impl Repair {
    fn name(&self) -> String {
        format!("{PREFIX}{}", self.repair.name)
    }

    /// The invariant alone that calls for it.
    fn asked<'w>(&self, world: &'w World) -> &'w [plan::Invariant] {
        let all = &world.plan.invariants;
        let at = all.iter().position(|one| one.name == self.repair.invariant);
        at.map_or(&[], |at| &all[at..=at])
    }

    /// Nobody has allowed it: all that does not hold is told, and what the repair would do about it.
    async fn stop(&self, world: &World, context: &Context, mut asking: Asking) -> Result<StepError, StepError> {
        let answers = asking.ask(&world.plan.invariants, context).await?;
        context.note(asking::noted(&answers)).await?;
        let failed = asking::failed(&answers);
        let would = match self.preview(&mut asking, context).await {
            Ok(changed) => changed.words(&self.repair).replacen(" changes ", " would change ", 1),
            Err(error) => format!("repair {} cannot be previewed: {}", self.repair.name, error.why()),
        };
        let called = |repair: &&plan::Repair| failed.iter().any(|answer| answer.name == repair.invariant);
        let allowed = world.plan.repairs.iter().filter(called);
        let allow: String = allowed.map(|repair| format!(" --allow-repair {}", repair.name)).collect();
        let hint = format!(
            "blue serves as before; {would} ({}): look at the rows, then allow it: cutover run PLAN{allow}",
            self.repair.because
        );
        Ok(asking::refused(&failed, hint))
    }

    /// What it would change: done, counted and taken back.
    async fn preview(&self, asking: &mut Asking, context: &Context) -> Result<Changed, StepError> {
        let transaction = asking.green.transaction().await.map_err(|error| fail("begin to preview a repair", error))?;
        term::hold(&transaction, &context.term()).await.map_err(|error| fail("preview a repair", error))?;
        invariants::pin(&transaction, Side::Green, asking.bound).await.map_err(not_asked)?;
        let changed = put_right(&transaction, &self.repair).await.map_err(not_asked)?;
        transaction.rollback().await.map_err(|error| fail("take a preview back", error))?;
        Ok(changed)
    }

    /// All of it in one transaction under our term, asked again before it stands.
    async fn put_right(
        &self,
        world: &World,
        context: &Context,
        asking: &mut Asking,
        before: &Answer,
    ) -> Result<Receipt, StepError> {
        let snapshot = Some(asking.moment.id());
        let blue = invariants::begin(&mut asking.blue, Side::Blue, asking.bound, snapshot).await.map_err(not_asked)?;
        let green = asking.green.transaction().await.map_err(|error| fail("begin a repair", error))?;
        term::hold(&green, &context.term()).await.map_err(|error| fail("repair green", error))?;
        invariants::pin(&green, Side::Green, asking.bound).await.map_err(not_asked)?;
        let changed = put_right(&green, &self.repair).await.map_err(not_asked)?;
        if let Some(why) = changed.above(&self.repair) {
            let hint = "nothing was changed and blue serves as before; find out why so many rows are wrong: cutover rollback PLAN, correct the \
                        migrations or the repair, and run anew";
            return Err(StepError::refused(why, hint));
        }
        for invariant in self.asked(world) {
            let after = invariants::ask(invariant, &blue, &green).await.map_err(not_asked)?;
            if !after.holds {
                context.note(asking::noted(std::slice::from_ref(&after))).await?;
                let why = format!("repair {} would not make its invariant hold: {}", self.repair.name, after.words());
                let hint = "nothing was changed and blue serves as before; correct the repair or the migrations: cutover rollback PLAN, and run anew";
                return Err(StepError::refused(why, hint));
            }
        }
        let body = json!({ "needed": true, "rows": changed.rows, "of": changed.of, "invariant": before.name, "because": self.repair.because });
        let noted = claim::note_within(&green, context.run(), &self.name(), &body).await;
        noted.map_err(|error| fail("note what was repaired", error))?;
        green.commit().await.map_err(|error| fail("commit a repair", error))?;
        Ok(body.into())
    }
}

impl Step for Repair {
    type World = World;

    fn id(&self) -> StepId {
        StepId::named(self.name())
    }

    fn summary(&self) -> String {
        let plan::Repair { name, invariant, table, cap_rows, cap_percent, .. } = &self.repair;
        format!(
            "only when invariant {invariant} does not hold, and --allow-repair {name} was said: put at most {cap_rows} rows and {cap_percent} % of {table} right"
        )
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: undoing copy-schema drops green's tables".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), &self.name()).await;
        let noted = noted.map_err(|error| fail("see whether green was repaired", error))?;
        Ok(noted.map_or(Standing::Absent, |body| Standing::Present(body.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if flip::is_decided(world).await? {
            let why = "green is to serve already: it cannot be repaired any more";
            return Err(StepError::refused(why, "cutover flip PLAN"));
        }
        let mut asking = Asking::open(world, context).await?;
        let answers = asking.ask(self.asked(world), context).await?;
        let failed = asking::failed(&answers);
        let Some(before) = failed.first() else {
            let body = json!({ "needed": false });
            let mut green = world.side(Side::Green).await?;
            let noted = claim::note(&mut green, &context.term(), context.run(), &self.name(), &body).await;
            noted.map_err(|error| fail("note that green needs no repair", error))?;
            return Ok(body.into());
        };
        if !world.allowed_repairs.contains(&self.repair.name) {
            return Err(self.stop(world, context, asking).await?.effect(Effect::NotApplied));
        }
        context.note(json!({ "allowed": self.repair.name, "answers": answers })).await?;
        self.put_right(world, context, &mut asking, before).await
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
