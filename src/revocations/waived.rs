//! What people answer for among the revocations of a plan: events, messages that nobody understands, ends of gateways. Reads control alone.

use super::error::RevocationError;
use super::standing::{Overview, printable};
use jiff::Timestamp;
use std::sync::Arc;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Of messages and gateways who and why stand in one text, as `waive` writes it.
const WAIVED: &str = "select 'revocation', v.event, coalesce('door ' || r.door || ', made on ' || r.live, 'not arrived yet'), v.said_by, v.because, v.said_at
  from cutover.revocation_verdict v left join cutover.revocation r on r.id = v.event where v.plan = $1
union all select 'message', id, 'of ' || queue || ': ' || why, split_part(waived_because, ': ', 1),
  substr(waived_because, length(split_part(waived_because, ': ', 1)) + 3), waived_at
  from cutover.dead_message where plan = $1 and waived_at is not null
union all select 'gateway', incarnation, gateway, split_part(waived_because, ': ', 1),
  substr(waived_because, length(split_part(waived_because, ': ', 1)) + 3), waived_at
  from cutover.producer where plan = $1 and waived_at is not null
order by 6, 2";

/// One that somebody answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waived {
    /// `revocation`, `message` or `gateway`.
    pub what: &'static str,
    /// Its id; of a gateway its incarnation.
    pub id: Uuid,
    /// What is known of it.
    pub of: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub because: String,
}

impl Overview {
    /// All that somebody answers for, the oldest first.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn waived(&self) -> Result<Vec<Waived>, RevocationError> {
        let plan = self.plan.clone();
        let ask = |client: Arc<Client>| async move { client.query(WAIVED, &[&plan]).await };
        Ok(self.link.run("list what was waived", ask).await?.iter().map(waived).collect())
    }
}

fn waived(row: &Row) -> Waived {
    let text = |n: usize| printable(row.get::<_, Option<&str>>(n).unwrap_or_default());
    let what = match row.get::<_, &str>(0) {
        "message" => "message",
        "gateway" => "gateway",
        _ => "revocation",
    };
    Waived { what, id: row.get(1), of: text(2), by: text(3), at: row.get(5), because: text(4) }
}
