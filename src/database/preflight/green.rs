//! What must be true of green for what the plan does there besides filling it: the extension that loads its memory.

use super::Findings;
use crate::database::prewarm;
use tokio_postgres::Client;

const AVAILABLE: &str = "select exists (select from pg_available_extensions where name = $1)";

pub(super) async fn prewarm(client: &Client, findings: &mut Findings) {
    let question = "whether it has the extension pg_prewarm";
    let Some(None) = findings.answer(question, prewarm::schema(client).await) else { return };
    let available = client.query_one(AVAILABLE, &[&prewarm::EXTENSION]).await;
    let Some(available) = findings.answer(question, available) else { return };
    let create = format!("`{}` in green's database, as a superuser", prewarm::CREATE);
    let next = match available.get(0) {
        true => create,
        false => format!("install the package with contrib's extensions on its server, then {create}"),
    };
    let why = "`copy.prewarm` loads green's tables into its memory with it, and our login may not create it";
    findings.error(format!("extension {} is missing", prewarm::EXTENSION), why, next);
}
