//! One verb at work on a run: the lease, the journal, the runbook, and the events on the screen.

use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::stopping;
use crate::database::client::connect;
use crate::engine::{Context, Engine, Events, Facts, Halt, Outcome, Runbook, StepError, StepId, Survey, Waiver, chain};
use crate::journal::{Claim, Entry, Journal, JournalError, Kind, Lease, Log, RunLog};
use crate::plan::{Plan, Side};
use crate::report::{Follower, Style};
use crate::steps::{Action, World, compile};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// How long the lease outlives its last renewal.
const LEASE: Duration = Duration::from_secs(20);

/// A verb that may act: it holds the lease and the run's journal.
pub(super) struct Session {
    pub(super) world: World,
    pub(super) runbook: Runbook<Action>,
    log: RunLog,
    lease: Lease,
    screen: Screen,
    waiver: Option<Waiver>,
}

/// What a verb asks a session for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The verb, for the journal.
    pub(super) verb: &'a str,
    /// Its overrides, for the journal.
    pub(super) sets: &'a [String],
    /// The lease to take over, by name.
    pub(super) take_over: Option<Uuid>,
    /// Whether it may begin a run; otherwise it only continues one.
    pub(super) may_begin: bool,
    /// The gate that the person answers for.
    pub(super) waiver: Option<&'a Waiver>,
}

/// The world and the runbook of a plan; touches nothing.
///
/// # Errors
/// When TLS cannot be set up on this machine.
pub(super) fn prepare(plan: Plan) -> Result<(World, Runbook<Action>), CommandError> {
    let http = crate::traffic::http_client()
        .map_err(|error| CommandError::failed("set up HTTP", &error, "see to TLS on this machine"))?;
    let runbook = compile(&plan).expect("the runbook of every plan is sound; a test compiles them all");
    let programs = std::env::var_os("CUTOVER_PG_BIN").map(PathBuf::from);
    Ok((World { plan, http, gone: None, allowed_repairs: BTreeSet::new(), programs }, runbook))
}

impl Session {
    /// Takes the lease and continues the plan's run, or begins one when `may_begin`.
    ///
    /// # Errors
    /// `locked`, `changed`, or `failed` before anything was touched; `refused` when there is no run to continue. The world is given
    /// back, so that the error can say which side is live.
    pub(super) async fn open(
        world: World,
        runbook: Runbook<Action>,
        asked: &Asked<'_>,
        screen: Screen,
    ) -> Result<Self, (World, CommandError)> {
        match Self::take(&world, asked).await {
            Ok((log, lease)) => Ok(Self { world, runbook, log, lease, screen, waiver: asked.waiver.cloned() }),
            Err(error) => Err((world, error)),
        }
    }

    async fn take(world: &World, asked: &Asked<'_>) -> Result<(RunLog, Lease), CommandError> {
        let journal = Journal::open(&world.plan.control).await.map_err(journal_failed)?;
        let blue = side(world, Side::Blue).await?;
        // One that is cut off is out of every older process's reach as well.
        let green = if world.gone.is_some() { None } else { Some(side(world, Side::Green).await?) };
        let (plan, holder) = (world.plan.name.clone(), holder());
        let waived = asked.waiver.map(|waiver| json!({ "gate": waiver.gate, "because": waiver.because }));
        let opening = json!({ "verb": asked.verb, "sets": asked.sets, "holder": holder, "waived": waived, "allowed_repairs": world.allowed_repairs });
        let claim = Claim { plan, holder, ttl: LEASE, take_over: asked.take_over };
        let sides: Vec<&tokio_postgres::Client> = [Some(&blue), green.as_ref()].into_iter().flatten().collect();
        let lease = journal.acquire(&claim, &sides).await.map_err(journal_failed)?;
        match Self::log(&journal, &lease, &world.plan, &blue, opening, asked.may_begin).await {
            Ok(log) => Ok((log, lease)),
            Err(error) => {
                release(lease).await;
                Err(error)
            }
        }
    }

