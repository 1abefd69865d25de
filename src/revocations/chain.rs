//! Looking a chain up on one side: from what a revocation names to the identities that it kills. Reads only.
//!
//! A revoked token may be unknown on the other side while its siblings live there; so both sides are asked, at capture, and the
//! answer is request ids, consents and sessions, never the token.

use super::error::RevocationError;
use super::event::{Chain, Seen};
use super::hydra::Knock;
use super::link::Link;
use super::shape::{Shape, ask};
use crate::plan::{Secret, Side};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

const LINKS: usize = 2;
/// How long a side that is not live is left in peace after it did not answer.
const REST: Duration = Duration::from_secs(10);
/// Tokens of a client below which all of them are read.
const FEW: u32 = 1000;
const ACT: &str = "look a revocation's chain up";
const CLOCK: &str = "select clock_timestamp()";
/// A moment as text, so that a later one is a greater one.
pub(super) const MOMENT: &str = "YYYY-MM-DD HH24:MI:SS.US";

/// Both sides' databases, for lookups at capture.
pub struct Lookups {
    blue: OneSide,
    green: OneSide,
}

/// What both sides said.
#[derive(Debug)]
pub struct Found {
    /// The chain as either side knows it.
    pub chain: Chain,
    /// What blue said.
    pub blue: Seen,
    /// What green said.
    pub green: Seen,
}

impl Lookups {
    /// Lookups with our login on both sides; none takes longer than `limit`.
    #[must_use]
    pub fn new(blue: &Secret, green: &Secret, limit: Duration) -> Self {
        Self { blue: OneSide::new(blue, Side::Blue, limit), green: OneSide::new(green, Side::Green, limit) }
    }

    /// Asks both sides at once. The live side must answer and must have its tables; the other side's silence is noted.
    ///
    /// # Errors
    /// When the live side does not answer: then nothing may be acknowledged.
    pub async fn both(&self, knock: &Knock, live: Side) -> Result<Found, RevocationError> {
        let (blue, green) = tokio::join!(self.blue.answer(knock, live), self.green.answer(knock, live));
        let mut chain = named_by(knock);
        let mut seen = |side: Side, answer: Result<(Seen, Chain), RevocationError>| match answer {
            Ok((Seen::NoTables, _)) if side == live => Err(RevocationError::NoTables { side }),
            Ok((seen, found)) => {
                // One clock alone: that of the side whose grants are compared with it.
                let at = found.at.filter(|_| side == live);
                chain.merge(Chain { at, ..found });
                Ok(seen)
            }
            Err(error) if side == live => Err(error),
            Err(_) => Ok(Seen::Unreachable),
        };
        let blue = seen(Side::Blue, blue)?;
        let green = seen(Side::Green, green)?;
        Ok(Found { chain, blue, green })
    }
}

/// What the request itself names.
fn named_by(knock: &Knock) -> Chain {
    let mut chain = Chain::default();
    match knock {
        Knock::Token { signatures } => chain.signatures.clone_from(signatures),
        Knock::Consents { subject, .. } | Knock::Sessions { subject } => chain.subject = Some(subject.clone()),
        Knock::Consent { challenge } => {
            chain.consents.insert(challenge.clone());
        }
        Knock::Session { id } => {
            chain.sessions.insert(id.clone());
        }
        Knock::ClientTokens { client } | Knock::ClientDelete { client } | Knock::ClientUpdate { client } => {
            chain.clients.insert(client.clone());
        }
        Knock::Logout { .. } => {}
    }
    chain
}

struct OneSide {
    side: Side,
    /// Until when the side is left in peace while it is not live.
    rests_until: Mutex<Option<Instant>>,
    links: Vec<Link>,
    next: AtomicUsize,
    shape: RwLock<Option<Arc<Shape>>>,
}

impl OneSide {
    fn new(url: &Secret, side: Side, limit: Duration) -> Self {
        let links = (0..LINKS).map(|_| Link::new(url.clone(), side.as_str(), limit)).collect();
        let rests_until = Mutex::default();
        Self { side, rests_until, links, next: AtomicUsize::new(0), shape: RwLock::default() }
    }

