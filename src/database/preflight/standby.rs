//! What must be true of a standby from which rows are read: it follows blue, and our login may read there.

use super::{Findings, PATIENCE, Server, reach, silent};
use crate::database::copy::standby::objection;
use crate::plan::Secret;

const NAME: &str = "standby";

pub(super) async fn examine(blue: &Server<'_>, url: &Secret) -> Findings {
    let mut findings = Findings { server: NAME, all: Vec::new() };
    let standby = match reach(url, NAME).await {
        Ok(standby) => standby,
        Err(finding) => {
            findings.all.push(finding);
            return findings;
        }
    };
    let Ok(asked) = tokio::time::timeout(PATIENCE, objection(&blue.client, &standby.client)).await else {
        findings.all.push(silent(NAME));
        return findings;
    };
    if let Some(Some(why)) = findings.answer("whether it follows blue", asked) {
        findings.error(why, "its rows may not be blue's", "correct `copy.standby` in the plan, or leave it out");
    }
    findings
}
