//! Where each revocation stands, for people: one by one, page by page, never a token. Reads control alone.

use super::error::RevocationError;
use super::event::Chain;
use super::link::Link;
use crate::plan::Secret;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// Characters of a signature that are shown: enough to find it again in a table, useless as a token.
const SHOWN_SIGNATURE: usize = 8;
/// Most identities of one kind that are shown of an event.
const SHOWN_IDENTITIES: usize = 20;
/// Longest text that is shown of what others wrote.
const SHOWN_TEXT: usize = 500;

const STATE: &str = "case when v.event is not null then 'waived' when r.outcome = 'refused' then 'refused'
  when r.dead_at is not null then 'dead' when r.proved_at is not null then 'proved'
  when r.replayed_at is not null then 'replayed' else 'queued' end";
const FROM: &str = "from cutover.revocation r
left join cutover.revocation_verdict v on v.event = r.id
left join cutover.revocation_asked a on a.event = r.id
where r.plan = $1";
const COLUMNS: &str = "r.id, r.incarnation, r.seq, r.door, r.captured_at, r.live, r.epoch, r.chain, r.blue_seen, r.green_seen, r.outcome,
  r.status, r.attempts, r.last_error, r.replayed_at, r.proved_at, r.dead_at, v.said_by, v.because, v.said_at, coalesce(a.actor, r.actor),
  coalesce(a.because, 'by a door of the engine')";
const AFTER: &str = "($3::uuid is null or (r.captured_at, r.incarnation, r.seq) >
  (select c.captured_at, c.incarnation, c.seq from cutover.revocation c where c.id = $3))";
const ORDER: &str = "order by r.captured_at, r.incarnation, r.seq";
/// What blocks a move has no proof yet: the oldest of it says how long somebody has been waiting for one.
const TOTALS: &str = "select count(*) filter (where state = 'queued'), count(*) filter (where state = 'replayed'),
  count(*) filter (where state = 'proved'), count(*) filter (where state = 'dead'), count(*) filter (where state = 'waived'),
  count(*) filter (where state = 'refused'), count(*) filter (where state in ('queued', 'replayed', 'dead') and outcome = 'captured'),
  extract(epoch from clock_timestamp() - min(captured_at) filter (where state in ('queued', 'replayed', 'dead')))::float8";

/// Where a revocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// Queued, and not replayed on the other side yet.
    Queued,
    /// Replayed there, and not proved.
    Replayed,
    /// Proved there.
    Proved,
    /// It could not be read or replayed; it stops every move.
    Dead,
    /// A named person answers for it; it stops nothing, and may not hold.
    Waived,
    /// The engine refused it; it is never replayed.
    Refused,
}

impl EventState {
    const ALL: [Self; 6] = [Self::Queued, Self::Replayed, Self::Proved, Self::Dead, Self::Waived, Self::Refused];

    /// The word under which it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Replayed => "replayed",
            Self::Proved => "proved",
            Self::Dead => "dead",
            Self::Waived => "waived",
            Self::Refused => "refused",
        }
    }
}

impl FromStr for EventState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Who said something of a revocation, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Who.
    pub by: String,
    /// Why.
    pub because: String,
    /// When, by control's clock; none for a request, which is as old as its event.
    pub at: Option<Timestamp>,
}

/// What an event kills, as far as it may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShownChain {
    /// Request ids, the first few.
    pub requests: Vec<String>,
    /// Consent challenges, the first few.
    pub consents: Vec<String>,
    /// Login sessions, the first few.
    pub sessions: Vec<String>,
    /// Clients, the first few.
    pub clients: Vec<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The beginnings of signatures.
    pub signatures: Vec<String>,
    /// Tokens requested up to this time are meant.
    pub until: Option<String>,
    /// How many identities there are in all.
    pub identities: usize,
}

impl ShownChain {
    /// None when it cannot be understood: what stands there instead might be anything.
    fn of(chain: &Value) -> Option<Self> {
        let chain: Chain = serde_json::from_value(chain.clone()).ok()?;
        let few = |all: &std::collections::BTreeSet<String>| {
            all.iter().take(SHOWN_IDENTITIES).map(|one| printable(one)).collect::<Vec<_>>()
        };
        let identities = chain.requests.len() + chain.consents.len() + chain.sessions.len() + chain.clients.len();
        Some(Self {
            requests: few(&chain.requests),
            consents: few(&chain.consents),
            sessions: few(&chain.sessions),
            clients: few(&chain.clients),
            subject: chain.subject.as_deref().map(printable),
            signatures: chain.signatures.iter().take(SHOWN_IDENTITIES).map(|one| shortened(one)).collect(),
            until: chain.until.as_deref().map(printable),
            identities,
        })
    }

