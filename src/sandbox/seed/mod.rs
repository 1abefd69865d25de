//! Fills blue with the rows of a busy year: whole chains, chains that stopped on the way, lost logins, machines, and dirt for the cleanup.
//!
//! Owns the sizes; the rows are SQL in `seed.sql`. Every value is a function of the seed and the day. The tokens in it are usable by nobody.

use crate::database::client::{self, ConnectError};
use crate::database::sql::{ident, literal};
use crate::plan::Secret;
use std::collections::BTreeMap;
use thiserror::Error;

const ROWS: &str = include_str!("seed.sql");

const COUNTED: &[&str] = &[
    "hydra_client",
    "hydra_jwk",
    "hydra_oauth2_access",
    "hydra_oauth2_refresh",
    "hydra_oauth2_code",
    "hydra_oauth2_oidc",
    "hydra_oauth2_pkce",
    "hydra_oauth2_authentication_session",
    "hydra_oauth2_authentication_request",
    "hydra_oauth2_authentication_request_handled",
    "hydra_oauth2_consent_request",
    "hydra_oauth2_consent_request_handled",
    "hydra_oauth2_jti_blacklist",
    "hydra_oauth2_logout_request",
    "hydra_oauth2_obfuscated_authentication_session",
    "hydra_oauth2_trusted_jwt_bearer_issuer",
];

/// How much to fill in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedSize {
    /// Access and refresh tokens together, about; at least 100 are made.
    pub token_rows: u32,
    /// Makes one filling different from another.
    pub seed: u32,
}

/// What was filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeded {
    /// Rows by table.
    pub rows: BTreeMap<String, i64>,
}

impl Seeded {
    /// All rows together.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.rows.values().sum()
    }
}

/// Why the filling failed; it is one transaction, so nothing was written.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The database cannot be reached.
    #[error("fill the stand-in's database: nothing was written")]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("fill the stand-in's database: nothing was written; is it migrated to version 1 and empty?")]
    Sql(#[from] tokio_postgres::Error),
}

/// Fills a migrated, empty version 1 database; `url` is our own login, since triggers are off meanwhile.
///
/// # Errors
/// When the database cannot be reached or refuses; nothing was written then.
pub async fn fill(url: &Secret, size: SeedSize) -> Result<Seeded, SeedError> {
    let mut client = client::connect(url, "the stand-in's database").await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute(&settings(size)).await?;
    transaction.batch_execute(ROWS).await?;
    let mut seeded = Seeded::default();
    for table in COUNTED {
        let count = transaction.query_one(&format!("select count(*) from {}", ident(table)), &[]).await?.get(0);
        seeded.rows.insert((*table).to_owned(), count);
    }
    transaction.commit().await?;
    client.batch_execute("vacuum (analyze)").await?;
    Ok(seeded)
}

/// Sizes in proportion to the tokens: a quarter as many chains, three tenths for machines and dirt.
fn settings(size: SeedSize) -> String {
    let rows = size.token_rows.max(100);
    let sizes = [
        ("chains", rows / 4),
        ("machines", rows * 3 / 20),
        ("legacy", rows * 3 / 40),
        ("clients", (rows / 2000).clamp(20, 2000)),
        ("people", (rows / 12).max(10)),
        ("assertions", rows / 100),
        ("logouts", rows / 200),
        ("pairwise", rows / 400),
    ];
    let mut text = format!(
        "set local session_replication_role = replica; set local synchronous_commit = on; set local timezone = 'utc';
         set local cutover_seed.seed = {}; select set_config('cutover_seed.at', current_date::text, true);",
        literal(&size.seed.to_string())
    );
    for (name, value) in sizes {
        text.push_str(&format!("set local cutover_seed.{name} = '{value}';"));
    }
    text
}
