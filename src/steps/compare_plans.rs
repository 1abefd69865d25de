//! `compare-plans`: the gate before traffic moves to a green that plans a hot query worse than blue does. Nothing is run.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::hot_queries::{self, Planned, QueryError};
use crate::database::mapping::Mapping;
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{HotQueries, HotQuery, Side, TableName};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio_postgres::Client;

/// The gate's name, as `--waive` says it.
pub const ID: StepId = StepId::new("compare-plans");
/// For one query on both sides.
const EACH: Duration = Duration::from_secs(120);

/// Compares how green plans the plan's hot queries with how blue does.
#[derive(Debug, Clone)]
pub struct ComparePlans {
    /// The queries, and how much worse green may be.
    pub hot: HotQueries,
}

/// A plan as the journal keeps it: kinds of nodes and names of tables, no values.
#[derive(Debug, Serialize)]
struct Shape {
    cost: f64,
    nodes: Vec<String>,
}

impl From<&Planned> for Shape {
    fn from(plan: &Planned) -> Self {
        Self { cost: plan.cost, nodes: plan.shape() }
    }
}

/// One query on both sides.
#[derive(Debug, Serialize)]
struct Compared {
    name: String,
    blue: Shape,
    green: Shape,
    worse: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<String>,
}

impl Compared {
    fn words(&self) -> String {
        let (blue, green) = (self.blue.cost, self.green.cost);
        format!("hot query {}: {}; estimated cost {blue} on blue, {green} on green", self.name, self.worse.join("; "))
    }

    /// What is told of a query that is worse and may be.
    fn acceptance(&self) -> Option<String> {
        let because = self.accepted.as_ref().filter(|_| !self.worse.is_empty())?;
        Some(format!("accepted ({because}): {}", self.words()))
    }

    fn is_refused(&self) -> bool {
        !self.worse.is_empty() && self.accepted.is_none()
    }
}

impl Step for ComparePlans {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let HotQueries { queries, cost_ratio, small_table_bytes } = &self.hot;
        format!(
            "gate: plan {} hot queries on both sides, run none; stop when green reads a table of {} MB or more from end to end where \
             blue does not, or when its estimated cost is more than {cost_ratio} times blue's",
            queries.len(),
            small_table_bytes.div_ceil(1 << 20)
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        let queries = u32::try_from(self.hot.queries.len()).unwrap_or(u32::MAX).max(1);
        Limits::retried(EACH.saturating_mul(queries), 3, Duration::from_secs(2))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mapping = Form::Final.mapping(context)?;
        let mut sides = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let mut all = Vec::new();
        for (index, query) in self.hot.queries.iter().enumerate() {
            let compared = self.compare(&mut sides, query, &mapping).await.map_err(unplanned)?;
            context.progress(index as u64 + 1, Some(self.hot.queries.len() as u64), "queries", &query.name);
            if let Some(told) = compared.acceptance() {
                tracing::warn!("{told}");
                context.progress(0, None, "queries", told);
            }
            all.push(compared);
        }
        let refused: Vec<String> = all.iter().filter(|one| one.is_refused()).map(Compared::words).collect();
        let accepted: Vec<&String> = all.iter().filter(|one| one.acceptance().is_some()).map(|one| &one.name).collect();
        let body = json!({ "queries": all, "accepted": accepted });
        if refused.is_empty() {
            return Ok(body.into());
        }
        context.note(body).await?;
        let hint = "create on green what is missing, or `analyze` it there, and go on: cutover run PLAN; or answer for it: cutover run \
                    PLAN --waive compare-plans --because 'why'; blue serves as before";
        Err(StepError::refused(refused.join("; "), hint))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

impl ComparePlans {
    async fn compare(
        &self,
        (blue, green): &mut (Client, Client),
        query: &HotQuery,
        mapping: &Mapping,
    ) -> Result<Compared, QueryError> {
        let blue = hot_queries::ask(blue, Side::Blue, &query.name, &query.blue.text).await?;
        let green = hot_queries::ask(green, Side::Green, &query.name, &query.green.text).await?;
        let sources = |table: &TableName| sources(mapping, table);
        let worse = hot_queries::worse(&blue, &green, (&self.hot).into(), &sources);
        Ok(Compared {
            name: query.name.clone(),
            blue: (&blue).into(),
            green: (&green).into(),
            worse: worse.iter().map(ToString::to_string).collect(),
            accepted: query.accept.clone(),
        })
    }
}

/// The tables of blue whose rows a table of green holds; its own name where it is not carried.
fn sources(mapping: &Mapping, table: &TableName) -> Vec<TableName> {
    match mapping.tables.iter().find(|carried| carried.target == *table) {
        Some(carried) => carried.touched_by.iter().map(|touch| touch.source.clone()).collect(),
        None => vec![table.clone()],
    }
}

fn unplanned(error: QueryError) -> StepError {
    let (hint, may_pass) = (error.hint(), error.may_pass());
    let failed = fail("compare the plans of hot queries", error).effect(Effect::NotApplied).hint(hint);
    if may_pass { failed.retry() } else { failed }
}
