//! OAuth clients: who they are, who owns them, where they may send people.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::GenericClient;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// A client as the API shows and takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in super::super) struct Client {
    pub(in super::super) client_id: String,
    pub(in super::super) client_name: String,
    /// Shown once, when the client is made or its secret changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) client_secret: Option<String>,
    pub(in super::super) redirect_uris: Vec<String>,
    pub(in super::super) grant_types: Vec<String>,
    pub(in super::super) response_types: Vec<String>,
    pub(in super::super) scope: String,
    pub(in super::super) audience: Vec<String>,
    pub(in super::super) owner: String,
    pub(in super::super) policy_uri: String,
    pub(in super::super) tos_uri: String,
    pub(in super::super) client_uri: String,
    pub(in super::super) logo_uri: String,
    pub(in super::super) contacts: Vec<String>,
    pub(in super::super) subject_type: String,
    pub(in super::super) token_endpoint_auth_method: String,
    /// What its access tokens are, `jwt` or `opaque`; of version 2 alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in super::super) access_token_strategy: String,
    /// By which its assertions are signed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in super::super) token_endpoint_auth_signing_alg: String,
    /// Its public keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) jwks: Option<Value>,
    pub(in super::super) metadata: Value,
    pub(in super::super) created_at: String,
    pub(in super::super) updated_at: String,
}

impl Default for Client {
    fn default() -> Self {
        let none = String::new;
        Self {
            client_id: none(),
            client_name: none(),
            client_secret: None,
            redirect_uris: Vec::new(),
            grant_types: vec!["authorization_code".into()],
            response_types: vec!["code".into()],
            scope: "offline_access offline openid".into(),
            audience: Vec::new(),
            owner: none(),
            policy_uri: none(),
            tos_uri: none(),
            client_uri: none(),
            logo_uri: none(),
            contacts: Vec::new(),
            subject_type: "public".into(),
            token_endpoint_auth_method: "client_secret_basic".into(),
            access_token_strategy: none(),
            token_endpoint_auth_signing_alg: none(),
            jwks: None,
            metadata: Value::Object(serde_json::Map::new()),
            created_at: none(),
            updated_at: none(),
        }
    }
}

/// A client with the digest of its secret.
#[derive(Debug, Clone)]
pub(in super::super) struct Kept {
    pub(in super::super) client: Client,
    pub(in super::super) secret_hash: String,
}

fn columns(version: EngineVersion) -> String {
    let list = |column| version.list_out(column);
    // Version 1 knows what is configured alone.
    let strategy = if version == EngineVersion::V2 { "access_token_strategy" } else { "''::text" };
    let time = |column| format!("to_char({column}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')");
    format!(
        "id, client_name, client_secret, {}, {}, {}, scope, {}, owner, policy_uri, tos_uri, client_uri, logo_uri, {}, subject_type,
         token_endpoint_auth_method, metadata, {}, {}, token_endpoint_auth_signing_alg, jwks, {strategy}",
        list("redirect_uris"),
        list("grant_types"),
        list("response_types"),
        list("audience"),
        list("contacts"),
        time("created_at"),
        time("updated_at")
    )
}

fn read(row: &Row) -> Kept {
    let client = Client {
        client_id: row.get(0),
        client_name: row.get(1),
        client_secret: None,
        redirect_uris: row.get(3),
        grant_types: row.get(4),
        response_types: row.get(5),
        scope: row.get(6),
        audience: row.get(7),
        owner: row.get(8),
        policy_uri: row.get(9),
        tos_uri: row.get(10),
        client_uri: row.get(11),
        logo_uri: row.get(12),
        contacts: row.get(13),
        subject_type: row.get(14),
        token_endpoint_auth_method: row.get(15),
        access_token_strategy: row.get(21),
        token_endpoint_auth_signing_alg: row.get(19),
        jwks: serde_json::from_str(row.get(20)).ok(),
        metadata: serde_json::from_str(row.get(16)).unwrap_or_default(),
        created_at: row.get(17),
        updated_at: row.get(18),
    };
    Kept { client, secret_hash: row.get(2) }
}