    /// Asks the side. One that is not live and did not answer in time is left in peace for a while: its tables may have no indexes
    /// while they are filled, and every question would read all of them.
    async fn answer(&self, knock: &Knock, live: Side) -> Result<(Seen, Chain), RevocationError> {
        if self.side == live {
            return self.ask(knock).await;
        }
        let rests = self.rests_until.lock().await.is_some_and(|until| Instant::now() < until);
        if rests {
            return Ok((Seen::Unreachable, Chain::default()));
        }
        let answer = self.ask(knock).await;
        if let Err(error) = &answer {
            *self.rests_until.lock().await = Some(Instant::now() + REST);
            tracing::warn!(%error, side = %self.side, "the side that is not live could not be asked; it is left in peace for a while");
        }
        answer
    }

    async fn ask(&self, knock: &Knock) -> Result<(Seen, Chain), RevocationError> {
        let link = &self.links[self.next.fetch_add(1, Ordering::Relaxed) % self.links.len()];
        let known = self.shape.read().await.clone();
        let shape = match known {
            Some(shape) => shape,
            None => match self.detect(link).await? {
                Some(shape) => shape,
                None => return Ok((Seen::NoTables, Chain::default())),
            },
        };
        let knock = knock.clone();
        match link.run(ACT, |client| async move { dated(&client, &shape, &knock).await }).await {
            Ok(chain) if chain.is_known() => Ok((Seen::Found, chain)),
            Ok(chain) => Ok((Seen::Unknown, chain)),
            Err(RevocationError::Query { source, .. }) if has_changed(&source) => {
                *self.shape.write().await = None;
                Ok((Seen::NoTables, Chain::default()))
            }
            Err(error) => Err(error),
        }
    }

    async fn detect(&self, link: &Link) -> Result<Option<Arc<Shape>>, RevocationError> {
        let shape = link.run(ACT, |client| async move { Shape::detect(&*client).await }).await?;
        if !shape.is_complete() {
            return Ok(None);
        }
        let shape = Arc::new(shape);
        *self.shape.write().await = Some(Arc::clone(&shape));
        Ok(Some(shape))
    }
}

/// What a side knows, and its clock once that is read: nothing that was found is younger.
async fn dated(client: &Client, shape: &Shape, knock: &Knock) -> Result<Chain, tokio_postgres::Error> {
    let chain = lookup(client, shape, knock).await?;
    let clock = client.query_typed_one(CLOCK, &[]).await?;
    Ok(Chain { at: Some(clock.get(0)), ..chain })
}

/// Migrations may be under way on the side that is not live.
fn has_changed(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN)
}

/// What one side knows of what a revocation names.
///
/// # Errors
/// When the server does not answer or its tables are not as the shape says.
pub async fn lookup(client: &impl GenericClient, shape: &Shape, knock: &Knock) -> Result<Chain, tokio_postgres::Error> {
    match knock {
        Knock::Token { signatures } => by_signature(client, shape, signatures).await,
        Knock::Consents { subject, client: named } => consents(client, shape, subject, named.as_deref()).await,
        Knock::Consent { challenge } => by_consent(client, shape, vec![challenge.clone()]).await,
        Knock::Sessions { subject } => sessions(client, shape, "subject", subject).await,
        Knock::Session { id } => sessions(client, shape, "id", id).await,
        Knock::ClientTokens { client: named } | Knock::ClientDelete { client: named } => {
            until(client, shape, named).await
        }
        Knock::ClientUpdate { .. } => Ok(Chain::default()),
        Knock::Logout { verifier } => logout(client, shape, verifier).await,
    }
}

async fn by_signature(
    client: &impl GenericClient,
    shape: &Shape,
    signatures: &Vec<String>,
) -> Result<Chain, tokio_postgres::Error> {
    let parts: Vec<String> = shape
        .tokens()
        .map(|table| format!("select request_id::text, subject::text from {table} where signature = any($1)"))
        .collect();
    let rows = ask(client, &parts.join(" union all "), &[signatures]).await?;
    let mut chain = Chain::default();
    for row in rows {
        chain.requests.insert(row.get(0));
        chain.subject = Some(row.get(1));
    }
    Ok(chain)
}

