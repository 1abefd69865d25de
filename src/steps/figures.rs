//! The figures of a run for summaries, gathered from the receipts of its steps. Pure.

use super::compare_plans;
use crate::journal::{RunState, StepPhase};
use serde_json::{Map, Value, json};

/// What the run's steps have counted so far.
#[must_use]
pub fn figures(state: &RunState) -> Value {
    let done = state.steps.iter().filter(|step| step.phase == StepPhase::Done);
    let receipts: Map<String, Value> =
        done.filter_map(|step| Some((step.step.clone(), step.receipt.clone()?))).collect();
    let sum = |key: &str| receipts.values().filter_map(|receipt| receipt[key].as_u64()).sum::<u64>();
    let copied = receipts.get("copy-rows").cloned().unwrap_or_default();
    let compared = receipts.get(compare_plans::ID.as_str()).and_then(|receipt| receipt["queries"].as_array());
    let worse = |query: &&Value| query["worse"].as_array().is_some_and(|worse| !worse.is_empty());
    json!({
        "rows_copied": copied["rows"].as_u64().unwrap_or(0),
        "chunks_repeated": copied["chunks_repeated"].as_u64().unwrap_or(0),
        "rows_cleaned": copied["cleaned"].as_u64().unwrap_or(0),
        "migrations_applied": sum("migrations_applied"),
        "indexes_concurrent": sum("indexes_concurrent"),
        "hot_queries": compared.map(Vec::len),
        "hot_queries_worse": compared.map(|queries| queries.iter().filter(worse).count()),
        "prewarmed_bytes": receipts.get("prewarm-green").map(|receipt| receipt["loaded_bytes"].clone()),
        "hold_ms": receipts.get("flip").map(|flip| flip["since_hold_ms"].clone()),
        "replay_lag_ms": receipts.get("flip").map(|flip| flip["replay_lag_ms"].clone()),
        "hold_phases_ms": receipts.get("flip").map(|flip| flip["phases_ms"].clone()),
    })
}
