//! A toy world, toy steps and a log that crashes where it is told: the laws are tested on these, without a server.

use cutover::engine::{
    Context, Effect, Engine, Events, FailureKind, Limits, Outcome, Receipt, Reversal, Runbook, Standing, Step,
    StepError, StepId, Stop, Waiver,
};
use cutover::journal::{Entry, JournalError, Log, MemoryLog, Record, RunState, Term};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// How much of a step's effect is in the world, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    Nothing,
    Half,
    Whole,
    Foreign,
    Unclear,
}

/// What a step's forward or undo does when it is next asked; afterwards it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails before it does anything, and says so.
    Clean,
    /// Fails half-way.
    Half,
    /// Does nothing and does not know.
    UnknownNothing,
    /// Does everything and does not know.
    UnknownWhole,
    /// Takes a while, and does everything.
    Lingers,
    /// Never answers.
    Hangs,
    /// Does nothing and says it succeeded.
    LiesNothing,
    /// Does half and says it succeeded.
    LiesHalf,
    /// Does half and the process dies.
    DiesHalf,
}

/// The world: effects by step, faults to come, and what was asked of it.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) effects: Mutex<BTreeMap<StepId, There>>,
    pub(crate) faults: Mutex<BTreeMap<StepId, Vec<Fault>>>,
    pub(crate) undo_faults: Mutex<BTreeMap<StepId, Vec<Fault>>>,
    /// How often a look at the step fails before it succeeds.
    pub(crate) blind: Mutex<BTreeMap<StepId, u32>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// The way back of each way out.
    pub(crate) ways_back: Mutex<BTreeMap<StepId, StepId>>,
    pub(crate) dead: std::sync::atomic::AtomicBool,
}

impl World {
    pub(crate) fn see(&self, step: &StepId) -> There {
        self.effects.lock().unwrap().get(step).copied().unwrap_or(There::Nothing)
    }

    pub(crate) fn put(&self, step: &StepId, there: There) {
        self.effects.lock().unwrap().insert(step.clone(), there);
    }

    pub(crate) fn fault(&self, step: &StepId, fault: Fault) {
        self.faults.lock().unwrap().entry(step.clone()).or_default().push(fault);
    }

    pub(crate) fn undo_fault(&self, step: &StepId, fault: Fault) {
        self.undo_faults.lock().unwrap().entry(step.clone()).or_default().push(fault);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, what: &str, step: &StepId) {
        self.asked.lock().unwrap().push(format!("{what} {step}"));
    }

    fn is_blind(&self, step: &StepId) -> bool {
        let mut blind = self.blind.lock().unwrap();
        let left = blind.entry(step.clone()).or_default();
        let is_blind = *left > 0;
        *left = left.saturating_sub(1);
        is_blind
    }

