//! `compat`: the gate before the database that serves gets a schema on which statements of its engine break or change. None is run.

use super::failure::fail;
use super::world::World;
use crate::database::migrations::compat::{CompatError, Fate, Judged, is_in_the_way};
use crate::database::old_statements::{self, Asking, OldError};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Compat, Side};
use serde_json::{Value, json};
use std::time::Duration;

/// The gate's name, as `--waive` says it.
pub const ID: StepId = StepId::new("compat");
/// Statements that are told of in an error, and kept in the journal.
const TOLD: usize = 8;
/// Letters of a statement that an error shows.
const SHOWN: usize = 400;

/// Holds the statements of the engine that serves against the new schema.
#[derive(Debug, Clone)]
pub struct HoldStatements {
    /// Where they are found.
    pub compat: Compat,
    /// Bound on the whole of it.
    pub bound: Duration,
}

impl Step for HoldStatements {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let statistics = if self.compat.statistics { " and in blue's pg_stat_statements" } else { "" };
        format!(
            "gate: make the new schema without rows in a scratch database beside blue, and prepare the statements in {} files{statistics} on \
             both, run none; stop when one breaks or changes; drop the scratch database",
            self.compat.statements.len()
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: blue is only read; a scratch database is left only by a process that died, and is dropped".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::once(self.bound)
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let asking = Asking {
            blue: world.url(Side::Blue),
            programs: world.programs.as_deref(),
            migrations: &world.plan.migrate,
            compat: &self.compat,
            bound: self.bound,
        };
        let tell = |line: &str| context.progress(0, None, "lines", line);
        let judged = old_statements::judge(&asking, &tell).await.map_err(unjudged)?;
        let of = |fate: Fate| judged.iter().filter(|one| one.fate == fate).count();
        for one in judged.iter().filter(|one| one.fate == Fate::Unjudged).take(TOLD) {
            tell(&words(one));
        }
        let refused: Vec<&Judged> = judged.iter().filter(|one| is_in_the_way(one)).collect();
        let listed: Vec<Value> = refused.iter().take(TOLD).map(|one| json!(one)).collect();
        let body = json!({
            "statements": judged.len(), "breaks": of(Fate::Breaks), "changes": of(Fate::Changes), "unjudged": of(Fate::Unjudged),
            "in_the_way": listed,
        });
        if of(Fate::Unjudged) == judged.len() {
            context.note(body).await?;
            let why =
                format!("blue takes none of {} statements, so none can be judged: {}", judged.len(), told(&judged));
            return Err(StepError::refused(why, HINT));
        }
        if refused.is_empty() {
            return Ok(body.into());
        }
        context.note(body).await?;
        let why = format!("the engine that serves does not live with the new schema: {}", told(refused));
        Err(StepError::refused(why, HINT))
    }

    /// A process that died here has left the copy.
    async fn settle(&self, world: &World, _context: &Context) -> Result<(), StepError> {
        old_statements::clear(world.url(Side::Blue)).await.map_err(|error| {
            fail("drop the copy of blue's schema", error)
                .retry()
                .hint("cutover rollback PLAN, or drop the database cutover_compat_… by hand")
        })
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

const HINT: &str = "let the engine write its columns out, or name its statements as it sends them, and go on: cutover run PLAN; or answer for \
                    it: cutover run PLAN --waive compat --because 'why'; blue is as it was";

fn told<'a>(found: impl IntoIterator<Item = &'a Judged>) -> String {
    let all: Vec<&Judged> = found.into_iter().collect();
    let first: Vec<String> = all.iter().take(TOLD).map(|one| words(one)).collect();
    let more = all.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("{}{more}", first.join("; "))
}

fn words(one: &Judged) -> String {
    let fate = match one.fate {
        Fate::Same => "stays",
        Fate::Unjudged => "cannot be judged",
        Fate::Changes => "changes",
        Fate::Breaks => "breaks",
    };
    let line = one.line.map(|line| format!(":{line}")).unwrap_or_default();
    let explicit = one.explicit.as_deref().map(|form| format!("; write: {}", short(form))).unwrap_or_default();
    format!("{}{line} {fate}: {}: {}{explicit}", one.from, short(&one.statement), one.why.join(", "))
}

fn short(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SHOWN { line } else { line.chars().take(SHOWN).chain(['…']).collect() }
}

fn unjudged(error: OldError) -> StepError {
    let hint = match &error {
        OldError::NoStatistics => {
            "create extension pg_stat_statements on blue, or name files in `compat.statements`; blue is as it was"
        }
        OldError::NoStatement => {
            "name files that hold the engine's statements in `compat.statements`; blue is as it was"
        }
        OldError::TooMany { .. } => "name fewer files in `compat.statements`; blue is as it was",
        OldError::Compat(CompatError::Hidden { .. }) => {
            "grant pg_read_all_stats to our login on blue, or name files in `compat.statements`; blue is as it was"
        }
        OldError::Copy(_) => {
            "correct the migrations, or answer for them: cutover run PLAN --waive compat --because 'why'; blue is as it was"
        }
        OldError::Scratch(_) => {
            return fail("hold the engine's statements against the new schema", error)
                .hint("let our login create databases on blue's server; blue is as it was");
        }
        _ => {
            return fail("hold the engine's statements against the new schema", error)
                .hint("cutover run PLAN; blue is as it was");
        }
    };
    let why = fail("hold the engine's statements against the new schema", error).why();
    StepError::refused(why, hint)
}