/// One client.
pub(in super::super) async fn find<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
) -> Result<Option<Kept>, Fault> {
    let text = format!("select {} from hydra_client where id = $1{}", columns(version), version.nid_filter(""));
    Ok(db.query_opt(&db.prepare_cached(&text).await?, &[&id]).await?.as_ref().map(read))
}

/// Clients in order of id, of one owner or of all.
pub(in super::super) async fn list<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    owner: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<Vec<Client>, Fault> {
    let text = format!(
        "select {} from hydra_client where ($1::text is null or owner = $1){} order by id limit $2 offset $3",
        columns(version),
        version.nid_filter("")
    );
    let rows = db.query(&db.prepare_cached(&text).await?, &[&owner, &limit, &offset]).await?;
    Ok(rows.iter().map(|row| read(row).client).collect())
}

/// Stores a new client.
pub(in super::super) async fn insert<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    kept: &Kept,
) -> Result<(), Fault> {
    let list = |parameter| version.list_in(parameter);
    let text = format!(
        "insert into hydra_client (id, client_name, client_secret, redirect_uris, grant_types, response_types, scope, audience, owner,
            policy_uri, tos_uri, client_uri, logo_uri, contacts, subject_type, token_endpoint_auth_method, metadata,
            token_endpoint_auth_signing_alg, jwks{}{})
         values ($1, $2, $3, {}, {}, {}, $7, {}, $9, $10, $11, $12, $13, {}, $15, $16, $17, $18, $19{}{})",
        if version == EngineVersion::V2 { ", access_token_strategy" } else { "" },
        version.nid_column(),
        list("$4"),
        list("$5"),
        list("$6"),
        list("$8"),
        list("$14"),
        if version == EngineVersion::V2 { ", $20" } else { "" },
        version.nid_value()
    );
    write(db, version, &text, kept).await?;
    Ok(())
}

/// Changes a client; `false` when there is none.
pub(in super::super) async fn update<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    kept: &Kept,
) -> Result<bool, Fault> {
    let list = |parameter| version.list_in(parameter);
    let text = format!(
        "update hydra_client set client_name = $2, client_secret = $3, redirect_uris = {}, grant_types = {}, response_types = {},
            scope = $7, audience = {}, owner = $9, policy_uri = $10, tos_uri = $11, client_uri = $12, logo_uri = $13, contacts = {},
            subject_type = $15, token_endpoint_auth_method = $16, metadata = $17,
            token_endpoint_auth_signing_alg = $18, jwks = $19{}, updated_at = now() at time zone 'utc'
          where id = $1{}",
        list("$4"),
        list("$5"),
        list("$6"),
        list("$8"),
        list("$14"),
        if version == EngineVersion::V2 { ", access_token_strategy = $20" } else { "" },
        version.nid_filter("")
    );
    Ok(write(db, version, &text, kept).await? == 1)
}

async fn write<C: GenericClient>(db: &C, version: EngineVersion, text: &str, kept: &Kept) -> Result<u64, Fault> {
    let Kept { client, secret_hash } = kept;
    let metadata = client.metadata.to_string();
    let jwks = client.jwks.as_ref().map(Value::to_string).unwrap_or_default();
    let statement = db.prepare_cached(text).await?;
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &client.client_id,
        &client.client_name,
        secret_hash,
        &client.redirect_uris,
        &client.grant_types,
        &client.response_types,
        &client.scope,
        &client.audience,
        &client.owner,
        &client.policy_uri,
        &client.tos_uri,
        &client.client_uri,
        &client.logo_uri,
        &client.contacts,
        &client.subject_type,
        &client.token_endpoint_auth_method,
        &metadata,
        &client.token_endpoint_auth_signing_alg,
        &jwks,
    ];
    if version == EngineVersion::V2 {
        values.push(&client.access_token_strategy);
    }
    Ok(db.execute(&statement, &values).await?)
}

/// Removes a client; its tokens and consents go with it.
pub(in super::super) async fn delete<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
) -> Result<bool, Fault> {
    let text = format!("delete from hydra_client where id = $1{}", version.nid_filter(""));
    Ok(db.execute(&db.prepare_cached(&text).await?, &[&id]).await? == 1)
}