    /// Making a step takes away what had taken it back.
    fn taken_back(&self, step: &StepId) {
        if let Some(back) = self.ways_back.lock().unwrap().get(step) {
            self.put(back, There::Nothing);
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}

/// One toy step.
#[derive(Debug, Clone)]
pub(crate) struct Toy {
    pub(crate) id: StepId,
    pub(crate) reversal: Reversal,
    pub(crate) gate: bool,
    pub(crate) until: Option<StepId>,
    pub(crate) limits: Limits,
    pub(crate) notes: u32,
    /// Whether its forward may be cut off when a stop is asked for.
    pub(crate) cut: bool,
    pub(crate) takes_back: Option<StepId>,
    pub(crate) goes_with: Option<StepId>,
}

impl Toy {
    pub(crate) fn new(name: &'static str, reversal: Reversal) -> Self {
        let limits = Limits::once(Duration::from_secs(60));
        Self {
            id: StepId::new(name),
            reversal,
            gate: false,
            until: None,
            limits,
            notes: 0,
            cut: false,
            takes_back: None,
            goes_with: None,
        }
    }

    pub(crate) fn undoable(name: &'static str) -> Self {
        Self::new(name, Reversal::Undo)
    }

    pub(crate) fn gate(name: &'static str) -> Self {
        Self { gate: true, ..Self::new(name, Reversal::ReadOnly) }
    }

    pub(crate) fn retried(self, attempts: u32) -> Self {
        Self { limits: Limits::retried(Duration::from_secs(60), attempts, Duration::from_millis(1)), ..self }
    }

    pub(crate) fn until(self, step: &'static str) -> Self {
        Self { until: Some(StepId::new(step)), ..self }
    }

    /// The one-way step that takes `step` back; making either takes the other's effect away.
    pub(crate) fn back_from(name: &'static str, step: &'static str) -> Self {
        Self { takes_back: Some(StepId::new(step)), ..Self::new(name, Reversal::OneWay) }
    }

    /// A step that is only made on the way to `step`, a way back, and that only ever moves onward.
    pub(crate) fn companion(name: &'static str, step: &'static str) -> Self {
        Self { goes_with: Some(StepId::new(step)), ..Self::new(name, Reversal::Monotone) }
    }

    /// A whole effect takes away the one that it takes back, or that had taken it back.
    fn put(&self, world: &World, there: There) {
        world.put(&self.id, there);
        if there == There::Whole {
            if let Some(other) = &self.takes_back {
                world.put(other, There::Nothing);
            }
            world.taken_back(&self.id);
        }
    }

    async fn act(&self, world: &World, fault: Option<Fault>, whole: There) -> Result<(), StepError> {
        let failed = || StepError::new(FailureKind::Failed, format!("toy {} failed", self.id));
        let retry = |error: StepError| error.remedy(cutover::engine::Remedy::Retry);
        match fault {
            None => self.put(world, whole),
            Some(Fault::Clean) => return Err(retry(failed().effect(Effect::NotApplied))),
            Some(Fault::Half) => {
                world.put(&self.id, There::Half);
                return Err(retry(failed().effect(Effect::Applied)));
            }
            Some(Fault::UnknownNothing) => return Err(retry(failed())),
            Some(Fault::UnknownWhole) => {
                self.put(world, whole);
                return Err(retry(failed()));
            }
            Some(Fault::Lingers) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.put(world, whole);
            }
            Some(Fault::LiesNothing) => {}
            Some(Fault::LiesHalf) => world.put(&self.id, There::Half),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::DiesHalf) => {
                world.put(&self.id, There::Half);
                world.dead.store(true, Ordering::SeqCst);
                return Err(failed());
            }
        }
        Ok(())
    }
}

fn next_fault(faults: &Mutex<BTreeMap<StepId, Vec<Fault>>>, step: &StepId) -> Option<Fault> {
    let mut faults = faults.lock().unwrap();
    let list = faults.get_mut(step)?;
    (!list.is_empty()).then(|| list.remove(0))
}

impl Step for Toy {
    type World = World;

    fn id(&self) -> StepId {
        self.id.clone()
    }
    fn summary(&self) -> String {
        format!("make {}", self.id)
    }
    fn undo_summary(&self) -> String {
        format!("remove {}", self.id)
    }
    fn reversal(&self) -> Reversal {
        self.reversal
    }
    fn limits(&self) -> Limits {
        self.limits
    }
    fn is_gate(&self) -> bool {
        self.gate
    }
    fn may_be_cut(&self) -> bool {
        self.cut
    }
    fn holds_until(&self) -> Option<StepId> {
        self.until.clone()
    }
    fn takes_back(&self) -> Option<StepId> {
        self.takes_back.clone()
    }
    fn goes_with(&self) -> Option<StepId> {
        self.goes_with.clone()
    }

    async fn before(&self, world: &World, _context: &Context) -> Result<Value, StepError> {
        Ok(json!(format!("{:?}", world.see(&self.id))))
    }

