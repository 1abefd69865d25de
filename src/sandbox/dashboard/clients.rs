//! Self-managed clients: create, list, show, edit, another secret, delete.

use crate::sandbox::system::{Sorry, System, from_side};
use crate::sandbox::upstream::json_of;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a developer may say about a client; what is left out stays as it is.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    name: Option<String>,
    owner: Option<String>,
    scope: Option<String>,
    redirect_uris: Option<Vec<String>>,
    grant_types: Option<Vec<String>>,
}

/// What the dashboard shows of a client.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) client_id: String,
    pub(super) name: String,
    pub(super) owner: String,
    /// Set by the platform's staff, never by the owner.
    pub(super) verified: bool,
    pub(super) scope: String,
    redirect_uris: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

impl Shown {
    /// From the engine's form.
    pub(super) fn from_engine(client: &Value) -> Self {
        let word = |name: &str| client.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let uris = client.get("redirect_uris").and_then(Value::as_array).into_iter().flatten();
        Self {
            client_id: word("client_id"),
            name: word("client_name"),
            owner: word("owner"),
            verified: client.pointer("/metadata/verified").and_then(Value::as_bool).unwrap_or(false),
            scope: word("scope"),
            redirect_uris: uris.filter_map(Value::as_str).map(str::to_owned).collect(),
            client_secret: client.get("client_secret").and_then(Value::as_str).map(str::to_owned),
        }
    }
}

impl Wish {
    /// Writes the wish over the engine's form of a client.
    fn apply(self, client: &mut Value) {
        let said = [
            ("client_name", self.name.map(Value::from)),
            ("owner", self.owner.map(Value::from)),
            ("scope", self.scope.map(Value::from)),
            ("redirect_uris", self.redirect_uris.map(Value::from)),
            ("grant_types", self.grant_types.map(Value::from)),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                client[name] = value;
            }
        }
    }
}

/// `POST /clients`: a new client with a secret that is shown once.
pub(super) async fn create(
    State(system): State<System>,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Json<Shown>), Sorry> {
    let pass = system.enter().await?;
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let mut client = json!({
        "client_secret": secret, "response_types": ["code"], "token_endpoint_auth_method": "client_secret_basic",
        "metadata": {"verified": false},
    });
    wish.apply(&mut client);
    let request = system.engine.admin(pass.side, Method::POST, "/clients").json(&client);
    let made = json_of("create a client", request).await?;
    let mut shown = Shown::from_engine(&made);
    shown.client_secret = Some(secret);
    Ok((StatusCode::CREATED, Json(shown)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Owned {
    owner: Option<String>,
    limit: Option<u32>,
}

/// `GET /clients?owner=`: the clients of an owner.
pub(super) async fn list(State(system): State<System>, Query(asked): Query<Owned>) -> Result<impl IntoResponse, Sorry> {
    let pass = system.enter().await?;
    let size = asked.limit.unwrap_or(100).min(500).to_string();
    let mut query = vec![("limit", size.clone()), ("page_size", size)];
    query.extend(asked.owner.clone().map(|owner| ("owner", owner)));
    let request = system.engine.admin(pass.side, Method::GET, "/clients").query(&query);
    let clients = json_of("list clients", request).await?;
    let shown = clients.as_array().into_iter().flatten().map(Shown::from_engine);
    let shown = shown.filter(|client| asked.owner.as_ref().is_none_or(|owner| client.owner == *owner));
    Ok(from_side(pass.side, shown.collect::<Vec<Shown>>()))
}

/// `GET /clients/{id}`.
pub(super) async fn show(State(system): State<System>, Path(id): Path<String>) -> Result<Json<Shown>, Sorry> {
    let pass = system.enter().await?;
    let request = system.engine.admin(pass.side, Method::GET, &format!("/clients/{id}"));
    Ok(Json(Shown::from_engine(&json_of("show a client", request).await?)))
}

/// `PUT /clients/{id}`: what is not said stays.
pub(super) async fn edit(
    State(system): State<System>,
    Path(id): Path<String>,
    Json(wish): Json<Wish>,
) -> Result<Json<Shown>, Sorry> {
    let pass = system.enter().await?;
    let path = format!("/clients/{id}");
    let mut client = json_of("show a client", system.engine.admin(pass.side, Method::GET, &path)).await?;
    wish.apply(&mut client);
    let request = system.engine.admin(pass.side, Method::PUT, &path).json(&client);
    Ok(Json(Shown::from_engine(&json_of("edit a client", request).await?)))
}

/// `POST /clients/{id}/secret`: another secret, shown once; the one before opens nothing from here.
pub(super) async fn change_secret(State(system): State<System>, Path(id): Path<String>) -> Result<Json<Shown>, Sorry> {
    let pass = system.enter().await?;
    let path = format!("/clients/{id}");
    let mut client = json_of("show a client", system.engine.admin(pass.side, Method::GET, &path)).await?;
    let secret = uuid::Uuid::new_v4().simple().to_string();
    client["client_secret"] = json!(secret);
    let request = system.engine.admin(pass.side, Method::PUT, &path).json(&client);
    let mut shown = Shown::from_engine(&json_of("change a client's secret", request).await?);
    shown.client_secret = Some(secret);
    Ok(Json(shown))
}

/// `DELETE /clients/{id}`, with everything issued to it.
pub(super) async fn remove(State(system): State<System>, Path(id): Path<String>) -> Result<StatusCode, Sorry> {
    let pass = system.enter().await?;
    let request = system.engine.admin(pass.side, Method::DELETE, &format!("/clients/{id}"));
    json_of("delete a client", request).await?;
    Ok(StatusCode::NO_CONTENT)
}
