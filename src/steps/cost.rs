//! What the way back will cost, before it is taken: what green has issued that blue cannot read, what goes back, how long clients wait.

use super::failure::fail;
use super::world::World;
use crate::engine::{Facts, StepError};
use crate::plan::Side;
use crate::revocations::{Door, Shape, minted};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Changes are counted up to this many.
const COUNTED: i32 = 1_000_000;

/// The cost of going back to blue.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cost {
    /// Tokens that green has issued since it opened; blue cannot read them.
    pub tokens_minted: i64,
    /// The clients with most of them.
    pub by_client: Vec<ClientTokens>,
    /// Chains begun before the flip whose refresh token was used on green: their users log in again.
    pub sessions_lost: i64,
    /// Changed rows of green that will be looked at, to be carried back; counted up to a million.
    pub changes: i64,
    /// Revocations made on green that will be replayed on blue.
    pub revocations: usize,
    /// What clients waited at the flip, in milliseconds; the way back holds them as long, and never longer than `hold_at_most_ms`.
    pub expected_hold_ms: Option<u64>,
    /// The plan's `window.hold`.
    pub hold_at_most_ms: u64,
}

/// Tokens of one client.
#[derive(Debug, Clone, Serialize)]
pub struct ClientTokens {
    /// Its id.
    pub client: String,
    /// How many.
    pub tokens: i64,
}

impl Cost {
    /// Lines for a person.
    #[must_use]
    pub fn words(&self) -> String {
        let clients: Vec<String> =
            self.by_client.iter().map(|one| format!("{} ({})", one.client, one.tokens)).collect();
        let hold = self.expected_hold_ms.map_or_else(String::new, |ms| format!("about {ms} ms, "));
        let mut lines = vec![
            "Going back to blue will cost:".to_owned(),
            format!("  {} tokens issued on green since it opened, which blue cannot read", self.tokens_minted),
        ];
        if !clients.is_empty() {
            lines.push(format!("    most of them of {}", clients.join(", ")));
        }
        lines.push(format!("  {} sessions refreshed on green, whose users log in again", self.sessions_lost));
        lines.push(format!("  {} changed rows of green to look at and carry back", self.changes));
        lines.push(format!("  {} revocations made on green to replay on blue", self.revocations));
        lines.push(format!("  a hold of {hold}at most {} ms", self.hold_at_most_ms));
        lines.join("\n")
    }
}

/// Measures it; reads only.
///
/// # Errors
/// When green does not answer. The queue's count is left out when control does not.
pub async fn cost(world: &World, run: Uuid, facts: &Facts) -> Result<Cost, StepError> {
    let flipped = facts.receipt(&super::flip::ID).cloned().unwrap_or_default();
    let mut cost = Cost {
        expected_hold_ms: flipped["since_hold_ms"].as_u64(),
        hold_at_most_ms: ms(world.plan.window.hold),
        ..Cost::default()
    };
    if world.plan.databases.is_in_place {
        // One database: what was written under the other engine stays where it is.
        return Ok(cost);
    }
    if let Some(ledger) = world.ledger(Side::Green) {
        cost.revocations = ledger.pending(Duration::ZERO).await.map_or(0, |pending| pending.len());
    }
    let green = world.side(Side::Green).await?;
    let counted = |error| fail("count what green has changed", error);
    cost.changes = world.capture(run, Side::Green).pending_changes(&green, COUNTED).await.map_err(counted)?;
    if let Value::String(opened_at) = &flipped["opened_at"] {
        tokens(&green, opened_at, &mut cost).await.map_err(|error| fail("count green's tokens", error))?;
    }
    Ok(cost)
}

/// The cost of opening blue without a green that is dead. What green took cannot be counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CostAlone {
    /// Always true: every write that green took since it opened is lost with it.
    pub writes_lost: bool,
    /// When green opened, by its own clock, in UTC.
    pub since: Option<String>,
    /// Revocations made on green that will be replayed on blue.
    pub revocations: usize,
    /// Changes of clients (a new secret, a client disabled) made on green; what they said was in green alone.
    pub client_changes: usize,
    /// Revocations that the engine made by itself on green, such as on the reuse of a refresh token: nobody has queued them.
    pub engine_revocations: &'static str,
}

impl CostAlone {
    /// Lines for a person.
    #[must_use]
    pub fn words(&self) -> String {
        let since = self.since.as_deref().unwrap_or("it opened");
        [
            "Going back to blue without green will cost:".to_owned(),
            format!("  every write that green took since {since}: it is lost with green"),
            "  every token issued or refreshed there: its users log in again".to_owned(),
            format!("  {} revocations from the queue will be replayed on blue", self.revocations),
            format!(
                "  {} changes of clients made on green are not on blue: look after their secrets",
                self.client_changes
            ),
            "  revocations that the engine made by itself on green (reuse of a refresh token) are unknown".to_owned(),
        ]
        .join("\n")
    }
}

/// Gathers what is known of it without green; reads only. The queue's counts are left out when control does not answer.
pub async fn cost_alone(world: &World, facts: &Facts) -> CostAlone {
    let since = facts.receipt(&super::flip::ID).and_then(|flipped| flipped["opened_at"].as_str().map(str::to_owned));
    let mut cost = CostAlone { writes_lost: true, since, engine_revocations: "unknown", ..CostAlone::default() };
    let Some(ledger) = world.ledger(Side::Green) else { return cost };
    if let Ok(pending) = ledger.pending(Duration::ZERO).await {
        cost.revocations = pending.len();
        cost.client_changes = pending.iter().filter(|event| event.what.door == Door::ClientUpdate).count();
    }
    cost
}

async fn tokens(green: &tokio_postgres::Client, opened_at: &str, cost: &mut Cost) -> Result<(), tokio_postgres::Error> {
    let found = minted(green, &Shape::detect(green).await?, opened_at).await?;
    let by_client = found.by_client.into_iter().map(|(client, tokens)| ClientTokens { client, tokens });
    (cost.tokens_minted, cost.by_client) = (found.tokens, by_client.collect());
    cost.sessions_lost = found.refreshed;
    Ok(())
}

fn ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
