//! The token endpoint, revocation and userinfo.
//!
//! Every grant is one transaction under the lock of its chain: what was answered with 200 is committed, what was revoked stays so. The
//! reuse of a code or a refresh token kills the chain, and that too is committed before the refusal is answered.

use super::super::EngineVersion;
use super::super::fault::Fault;
use super::super::store::clients::{Client, Kept};
use super::super::store::lifespans;
use super::super::store::tokens::{self, Session, Table, TokenRow};
use super::super::token::{self, Kind};
use super::credentials::{Claimed, bearer, client};
use super::{Engine, Shared, jwts};
use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenForm {
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
    scope: String,
    audience: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    refresh_token: String,
}

pub(super) async fn token(
    State(engine): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<TokenForm>,
) -> Result<Response, Fault> {
    let claimed = Claimed {
        id: form.client_id.as_deref(),
        secret: form.client_secret.as_deref(),
        assertion_type: form.client_assertion_type.as_deref(),
        assertion: form.client_assertion.as_deref(),
    };
    let kept = client(&engine, &headers, claimed).await?;
    if !kept.client.grant_types.contains(&form.grant_type) {
        return Err(Fault::bad("unauthorized_client", "the client may not use this grant type"));
    }
    let body = match form.grant_type.as_str() {
        "client_credentials" => client_credentials(&engine, &kept, &form).await?,
        "authorization_code" => exchange_code(&engine, &kept.client, &form).await?,
        "refresh_token" => refresh(&engine, &kept.client, &form).await?,
        _ => return Err(Fault::bad("unsupported_grant_type", "the grant type is not supported")),
    };
    Ok(uncached(body))
}

fn uncached(body: Value) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}

/// `|`-joined as the token tables keep lists.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("|")
}

async fn client_credentials(engine: &Engine, kept: &Kept, form: &TokenForm) -> Result<Value, Fault> {
    let client = &kept.client;
    if client.token_endpoint_auth_method == "none" {
        return Err(Fault::client());
    }
    if form.scope.split_whitespace().any(|asked| !client.scope.split_whitespace().any(|scope| scope == asked)) {
        return Err(Fault::bad("invalid_scope", "the client may not ask for this scope"));
    }
    let row = TokenRow {
        signature: String::new(),
        request_id: token::name(),
        issued_at_s: 0,
        client_id: client.client_id.clone(),
        scope: joined(&form.scope),
        granted_scope: joined(&form.scope),
        form_data: "grant_type=client_credentials".into(),
        session: Session { subject: client.client_id.clone(), ..Session::default() },
        subject: client.client_id.clone(),
        active: true,
        requested_audience: joined(&form.audience),
        granted_audience: joined(&form.audience),
        challenge_id: None,
    };
    let mut db = engine.store.connection().await?;
    let tx = db.transaction().await?;
    let access = issue(engine, &tx, client, Grant::Client, Kind::Access, &row).await?;
    tx.commit().await?;
    Ok(answer(&row, &access, None))
}

/// By what a token is asked for.
#[derive(Debug, Clone, Copy)]
enum Grant {
    Client,
    Code,
    Refresh,
}

impl Grant {
    /// Under which name a client's own length of life is kept.
    fn lifespan(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Client, _) => "client_credentials_grant_access_token_lifespan",
            (Self::Code, Kind::Refresh) => "authorization_code_grant_refresh_token_lifespan",
            (Self::Code, _) => "authorization_code_grant_access_token_lifespan",
            (Self::Refresh, Kind::Refresh) => "refresh_token_grant_refresh_token_lifespan",
            (Self::Refresh, _) => "refresh_token_grant_access_token_lifespan",
        }
    }
}

/// A token as the client gets it, and how long it lives.
struct Issued {
    token: String,
    life: Duration,
}