    /// One short piece of text for a line.
    #[must_use]
    pub fn words(&self) -> String {
        let kinds = [
            ("request", &self.requests),
            ("consent", &self.consents),
            ("session", &self.sessions),
            ("client", &self.clients),
        ];
        let first = kinds.iter().find_map(|(kind, ids)| Some(format!("{kind} {}", ids.first()?)));
        let first = first.or_else(|| Some(format!("signature {}", self.signatures.first()?)));
        let first = first.unwrap_or_else(|| "nothing known".to_owned());
        let more = self.identities.saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let subject = self.subject.as_ref().map(|subject| format!(" of {subject}")).unwrap_or_default();
        format!("{first}{more}{subject}")
    }
}

/// A revocation as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its identity.
    pub id: Uuid,
    /// Where it stands.
    pub state: EventState,
    /// Through which door it came.
    pub door: String,
    /// When it was captured, by control's clock.
    pub captured_at: Timestamp,
    /// Which incarnation of a gateway captured it.
    pub incarnation: Uuid,
    /// Its number there.
    pub seq: i64,
    /// The side that served then.
    pub live: String,
    /// At which epoch.
    pub epoch: i64,
    /// What it kills; none when that cannot be understood.
    pub chain: Option<ShownChain>,
    /// What blue knew of it.
    pub blue: String,
    /// What green knew of it.
    pub green: String,
    /// What became of it on the side that served: `executed`, `refused`, or `captured` when that is not known.
    pub outcome: String,
    /// The status by which the engine answered.
    pub status: Option<i32>,
    /// How often its replay failed.
    pub attempts: i32,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// When it was replayed on the other side.
    pub replayed_at: Option<Timestamp>,
    /// When it was proved there.
    pub proved_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// Who answers for it.
    pub waived: Option<Said>,
    /// Who asked for it, as far as that could be seen, and why, when it came by no door of the engine.
    pub asked: Option<Said>,
}

/// A page of revocations, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub events: Vec<Told>,
    /// Whether there are more behind the last.
    pub is_more: bool,
}

/// How many revocations of a plan stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Not replayed yet.
    pub queued: i64,
    /// Replayed, not proved.
    pub replayed: i64,
    /// Proved.
    pub proved: i64,
    /// Given up.
    pub dead: i64,
    /// Answered for by a person.
    pub waived: i64,
    /// Refused by the engine.
    pub refused: i64,
    /// Of those not proved: how many of which nobody knows whether the side that served has executed them.
    pub unsettled: i64,
    /// Age of the oldest that is neither proved nor waived, in seconds.
    pub oldest_unproved_s: Option<f64>,
}

impl Totals {
    /// A line for people.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { queued, replayed, proved, dead, waived, refused, .. } = self;
        let oldest =
            self.oldest_unproved_s.map(|s| format!("; the oldest unproved is {s:.0} s old")).unwrap_or_default();
        format!(
            "{queued} queued, {replayed} replayed, {proved} proved, {dead} dead, {waived} waived, {refused} refused{oldest}"
        )
    }
}

/// The revocations of one plan, for those who look.
pub struct Overview {
    pub(super) link: Link,
    pub(super) plan: String,
}

impl Overview {
    /// The revocations of `plan` in `control`; no call takes longer than `limit`.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, limit: Duration) -> Self {
        Self { link: Link::new(control.clone(), "control", limit), plan: plan.to_owned() }
    }

    /// A page of at most `limit` events of a state, or of all; those behind `after`, or from the oldest on.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn page(
        &self,
        state: Option<EventState>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page, RevocationError> {
        let query = format!(
            "select {STATE} as state, {COLUMNS} {FROM} and ($2::text is null or {STATE} = $2) and {AFTER} {ORDER} limit $4"
        );
        let (plan, word, most) = (self.plan.clone(), state.map(EventState::as_str), i64::from(limit) + 1);
        let ask = |client: std::sync::Arc<tokio_postgres::Client>| async move {
            client.query(&query, &[&plan, &word, &after, &most]).await
        };
        let rows = self.link.run("list revocations", ask).await?;
        let is_more = rows.len() > limit as usize;
        let events = rows.iter().take(limit as usize).map(told).collect();
        Ok(Page { events, is_more })
    }

    /// One event; none when the plan has none of this id.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn one(&self, id: Uuid) -> Result<Option<Told>, RevocationError> {
        let query = format!("select {STATE} as state, {COLUMNS} {FROM} and r.id = $2");
        let plan = self.plan.clone();
        let ask = |client: std::sync::Arc<tokio_postgres::Client>| async move {
            client.query_opt(&query, &[&plan, &id]).await
        };
        let row = self.link.run("look for a revocation", ask).await?;
        Ok(row.as_ref().map(told))
    }

    /// How many stand where.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn totals(&self) -> Result<Totals, RevocationError> {
        let query = format!("{TOTALS} from (select {STATE} as state, r.outcome, r.captured_at {FROM}) told");
        let plan = self.plan.clone();
        let ask =
            |client: std::sync::Arc<tokio_postgres::Client>| async move { client.query_one(&query, &[&plan]).await };
        let row = self.link.run("count revocations", ask).await?;
        Ok(Totals {
            queued: row.get(0),
            replayed: row.get(1),
            proved: row.get(2),
            dead: row.get(3),
            waived: row.get(4),
            refused: row.get(5),
            unsettled: row.get(6),
            oldest_unproved_s: row.get(7),
        })
    }
}