    async fn verify(&self, world: &World, _context: &Context) -> Result<Standing, StepError> {
        world.note("verify", &self.id);
        if world.is_blind(&self.id) {
            return Err(StepError::new(FailureKind::Failed, "look at the toy").retry());
        }
        Ok(match world.see(&self.id) {
            There::Nothing => Standing::Absent,
            There::Half => Standing::Partial("half of it".to_owned()),
            There::Whole => Standing::Present(Receipt::from(json!("seen"))),
            There::Foreign => Standing::Foreign("somebody else's".to_owned()),
            There::Unclear => Standing::Unclear("too dark to see".to_owned()),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        world.note("forward", &self.id);
        for note in 0..self.notes {
            context.note(json!(note)).await?;
        }
        self.act(world, next_fault(&world.faults, &self.id), There::Whole).await?;
        Ok(Receipt::from(json!("made")))
    }

    async fn settle(&self, world: &World, _context: &Context) -> Result<(), StepError> {
        world.note("settle", &self.id);
        Ok(())
    }

    async fn undo(&self, world: &World, _context: &Context) -> Result<(), StepError> {
        world.note("undo", &self.id);
        self.act(world, next_fault(&world.undo_faults, &self.id), There::Nothing).await
    }
}

/// Where the process dies: at the n-th append (from 1), with that record kept or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    pub(crate) at: usize,
    pub(crate) kept: bool,
}

/// A log whose process dies at a chosen record; what was durable outlives it.
pub(crate) struct MortalLog<'a> {
    log: MemoryLog,
    world: &'a World,
    crash: Option<Crash>,
    appends: AtomicUsize,
}

impl<'a> MortalLog<'a> {
    pub(crate) fn new(world: &'a World, records: Vec<Record>, crash: Option<Crash>) -> Self {
        let term = records.last().map_or(1, |last| last.term + 1);
        let term = Term { term, nonce: Uuid::new_v4() };
        Self { log: MemoryLog::with_records(Uuid::nil(), term, records), world, crash, appends: AtomicUsize::new(0) }
    }

    pub(crate) async fn durable(&self) -> Vec<Record> {
        self.log.records().await.unwrap()
    }
}

impl Log for MortalLog<'_> {
    fn run(&self) -> Uuid {
        self.log.run()
    }
    fn term(&self) -> Term {
        self.log.term()
    }
    async fn records(&self) -> Result<Vec<Record>, JournalError> {
        self.log.records().await
    }
    async fn append(&self, entry: Entry) -> Result<Record, JournalError> {
        if self.world.is_dead() {
            return Err(JournalError::Closed);
        }
        let place = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        match self.crash {
            Some(crash) if crash.at == place => {
                self.world.dead.store(true, Ordering::SeqCst);
                if crash.kept {
                    self.log.append(entry).await?;
                }
                Err(JournalError::Closed)
            }
            _ => self.log.append(entry).await,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Advance,
    Unwind,
}

/// A run of toy steps over several processes.
pub(crate) struct Play {
    pub(crate) runbook: Runbook<Toy>,
    pub(crate) world: World,
    pub(crate) records: Vec<Record>,
    pub(crate) waiver: Option<Waiver>,
}

impl Play {
    pub(crate) fn new(steps: Vec<Toy>) -> Self {
        Self { runbook: Runbook::new(steps).unwrap(), world: World::default(), records: Vec::new(), waiver: None }
    }

    /// One process does one verb, perhaps dying on the way.
    pub(crate) async fn go(&mut self, verb: Verb, crash: Option<Crash>) -> Outcome {
        self.act(verb, crash, None, Stop::never()).await
    }

    pub(crate) async fn through(&mut self, step: &'static str) -> Outcome {
        self.act(Verb::Advance, None, Some(StepId::new(step)), Stop::never()).await
    }

    pub(crate) async fn act(
        &mut self,
        verb: Verb,
        crash: Option<Crash>,
        through: Option<StepId>,
        stop: Stop,
    ) -> Outcome {
        self.world.dead.store(false, Ordering::SeqCst);
        let log = MortalLog::new(&self.world, std::mem::take(&mut self.records), crash);
        let (runbook, world) = (&self.runbook, &self.world);
        let waiver = self.waiver.clone();
        let engine = Engine { runbook, world, log: &log, events: Events::silent(), stop, waiver };
        let outcome = match verb {
            Verb::Advance => engine.advance(through.as_ref()).await,
            Verb::Unwind => engine.unwind().await,
        };
        let records = log.durable().await;
        drop(log);
        self.records = records;
        outcome
    }

    /// The state; a corrupt journal fails the test.
    pub(crate) fn state(&self) -> RunState {
        RunState::fold(&self.records).unwrap()
    }

    pub(crate) fn see(&self, step: &'static str) -> There {
        self.world.see(&StepId::new(step))
    }
}