/// Stores a fresh token of `kind` with the grant of `like`; returns what the client is given.
async fn issue(
    engine: &Engine,
    tx: &Transaction<'_>,
    client: &Client,
    grant: Grant,
    kind: Kind,
    like: &TokenRow,
) -> Result<Issued, Fault> {
    let version = engine.store.version;
    let (table, name, usual) = match kind {
        Kind::Refresh => (Table::Refresh, "refresh_token", engine.options.lives.refresh),
        Kind::Access | Kind::Code => (Table::Access, "access_token", engine.options.lives.access),
    };
    let life = lifespans::of(tx, version, &like.client_id, grant.lifespan(kind)).await?.unwrap_or(usual);
    let (mut row, expires_at) = (like.clone(), in_future(life));
    let minted = if kind == Kind::Access && jwts::are_given(engine, client) {
        jwts::mint(engine, tx, &row, expires_at).await?
    } else {
        token::mint(version, kind, &engine.options.secret)
    };
    row.signature = minted.stored;
    row.session.expires_at.remove("authorize_code");
    row.session.expires_at.insert(name.to_owned(), expires_at);
    tokens::insert(tx, version, table, &row).await?;
    Ok(Issued { token: minted.token, life })
}

fn in_future(life: Duration) -> Timestamp {
    Timestamp::now() + SignedDuration::try_from(life).unwrap_or(SignedDuration::ZERO)
}

fn answer(row: &TokenRow, access: &Issued, refresh: Option<Issued>) -> Value {
    let mut body = json!({
        "access_token": access.token,
        "expires_in": access.life.as_secs(),
        "scope": row.granted_scope.replace('|', " "),
        "token_type": "bearer",
    });
    if let Some(refresh) = refresh {
        body["refresh_token"] = Value::String(refresh.token);
    }
    body
}

/// The row of a presented token, read again after its chain's lock was had.
async fn locked(
    tx: &Transaction<'_>,
    version: EngineVersion,
    table: Table,
    forms: &[String],
) -> Result<Option<TokenRow>, Fault> {
    let Some(row) = tokens::find(tx, version, table, forms).await? else { return Ok(None) };
    tokens::lock_chain(tx, &row.request_id).await?;
    tokens::find(tx, version, table, forms).await
}

/// Kills the chain of a token that was used before, then refuses.
async fn reused(tx: Transaction<'_>, version: EngineVersion, row: &TokenRow) -> Fault {
    let killed = async {
        tokens::kill_chain(&tx, version, &row.request_id).await?;
        tx.commit().await.map_err(Fault::from)
    };
    match killed.await {
        Ok(()) => Fault::grant("the token has been used before; every token of its grant was revoked"),
        Err(fault) => fault,
    }
}

async fn exchange_code(engine: &Engine, client: &Client, form: &TokenForm) -> Result<Value, Fault> {
    let version = engine.store.version;
    let unknown = || Fault::grant("the code is unknown, expired or of another client");
    let forms = token::signatures(version, Kind::Code, &engine.options.secret, &form.code).ok_or_else(unknown)?;
    let mut db = engine.store.connection().await?;
    let tx = db.transaction().await?;
    let row = locked(&tx, version, Table::Code, &forms).await?.ok_or_else(unknown)?;
    if row.client_id != client.client_id {
        return Err(unknown());
    }
    if !row.active {
        return Err(reused(tx, version, &row).await);
    }
    if !row.is_live("authorize_code") {
        return Err(unknown());
    }
    check_code(&row, client, form)?;
    tokens::deactivate(&tx, version, Table::Code, &row.signature).await?;
    tokens::delete_by_request(&tx, version, Table::Pkce, &row.request_id).await?;
    tokens::delete_by_request(&tx, version, Table::Oidc, &row.request_id).await?;
    let access = issue(engine, &tx, client, Grant::Code, Kind::Access, &row).await?;
    let offline = row.granted_scope.split('|').any(|scope| scope == "offline" || scope == "offline_access");
    let refresh =
        if offline { Some(issue(engine, &tx, client, Grant::Code, Kind::Refresh, &row).await?) } else { None };
    tx.commit().await?;
    Ok(answer(&row, &access, refresh))
}

