//! What a person may answer for when nothing else helps: the end of a gateway that is lost for good, and messages that cannot be understood.
//! And the other way out of such a message: another look at it, by a program that understands it.

use super::error::RevocationError;
use super::ledger::Ledger;
use std::sync::Arc;
use tokio_postgres::Client;
use uuid::Uuid;

const WAIVE_END: &str = "update cutover.producer set waived_at = clock_timestamp(), waived_because = $3
where plan = $1 and incarnation = $2 and ended_at is not null and waived_at is null";
const WAIVE_MESSAGE: &str = "update cutover.dead_message set waived_at = clock_timestamp(), waived_because = $3
where plan = $1 and id = $2 and waived_at is null";
/// Those that nobody answers for, the oldest first.
const MESSAGES: &str =
    "select id, 'a message of ' || queue || ' that cannot be taken in: ' || why from cutover.dead_message
where plan = $1 and waived_at is null order by found_at, id limit $2";
const BODY: &str = "select body from cutover.dead_message where plan = $1 and id = $2";
const WHY: &str = "select why from cutover.dead_message where plan = $1 and id = $2";

/// What another look at a dead message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// It was understood, and is a message like any other now.
    TakenIn,
    /// It is dead still, for this reason.
    StillDead(String),
    /// There is no such message.
    NoSuch,
}

impl Ledger {
    /// Messages that could not be understood or believed and that nobody answers for, at most `most`, each with the reason; they stop every move.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn dead_messages(&self, most: u32) -> Result<Vec<(Uuid, String)>, RevocationError> {
        let (plan, most) = (&self.plan, i64::from(most));
        let list = |client: Arc<Client>| async move { client.query(MESSAGES, &[plan, &most]).await };
        let rows = self.link.run("list dead messages", list).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Notes that a person answers for an ended incarnation: for numbers of it that are missing, and for an end that its queue cannot prove.
    /// False when there is no such incarnation, it has not ended, or it was waived before.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn waive_end(&self, incarnation: Uuid, because: &str) -> Result<bool, RevocationError> {
        self.waive("waive the end of a gateway", WAIVE_END, incarnation, because).await
    }

    /// Notes that a person answers for a message that cannot be understood; a number that it may have had stays missing. False when there
    /// is none, or it was waived before.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn waive_message(&self, id: Uuid, because: &str) -> Result<bool, RevocationError> {
        self.waive("waive a message", WAIVE_MESSAGE, id, because).await
    }

    /// Takes another look at a message that could not be understood, as after the installation of a program that does.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn read_again(&self, id: Uuid) -> Result<Again, RevocationError> {
        let plan = &self.plan;
        let look = |client: Arc<Client>| async move { client.query_opt(BODY, &[plan, &id]).await };
        let found = self.link.run("look at a message", look).await?;
        let Some(found) = found else { return Ok(Again::NoSuch) };
        self.collector.take_in(found.get(0)).await?;
        let look = |client: Arc<Client>| async move { client.query_opt(WHY, &[plan, &id]).await };
        let still = self.link.run("look at a message", look).await?;
        Ok(still.map_or(Again::TakenIn, |row| Again::StillDead(row.get(0))))
    }

    async fn waive(
        &self,
        act: &'static str,
        statement: &'static str,
        id: Uuid,
        because: &str,
    ) -> Result<bool, RevocationError> {
        let plan = &self.plan;
        let waive = |client: Arc<Client>| async move { client.execute(statement, &[plan, &id, &because]).await };
        Ok(self.link.run(act, waive).await? == 1)
    }
}