    async fn log(
        journal: &Journal,
        lease: &Lease,
        plan: &Plan,
        blue: &tokio_postgres::Client,
        opening: Value,
        may_begin: bool,
    ) -> Result<RunLog, CommandError> {
        let resumed = journal.resume(lease, &plan.name, &plan.digest, opening.clone()).await.map_err(journal_failed)?;
        if let Some(log) = resumed {
            return Ok(log);
        }
        if !may_begin {
            let why = format!("plan {} has no unfinished run", plan.name);
            return Err(CommandError::new(Ending::Refused, why, "begin one: cutover run PLAN"));
        }
        let catalog = crate::database::catalog::read(blue)
            .await
            .map_err(|error| CommandError::failed("read blue's catalog", &error, "run the same command again"))?;
        let header = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "plan": plan.text,
            "files": plan.files,
            "blue_fingerprint": crate::database::catalog::fingerprint(&catalog),
        });
        journal.begin(lease, &plan.name, &plan.digest, &header, opening).await.map_err(journal_failed)
    }

    /// Brings about every step up to and with `through`.
    pub(super) async fn advance(&self, through: Option<&StepId>) -> Outcome {
        self.with_engine(async |engine: &Engine<'_, Action, RunLog>| engine.advance(through).await).await
    }

    /// Undoes every recorded step.
    pub(super) async fn unwind(&self) -> Outcome {
        self.with_engine(async |engine: &Engine<'_, Action, RunLog>| engine.unwind().await).await
    }

    async fn with_engine(&self, act: impl AsyncFnOnce(&Engine<'_, Action, RunLog>) -> Outcome) -> Outcome {
        let (events, listener) = Events::channel();
        let style = style(self.screen);
        let colour = style == Style::Terminal && std::env::var_os("NO_COLOR").is_none();
        let follower = Follower::new(style, colour);
        let telling = tokio::spawn(follower.follow(listener, std::io::stdout()));
        let (stop, listening) = stopping::listen(&self.lease);
        let (runbook, world, log, waiver) = (&self.runbook, &self.world, &self.log, self.waiver.clone());
        let engine = Engine { runbook, world, log, events, stop, waiver };
        let outcome = act(&engine).await;
        drop(engine);
        listening.abort();
        // The listener ends when the engine's sender is gone; what it could not write nobody can read.
        let _ = telling.await;
        outcome
    }

    /// Acts for a step outside of the engine, so that nothing of it is journalled; a request to stop cuts it off.
    pub(super) async fn beside<T>(
        &self,
        step: StepId,
        state: &crate::journal::RunState,
        act: impl AsyncFnOnce(&Context) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let context = Context::detached(self.run(), self.log.term(), step, Facts::of(state));
        let (stop, listening) = stopping::listen(&self.lease);
        let done = tokio::select! {
            done = act(&context) => done,
            () = stop.requested() => Err(StepError::parked(format!("asked to stop by {}", stop.by()), "")),
        };
        listening.abort();
        done
    }

    /// Where the run stands now.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub(super) async fn survey(&self) -> Result<(Survey, crate::journal::RunState), CommandError> {
        let journal = Journal::open(&self.world.plan.control).await.map_err(journal_failed)?;
        let state = journal.state(self.log.info()).await.map_err(journal_failed)?;
        Ok((Survey::of(&self.runbook, &state), state))
    }

    /// The run's id.
    pub(super) fn run(&self) -> Uuid {
        self.log.info().id
    }

    /// What an act is given that is no step of the runbook.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub(super) async fn context(&self, act: &'static str) -> Result<Context, CommandError> {
        let (_, state) = self.survey().await?;
        Ok(Context::detached(self.run(), self.log.term(), StepId::new(act), Facts::of(&state)))
    }

    /// Records what such an act came to.
    ///
    /// # Errors
    /// When it is not in the journal; the act stands all the same.
    pub(super) async fn arrived(&self, body: Value) -> Result<(), CommandError> {
        self.log.append(Entry::of_run(Kind::Arrived, body)).await.map(drop).map_err(journal_failed)
    }

    /// Gives the lease back.
    pub(super) async fn close(self) {
        release(self.lease).await;
    }
}

async fn release(lease: Lease) {
    if let Err(error) = lease.release().await {
        tracing::warn!(%error, "the lease could not be given back; it expires by itself");
    }
}

async fn side(world: &World, side: Side) -> Result<tokio_postgres::Client, CommandError> {
    connect(world.url(side), side.as_str()).await.map_err(|error| {
        CommandError::new(
            Ending::Failed,
            chain(&error),
            "bring the server back and run the same command again; nothing was changed",
        )
    })
}

pub(super) fn journal_failed(error: JournalError) -> CommandError {
    Halt::from(error).into()
}

pub(super) fn style(screen: Screen) -> Style {
    if screen.is_json() {
        Style::Json
    } else if std::io::stdout().is_terminal() {
        Style::Terminal
    } else {
        Style::Plain
    }
}

/// Who we are, for people: `user@host pid 123`.
pub(super) fn holder() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{user}@{} pid {}", host.trim(), std::process::id())
}