/// The code's redirect address and PKCE challenge, as they were when it was asked for.
fn check_code(row: &TokenRow, client: &Client, form: &TokenForm) -> Result<(), Fault> {
    let asked: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(row.form_data.as_bytes()).into_owned().collect();
    let of = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    if of("redirect_uri") != form.redirect_uri {
        return Err(Fault::grant("redirect_uri is not the one of the authorization request"));
    }
    let challenge = of("code_challenge");
    if challenge.is_empty() && client.token_endpoint_auth_method == "none" {
        return Err(Fault::grant("a public client needs PKCE"));
    }
    if !challenge.is_empty() && !token::verifies(challenge, &form.code_verifier) {
        return Err(Fault::grant("code_verifier does not answer the code_challenge"));
    }
    Ok(())
}

async fn refresh(engine: &Engine, client: &Client, form: &TokenForm) -> Result<Value, Fault> {
    let version = engine.store.version;
    let unknown = || Fault::grant("the refresh token is unknown, expired or of another client");
    let forms =
        token::signatures(version, Kind::Refresh, &engine.options.secret, &form.refresh_token).ok_or_else(unknown)?;
    let mut db = engine.store.connection().await?;
    let tx = db.transaction().await?;
    let row = locked(&tx, version, Table::Refresh, &forms).await?.ok_or_else(unknown)?;
    if row.client_id != client.client_id {
        return Err(unknown());
    }
    if !row.active {
        return Err(reused(tx, version, &row).await);
    }
    if !row.is_live("refresh_token") {
        return Err(unknown());
    }
    tokens::kill_chain(&tx, version, &row.request_id).await?;
    let access = issue(engine, &tx, client, Grant::Refresh, Kind::Access, &row).await?;
    let next = issue(engine, &tx, client, Grant::Refresh, Kind::Refresh, &row).await?;
    tx.commit().await?;
    Ok(answer(&row, &access, Some(next)))
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeForm {
    token: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
}

/// RFC 7009: a token that is unknown is answered like one that was revoked.
pub(super) async fn revoke(
    State(engine): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<RevokeForm>,
) -> Result<StatusCode, Fault> {
    let claimed = Claimed {
        id: form.client_id.as_deref(),
        secret: form.client_secret.as_deref(),
        assertion_type: form.client_assertion_type.as_deref(),
        assertion: form.client_assertion.as_deref(),
    };
    let kept = client(&engine, &headers, claimed).await?;
    let version = engine.store.version;
    let mut db = engine.store.connection().await?;
    let tx = db.transaction().await?;
    let Some((_, row)) = presented(&engine, &tx, &form.token).await? else { return Ok(StatusCode::OK) };
    if row.client_id != kept.client.client_id {
        return Err(Fault::bad("unauthorized_client", "the token is of another client"));
    }
    tokens::lock_chain(&tx, &row.request_id).await?;
    tokens::kill_chain(&tx, version, &row.request_id).await?;
    tx.commit().await?;
    Ok(StatusCode::OK)
}

/// The row of a token that may be of either kind.
pub(super) async fn presented<C: deadpool_postgres::GenericClient>(
    engine: &Engine,
    db: &C,
    text: &str,
) -> Result<Option<(Kind, TokenRow)>, Fault> {
    let version = engine.store.version;
    if let Some(stored) = jwts::stored(engine, db, text).await? {
        return Ok(tokens::find(db, version, Table::Access, &[stored]).await?.map(|row| (Kind::Access, row)));
    }
    for (kind, table) in [(Kind::Access, Table::Access), (Kind::Refresh, Table::Refresh)] {
        let Some(forms) = token::signatures(version, kind, &engine.options.secret, text) else { continue };
        if let Some(row) = tokens::find(db, version, table, &forms).await? {
            return Ok(Some((kind, row)));
        }
    }
    Ok(None)
}

pub(super) async fn userinfo(State(engine): State<Shared>, headers: HeaderMap) -> Result<Response, Fault> {
    let refused = || Fault::Refused {
        status: StatusCode::UNAUTHORIZED,
        error: "request_unauthorized",
        description: "the access token is missing or not active".into(),
    };
    let text = bearer(&headers).ok_or_else(refused)?;
    let db = engine.store.connection().await?;
    match presented(&engine, &db, text).await? {
        Some((Kind::Access, row)) if row.is_live("access_token") => {
            Ok(uncached(json!({ "sub": row.subject, "client_id": row.client_id })))
        }
        _ => Err(refused()),
    }
}
