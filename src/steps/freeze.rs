//! `freeze` and `thaw`: jobs outside the databases, such as cleanups and reconcilers, stand still from before the flip until the end, since what
//! they believe of rows that are not proved yet they would act upon.
//!
//! Whether a job is frozen nobody can see but the job itself: it is noted before it is told, so that whatever may have been frozen is thawed on
//! the way back, and asked by the plan's `verify` where there is one.

use super::world::World;
use crate::database::migrate::command;
use crate::engine::{
    Context, Effect, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId, chain,
};
use crate::gates::Verdict;
use crate::plan::{self, FreezeBy, HttpRequest, Secret};
use crate::traffic::outside::Outside;
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

const THAW: StepId = StepId::new("thaw");

/// Freezes every job of the plan.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// The jobs, in the plan's order.
    pub jobs: Vec<plan::Freeze>,
}

/// Thaws every job of the plan, after the soak.
#[derive(Debug, Clone)]
pub struct Thaw {
    /// The jobs; the last one frozen is thawed first.
    pub jobs: Vec<plan::Freeze>,
}

/// What a job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Freeze,
    Thaw,
    Verify,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Verify => "verify",
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// Tells a job a word; a `verify` that the plan does not have is a yes.
async fn tell(world: &World, context: &Context, job: &plan::Freeze, word: Word) -> Result<(), Failure> {
    match &job.by {
        FreezeBy::Command { freeze, thaw, verify, env } => {
            let run = match word {
                Word::Freeze => Some(freeze),
                Word::Thaw => Some(thaw),
                Word::Verify => verify.as_ref(),
            };
            run_command(world, context, job, run, env).await
        }
        FreezeBy::Http { freeze, thaw, verify, bearer } => {
            let request = match word {
                Word::Freeze => Some(freeze),
                Word::Thaw => Some(thaw),
                Word::Verify => verify.as_ref(),
            };
            send(world, job, request, bearer.as_ref()).await
        }
    }
}

async fn run_command(
    world: &World,
    context: &Context,
    job: &plan::Freeze,
    run: Option<&Vec<String>>,
    env: &BTreeMap<String, Secret>,
) -> Result<(), Failure> {
    let Some(run) = run else { return Ok(()) };
    let tell = |line: &str| context.progress(0, None, "lines", line);
    command(run, env, &world.plan.folder, job.within, &tell).await?;
    Ok(())
}

async fn send(
    world: &World,
    job: &plan::Freeze,
    request: Option<&HttpRequest>,
    bearer: Option<&Secret>,
) -> Result<(), Failure> {
    let Some(request) = request else { return Ok(()) };
    Outside { http: &world.http, bearer, within: job.within }.tell(request).await?;
    Ok(())
}

/// Every job that says it is not frozen; right before the flip.
pub(super) async fn still_frozen(world: &World, context: &Context) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if context.facts().receipt(&THAW).is_some() {
        let why = "the jobs were thawed after an earlier flip of this run: roll it back, and run anew";
        verdicts.push(Verdict::NoGo(why.to_owned()));
    }
    for job in &world.plan.freeze {
        verdicts.push(match tell(world, context, job, Word::Verify).await {
            Ok(()) => Verdict::Go,
            Err(error) => {
                let why = chain(error.as_ref());
                Verdict::NoGo(format!("job {} is not frozen any more, freeze it by hand: {why}", job.name))
            }
        });
    }
    verdicts
}

/// The last note about each job: `freezing`, `frozen` or `thawed`.
fn last_words(context: &Context) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for note in context.notes() {
        for word in ["freezing", "frozen", "thawed"] {
            if let Some(job) = note[word].as_str() {
                last.insert(job.to_owned(), word.to_owned());
            }
        }
    }
    last
}