/// Consents that stand: handled and granted. Those still being asked are not meant by a revocation, and must not die of one.
async fn consents(
    client: &impl GenericClient,
    shape: &Shape,
    subject: &str,
    named: Option<&str>,
) -> Result<Chain, tokio_postgres::Error> {
    let mut parts = Vec::new();
    if let Some(flow) = shape.flow() {
        parts.push(format!(
            "select consent_challenge_id::text from {flow} where subject = $1 and ($2::text is null or client_id = $2) and state in (5, 6) and consent_challenge_id is not null"
        ));
    }
    if let (Some(request), Some(handled)) = (shape.consent_request(), shape.consent_handled()) {
        parts.push(format!(
            "select r.challenge::text from {request} r join {handled} h on h.challenge = r.challenge where r.subject = $1 and ($2::text is null or r.client_id = $2)"
        ));
    }
    let rows = client.query_typed(&parts.join(" union "), &[(&subject, Type::TEXT), (&named, Type::TEXT)]).await?;
    by_consent(client, shape, rows.iter().map(|row| row.get(0)).collect()).await
}

/// A consent's tokens carry its challenge, and for user grants the request id is the challenge itself.
async fn by_consent(
    client: &impl GenericClient,
    shape: &Shape,
    consents: Vec<String>,
) -> Result<Chain, tokio_postgres::Error> {
    if consents.is_empty() {
        return Ok(Chain::default());
    }
    let parts: Vec<String> = shape
        .tokens()
        .map(|table| format!("select request_id::text from {table} where challenge_id = any($1)"))
        .collect();
    let rows = ask(client, &parts.join(" union "), &[&consents]).await?;
    let requests = rows.iter().map(|row| row.get(0)).chain(consents.iter().cloned()).collect();
    Ok(Chain { requests, consents: consents.into_iter().collect(), ..Chain::default() })
}

async fn sessions(
    client: &impl GenericClient,
    shape: &Shape,
    column: &'static str,
    value: &str,
) -> Result<Chain, tokio_postgres::Error> {
    let Some(table) = shape.session() else {
        return Ok(Chain::default());
    };
    let query = format!("select id::text from {table} where {column} = $1");
    let rows = client.query_typed(&query, &[(&value, Type::TEXT)]).await?;
    Ok(Chain { sessions: rows.iter().map(|row| row.get(0)).collect(), ..Chain::default() })
}

/// The newest grant of a client: what is older dies with it, what comes later lives. The database's own times, no clock of ours.
///
/// A client of few tokens is read whole by its index. By the index of times, which the planner takes for a maximum, a client that has
/// none would be looked for among everybody's tokens; one that has many is soon found there.
async fn until(client: &impl GenericClient, shape: &Shape, named: &str) -> Result<Chain, tokio_postgres::Error> {
    let parts: Vec<String> = shape
        .tokens()
        .map(|table| {
            format!(
                "select case when count(*) < {FEW} then max(few.at) else (select max(requested_at) from {table} where client_id = $1) end as at
  from (select requested_at as at from {table} where client_id = $1 limit {FEW}) few"
            )
        })
        .collect();
    let query = format!("select to_char(max(at), '{MOMENT}') from ({}) newest", parts.join(" union all "));
    let row = client.query_typed_one(&query, &[(&named, Type::TEXT)]).await?;
    let until: Option<String> = row.get(0);
    let clients = until.iter().map(|_| named.to_owned()).collect();
    Ok(Chain { until, clients, ..Chain::default() })
}

async fn logout(client: &impl GenericClient, shape: &Shape, verifier: &str) -> Result<Chain, tokio_postgres::Error> {
    let Some(table) = shape.logout() else {
        return Ok(Chain::default());
    };
    let query = format!("select sid::text from {table} where verifier = $1 and sid is not null");
    let rows = client.query_typed(&query, &[(&verifier, Type::TEXT)]).await?;
    Ok(Chain { sessions: rows.iter().map(|row| row.get(0)).collect(), ..Chain::default() })
}
