//! Whose a presented token is: from the forms of its signature to the grant it belongs to, as one side's tables say. Reads only.
//!
//! A token that was refreshed has another signature than the one that was revoked, and the same request. A JWT is known alike: engines
//! keep its signature as they keep an opaque token's.

use super::chain::MOMENT;
use super::error::RevocationError;
use super::link::Link;
use super::shape::{Shape, ask};
use crate::plan::{Secret, Side};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio_postgres::GenericClient;

const LINKS: usize = 2;
const ACT: &str = "look a presented token's grant up";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is presented to resources.
    Access,
    /// It is exchanged for new tokens.
    Refresh,
    /// It is exchanged for the first tokens of a grant.
    Code,
}

/// The grant a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What the token is.
    pub kind: Kind,
    /// The request id, the same for every token of a grant.
    pub request: String,
    /// The consent's challenge, where the grant has one.
    pub consent: Option<String>,
    /// The client.
    pub client: String,
    /// When it was requested, by the database's own clock, as text of which a later one is greater.
    pub requested_at: String,
}

/// Both sides' databases, asked for tokens that clients present.
pub struct Identities {
    blue: OneSide,
    green: OneSide,
}

impl Identities {
    /// Connections with our login on both sides, opened when first needed; no question takes longer than `limit`.
    #[must_use]
    pub fn new(blue: &Secret, green: &Secret, limit: Duration) -> Self {
        Self { blue: OneSide::new(blue, Side::Blue, limit), green: OneSide::new(green, Side::Green, limit) }
    }

    /// What `side` knows of a token by the forms of its signature, among tokens of these kinds; empty when it knows nothing.
    ///
    /// # Errors
    /// When the side does not answer in time, or has no such tables.
    pub async fn of(&self, side: Side, kinds: &[Kind], forms: &[String]) -> Result<Vec<Identity>, RevocationError> {
        let one = match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        };
        one.ask(kinds, forms).await
    }
}

struct OneSide {
    side: Side,
    links: Vec<Link>,
    next: AtomicUsize,
    shape: RwLock<Option<Arc<Shape>>>,
}

impl OneSide {
    fn new(url: &Secret, side: Side, limit: Duration) -> Self {
        let links = (0..LINKS).map(|_| Link::new(url.clone(), side.as_str(), limit)).collect();
        Self { side, links, next: AtomicUsize::new(0), shape: RwLock::default() }
    }

    async fn ask(&self, kinds: &[Kind], forms: &[String]) -> Result<Vec<Identity>, RevocationError> {
        let link = &self.links[self.next.fetch_add(1, Ordering::Relaxed) % self.links.len()];
        let known = self.shape.read().await.clone();
        let shape = match known {
            Some(shape) => shape,
            None => self.detect(link).await?,
        };
        let (kinds, forms) = (kinds.to_vec(), forms.to_vec());
        let answer = link.run(ACT, |client| async move { identities(&*client, &shape, &kinds, &forms).await }).await;
        if let Err(RevocationError::Query { source, .. }) = &answer
            && source.as_db_error().is_some()
        {
            // Its tables may have changed under us; the next question looks at them anew.
            *self.shape.write().await = None;
        }
        answer
    }

    async fn detect(&self, link: &Link) -> Result<Arc<Shape>, RevocationError> {
        let shape = link.run(ACT, |client| async move { Shape::detect(&*client).await }).await?;
        if !shape.is_complete() {
            return Err(RevocationError::NoTables { side: self.side });
        }
        let shape = Arc::new(shape);
        *self.shape.write().await = Some(Arc::clone(&shape));
        Ok(shape)
    }
}

async fn identities(
    client: &impl GenericClient,
    shape: &Shape,
    kinds: &[Kind],
    forms: &[String],
) -> Result<Vec<Identity>, tokio_postgres::Error> {
    let parts: Vec<String> = kinds
        .iter()
        .enumerate()
        .filter_map(|(number, kind)| {
            let table = match kind {
                Kind::Access => shape.access(),
                Kind::Refresh => shape.refresh(),
                Kind::Code => shape.code(),
            }?;
            Some(format!(
                "select {number}, request_id::text, challenge_id::text, client_id::text, coalesce(to_char(requested_at, '{MOMENT}'), '') from {table} where signature = any($1)"
            ))
        })
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let rows = ask(client, &parts.join(" union all "), &[&forms.to_vec()]).await?;
    let identity = |row: &tokio_postgres::Row| {
        let number = usize::try_from(row.get::<_, i32>(0)).ok()?;
        Some(Identity {
            kind: *kinds.get(number)?,
            request: row.get(1),
            consent: row.get(2),
            client: row.get(3),
            requested_at: row.get(4),
        })
    };
    Ok(rows.iter().filter_map(identity).collect())
}
