//! What must be true before blue's schema can be copied: a program that reads it is on this machine, and it holds nothing that stays behind.

use super::{Findings, PATIENCE, Server};
use crate::database::schema::{PgDump, SchemaError, judge};
use std::error::Error;
use std::path::Path;

pub(super) async fn examine(blue: &Server<'_>, programs: Option<&Path>) -> Findings {
    let mut findings = Findings { server: blue.name, all: Vec::new() };
    let read = async {
        let program = PgDump::find(programs, &blue.client).await?;
        judge(&program.schema(blue.url, PATIENCE).await?)
    };
    if let Err(error) = read.await {
        let next = match &error {
            SchemaError::NoProgram { wanted, .. } => format!(
                "install postgresql-client-{wanted} or newer on this machine, or name the folder of its programs in CUTOVER_PG_BIN"
            ),
            SchemaError::NotCopied { .. } => {
                "make it on green yourself and drop it on blue, or use `method: carry`, whose green gets its schema from `migrate`".to_owned()
            }
            _ => "see that our login may read all of blue".to_owned(),
        };
        findings.error(words(&error), "`copy.method` is `logical`, for which pg_dump reads blue's schema", next);
    }
    findings
}

fn words(error: &SchemaError) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}
