//! Which of Hydra's tables a database holds: asked of the catalog once, so that one code reads and writes both majors.
//!
//! Never assumes a version: the 2.x flow table or the 1.x request tables are used as they are found.

use crate::database::sql::qualified;
use crate::plan::TableName;
use std::collections::BTreeMap;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

/// Our own schema is left out, and so is the public one preferred where a name stands in two.
const TABLES: &str = "select c.relname::text, n.nspname::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relname like 'hydra\\_%' and n.nspname not in ('cutover', 'pg_catalog', 'information_schema')
order by c.relname, (n.nspname = 'public')";

/// The five token tables, all of one shape.
const TOKENS: [&str; 5] =
    ["hydra_oauth2_access", "hydra_oauth2_refresh", "hydra_oauth2_code", "hydra_oauth2_oidc", "hydra_oauth2_pkce"];

/// Whether rows of this table are revoked, by a door or along with their chain.
#[must_use]
pub fn is_revocable(table: &TableName) -> bool {
    let others = ["hydra_oauth2_flow", "hydra_oauth2_authentication_session", "hydra_client"];
    TOKENS.contains(&table.name.as_str()) || others.contains(&table.name.as_str())
}

/// The tables of Hydra that a database holds, by plain name, with the quoted name to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    tables: BTreeMap<String, String>,
}

impl Shape {
    /// Asks the catalog.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn detect(client: &impl GenericClient) -> Result<Self, tokio_postgres::Error> {
        let rows = client.query_typed(TABLES, &[]).await?;
        let tables = rows.iter().map(|row| {
            let (name, schema): (String, String) = (row.get(0), row.get(1));
            let quoted = qualified(&schema, &name);
            (name, quoted)
        });
        Ok(Self { tables: tables.collect() })
    }

    /// Whether chains can be looked up and killed here: tokens, and consents of either major.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.access().is_some()
            && self.refresh().is_some()
            && (self.flow().is_some() || self.consent_handled().is_some())
    }

    /// The token tables present, quoted.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        TOKENS.iter().filter_map(|name| self.table(name))
    }

    /// The token tables present whose rows are switched off rather than deleted.
    pub(crate) fn switched_off(&self, all: bool) -> impl Iterator<Item = &str> {
        let names = if all { &TOKENS[1..] } else { &TOKENS[1..3] };
        names.iter().filter_map(|name| self.table(name))
    }

    pub(crate) fn access(&self) -> Option<&str> {
        self.table(TOKENS[0])
    }

    pub(crate) fn refresh(&self) -> Option<&str> {
        self.table(TOKENS[1])
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.table(TOKENS[2])
    }

    /// 2.x: login and consent in one row.
    pub(crate) fn flow(&self) -> Option<&str> {
        self.table("hydra_oauth2_flow")
    }

    /// 1.x.
    pub(crate) fn login_request(&self) -> Option<&str> {
        self.table("hydra_oauth2_authentication_request")
    }

    /// 1.x.
    pub(crate) fn consent_request(&self) -> Option<&str> {
        self.table("hydra_oauth2_consent_request")
    }

    /// 1.x.
    pub(crate) fn consent_handled(&self) -> Option<&str> {
        self.table("hydra_oauth2_consent_request_handled")
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.table("hydra_oauth2_authentication_session")
    }

    pub(crate) fn logout(&self) -> Option<&str> {
        self.table("hydra_oauth2_logout_request")
    }

    pub(crate) fn client(&self) -> Option<&str> {
        self.table("hydra_client")
    }

    fn table(&self, name: &str) -> Option<&str> {
        self.tables.get(name).map(String::as_str)
    }
}

/// Runs a query whose parameters are all text arrays, in one round trip.
pub(crate) async fn ask(
    client: &impl GenericClient,
    query: &str,
    arrays: &[&Vec<String>],
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    let parameters: Vec<_> =
        arrays.iter().map(|array| (*array as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY)).collect();
    client.query_typed(query, &parameters).await
}