fn told(row: &Row) -> Told {
    let text = |n: usize| printable(row.get::<_, Option<&str>>(n).unwrap_or_default());
    let said = |by: usize, because: usize, at: Option<Timestamp>| {
        row.get::<_, Option<&str>>(by).map(|who| Said { by: printable(who), because: text(because), at })
    };
    Told {
        // The words come from the query above; no other can.
        state: row.get::<_, &str>(0).parse().unwrap_or(EventState::Queued),
        id: row.get(1),
        incarnation: row.get(2),
        seq: row.get(3),
        door: text(4),
        captured_at: row.get(5),
        live: text(6),
        epoch: row.get(7),
        chain: ShownChain::of(&row.get(8)),
        blue: text(9),
        green: text(10),
        outcome: text(11),
        status: row.get(12),
        attempts: row.get(13),
        last_error: row.get::<_, Option<&str>>(14).map(|why| printable(&unquoted(why))),
        replayed_at: row.get(15),
        proved_at: row.get(16),
        dead_at: row.get(17),
        waived: said(18, 19, row.get(20)),
        asked: said(21, 22, None),
    }
}

/// An error without what it quotes: whatever stood in a message that nobody understood might be anything.
fn unquoted(why: &str) -> String {
    let parts = why.split('"').enumerate();
    parts.map(|(n, part)| if n % 2 == 0 { part.to_owned() } else { "\"…\"".to_owned() }).collect()
}

/// What others wrote, without anything that a terminal would obey, and not without end.
pub(super) fn printable(text: &str) -> String {
    let kept = text.chars().take(SHOWN_TEXT).map(|c| if is_obeyed(c) { '\u{fffd}' } else { c });
    let shown: String = kept.collect();
    if text.chars().nth(SHOWN_TEXT).is_some() { format!("{shown}…") } else { shown }
}

/// Control characters, and those that turn the direction of text.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shortened(signature: &str) -> String {
    let shown: String = signature.chars().take(SHOWN_SIGNATURE).collect();
    format!("{}…", printable(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chain_is_shown_without_its_signatures_and_without_end() {
        let requests: Vec<String> = (0..100).map(|n| format!("r{n:03}")).collect();
        let chain = json!({ "requests": requests, "subject": "ann\u{1b}[2J", "signatures": ["abcdefghijklmnop"] });
        let shown = ShownChain::of(&chain).expect("a chain");
        assert_eq!((shown.requests.len(), shown.identities), (SHOWN_IDENTITIES, 100));
        assert_eq!(shown.signatures, ["abcdefgh…"]);
        assert_eq!(shown.subject.as_deref(), Some("ann\u{fffd}[2J"), "a terminal obeys nothing of it");
        assert_eq!(shown.words(), "request r000 and 99 more of ann\u{fffd}[2J");
        assert_eq!(ShownChain::of(&json!({ "requests": "a.token" })), None, "what cannot be understood is not shown");
        assert_eq!(ShownChain::default().words(), "nothing known");
    }

    #[test]
    fn a_state_is_one_of_six_words() {
        for state in EventState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("lost".parse::<EventState>().is_err_and(|why| why.contains("replayed")));
        assert_eq!(
            unquoted("invalid type: string \"a.token\", expected a chain"),
            "invalid type: string \"…\", expected a chain"
        );
        assert!(printable(&"x".repeat(SHOWN_TEXT + 1)).ends_with('…'));
    }
}
