//! A scratch database beside green, or in place beside blue, on its server: made for one purpose, marked as ours, and dropped with all that is in it.
//!
//! Owns its name, its mark and the URLs that lead there. May call `client` and `sql`. Never drops a database without our mark.

use super::client::{ConnectError, connect};
use super::sql::{ident, literal};
use crate::plan::Secret;
use std::collections::BTreeMap;
use thiserror::Error;
use tokio_postgres::Client;
use url::Url;

/// What marks a database as ours, in its comment.
const MARK: &str = "scratch database of cutover; it may be dropped";
const LIKE_GREEN: &str =
    "select pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider::text = 'c'
from pg_catalog.pg_database where datname = pg_catalog.current_database()";
const MARKED: &str =
    "select pg_catalog.shobj_description(oid, 'pg_database') from pg_catalog.pg_database where datname = $1";
/// Whether a database holds nothing but what every new one holds.
const IS_EMPTY: &str = "
select not exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                    where n.nspname <> 'information_schema' and n.nspname !~ '^pg_')
   and not exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                    where n.nspname <> 'information_schema' and n.nspname !~ '^pg_')
   and not exists (select from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
                    where n.nspname <> 'information_schema' and n.nspname !~ '^pg_')";

/// Why a scratch database cannot be had; blue and green are as they were.
#[derive(Debug, Error)]
pub enum ScratchError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The URL is no URL, so that no other database of its server can be named.
    #[error("make a scratch database: its server's URL is not of the form postgres://login@host/name")]
    NoUrl,
    /// A database of that name is somebody else's.
    #[error("make a scratch database: {name} exists and is not marked as ours; rename or drop it")]
    Foreign {
        /// Its name.
        name: String,
    },
    /// The server refused; our login must be allowed to create databases there.
    #[error("{act} scratch database {name}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// Its name.
        name: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What stands under the name of a scratch database.
enum Left {
    /// No database.
    Nothing,
    /// One that we made.
    Ours,
    /// Somebody else's.
    Foreign,
}

/// Drops the one that an earlier process has left; somebody else's stays.
///
/// # Errors
/// When the URL is none, or the server refuses; it is still there then.
pub async fn clear(green: &Secret, name: &str) -> Result<(), ScratchError> {
    let scratch = Scratch::beside(green, name).await?;
    match scratch.left().await? {
        Left::Ours => scratch.drop_it().await,
        Left::Nothing | Left::Foreign => Ok(()),
    }
}

/// A scratch database.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    green: Url,
    beside: Client,
}

impl Scratch {
    /// Makes an empty one of this name beside the database at `green`; one that an earlier call has left is dropped first.
    ///
    /// # Errors
    /// When the name is taken by somebody else, or the server refuses.
    pub async fn create(green: &Secret, name: &str) -> Result<Self, ScratchError> {
        let scratch = Self::beside(green, name).await?;
        let failed = |source| scratch.failed("create", source);
        match scratch.left().await? {
            Left::Nothing => {}
            Left::Ours => scratch.drop_it().await?,
            Left::Foreign => return Err(ScratchError::Foreign { name: name.to_owned() }),
        }
        let row = scratch.beside.query_one(LIKE_GREEN, &[]).await.map_err(failed)?;
        let (encoding, collate, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let locale = match row.get::<_, bool>(3) {
            true => format!(" lc_collate {} lc_ctype {}", literal(collate), literal(kind)),
            false => String::new(),
        };
        let create =
            format!("create database {} template template0 encoding {}{locale}", ident(name), literal(encoding));
        scratch.beside.batch_execute(&create).await.map_err(failed)?;
        let mark = format!("comment on database {} is {}", ident(name), literal(MARK));
        scratch.beside.batch_execute(&mark).await.map_err(failed)?;
        Ok(scratch)
    }

    async fn beside(green: &Secret, name: &str) -> Result<Self, ScratchError> {
        let url = Url::parse(green.expose()).map_err(|_| ScratchError::NoUrl)?;
        let beside = connect(green, "the server of a scratch database").await?;
        Ok(Self { name: name.to_owned(), green: url, beside })
    }

    /// What stands under its name.
    async fn left(&self) -> Result<Left, ScratchError> {
        let found = self.beside.query_opt(MARKED, &[&self.name]).await;
        let Some(row) = found.map_err(|source| self.failed("look for", source))? else { return Ok(Left::Nothing) };
        match row.get::<_, Option<&str>>(0) {
            Some(MARK) => Ok(Left::Ours),
            Some(_) => Ok(Left::Foreign),
            None => self.unmarked().await,
        }
    }

    /// Without any mark it may be one that a process had made and not marked yet when it died: then nothing at all is in it.
    async fn unmarked(&self) -> Result<Left, ScratchError> {
        let client = connect(&self.url(), "a database that may be ours").await?;
        let is_empty = client.query_one(IS_EMPTY, &[]).await.map_err(|source| self.failed("look into", source))?;
        Ok(if is_empty.get(0) { Left::Ours } else { Left::Foreign })
    }

    /// Our login there.
    #[must_use]
    pub fn url(&self) -> Secret {
        let mut url = self.green.clone();
        url.set_path(&self.name);
        Secret::new(url.as_str())
    }

    /// The same environment with every URL that leads to green's database leading here, as our login; none when there is no such URL.
    #[must_use]
    pub fn redirected(&self, env: &BTreeMap<String, Secret>) -> Option<BTreeMap<String, Secret>> {
        let leads = |value: &Secret| leads_to(value.expose(), &self.green);
        let here =
            |(name, value): (&String, &Secret)| (name.clone(), if leads(value) { self.url() } else { value.clone() });
        env.values().any(leads).then(|| env.iter().map(here).collect())
    }

    /// Whether one of these words leads to green's database.
    #[must_use]
    pub fn is_named_in(&self, words: &[String]) -> bool {
        words.iter().any(|word| leads_to(word, &self.green))
    }

    /// Drops it with everything in it, whoever is connected.
    ///
    /// # Errors
    /// When the server refuses; it is still there then.
    pub async fn remove(self) -> Result<(), ScratchError> {
        self.drop_it().await
    }

    async fn drop_it(&self) -> Result<(), ScratchError> {
        let drop = format!("drop database if exists {} with (force)", ident(&self.name));
        self.beside.batch_execute(&drop).await.map_err(|source| self.failed("drop", source))
    }

    fn failed(&self, act: &'static str, source: tokio_postgres::Error) -> ScratchError {
        ScratchError::Server { act, name: self.name.clone(), source }
    }
}

/// Whether a text is a URL of the same database on the same server, whoever logs in.
fn leads_to(text: &str, green: &Url) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let place = |url: &Url| (url.host_str().map(str::to_lowercase), url.port().unwrap_or(5432), url.path().to_owned());
    matches!(url.scheme(), "postgres" | "postgresql") && place(&url) == place(green)
}

#[cfg(test)]
mod tests {
    use super::leads_to;
    use url::Url;

    #[test]
    fn a_url_is_known_by_where_it_leads_and_not_by_who_logs_in() {
        let green = Url::parse("postgres://cutover:x@green.example/hydra").expect("a URL");
        assert!(leads_to("postgresql://hydra:y@GREEN.example:5432/hydra?sslmode=require", &green));
        for other in
            ["postgres://hydra@blue.example/hydra", "postgres://hydra@green.example/other", "green.example", "--yes"]
        {
            assert!(!leads_to(other, &green), "{other}");
        }
    }
}