fn not_told(job: &plan::Freeze, word: Word, error: Failure) -> StepError {
    let hint =
        format!("see to job {}, then run the same command again; each command and request may be repeated", job.name);
    let what = format!("{} job {}", word.as_str(), job.name);
    StepError { source: Some(error), ..StepError::new(FailureKind::Failed, what) }.effect(Effect::Unknown).hint(hint)
}

/// Bound on a step that tells every job two words at most.
fn bound(jobs: &[plan::Freeze]) -> Duration {
    jobs.iter().map(|job| job.within * 2).sum::<Duration>() + Duration::from_secs(10)
}

fn names(jobs: &[plan::Freeze]) -> String {
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    names.join(", ")
}

impl Step for Freeze {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("freeze")
    }

    fn summary(&self) -> String {
        format!("freeze the jobs outside that would act on unproved rows: {}", names(&self.jobs))
    }

    fn undo_summary(&self) -> String {
        format!("thaw {}", names(&self.jobs))
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::once(bound(&self.jobs))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let last = last_words(context);
        let is = |job: &plan::Freeze, word: &str| last.get(&job.name).is_some_and(|last| last == word);
        let told: Vec<&plan::Freeze> =
            self.jobs.iter().filter(|job| is(job, "freezing") || is(job, "frozen")).collect();
        if told.is_empty() {
            return Ok(Standing::Absent);
        }
        if told.len() < self.jobs.len() || !self.jobs.iter().all(|job| is(job, "frozen")) {
            let names: Vec<&str> = told.iter().map(|job| job.name.as_str()).collect();
            return Ok(Standing::Partial(format!("{} may be frozen", names.join(", "))));
        }
        for job in &self.jobs {
            if let Err(error) = tell(world, context, job, Word::Verify).await {
                return Ok(Standing::Partial(format!("job {} is not frozen: {}", job.name, chain(error.as_ref()))));
            }
        }
        Ok(Standing::Present(json!({ "frozen": self.jobs.len() }).into()))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        for job in &self.jobs {
            context.note(json!({ "freezing": job.name })).await?;
            tell(world, context, job, Word::Freeze).await.map_err(|error| not_told(job, Word::Freeze, error))?;
            tell(world, context, job, Word::Verify).await.map_err(|error| not_told(job, Word::Verify, error))?;
            context.note(json!({ "frozen": job.name })).await?;
        }
        Ok(json!({ "frozen": self.jobs.len() }).into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let last = last_words(context);
        for job in self.jobs.iter().rev().filter(|job| last.get(&job.name).is_some_and(|last| last != "thawed")) {
            tell(world, context, job, Word::Thaw).await.map_err(|error| not_told(job, Word::Thaw, error))?;
            context.note(json!({ "thawed": job.name })).await?;
        }
        Ok(())
    }
}

impl Step for Thaw {
    type World = World;

    fn id(&self) -> StepId {
        THAW
    }

    fn summary(&self) -> String {
        format!("thaw the jobs that stood still, green being proved: {}", names(&self.jobs))
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: they go on as before the run".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::once(bound(&self.jobs))
    }

    async fn verify(&self, _world: &World, context: &Context) -> Result<Standing, StepError> {
        let last = last_words(context);
        let thawed = self.jobs.iter().filter(|job| last.get(&job.name).is_some_and(|last| last == "thawed")).count();
        Ok(match thawed {
            0 => Standing::Absent,
            _ if thawed == self.jobs.len() => Standing::Present(json!({ "thawed": thawed }).into()),
            _ => Standing::Partial(format!("{thawed} of {} jobs are thawed", self.jobs.len())),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if context.facts().receipt(&super::soak::ID).is_none() {
            let why = "green is not proved: jobs that stand still are thawed after the soak";
            return Err(StepError::refused(why, "watch on: cutover run PLAN --through soak"));
        }
        for job in self.jobs.iter().rev() {
            tell(world, context, job, Word::Thaw).await.map_err(|error| not_told(job, Word::Thaw, error))?;
            context.note(json!({ "thawed": job.name })).await?;
        }
        Ok(json!({ "thawed": self.jobs.len() }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
