//! Hydra-shaped tables, as small as the tests need: blue like 1.x, green like 2.x. Written here, not copied from an engine.

use crate::harness::Pair;

const TOKENS: [&str; 5] = ["access", "refresh", "code", "oidc", "pkce"];

const SHARED: &str = "create table hydra_client (id text primary key, client_secret text not null default '',
  client_secret_expires_at int not null default 0, token_endpoint_auth_method text not null default '',
  owner text not null default '', scope text not null default '');
create table hydra_oauth2_authentication_session (id varchar(40) primary key, subject varchar(255) not null,
  remember bool not null default true);
create table hydra_oauth2_logout_request (challenge varchar(36) primary key, verifier text unique, sid text);
";
const BLUE: &str = "create table hydra_oauth2_authentication_request (challenge varchar(40) primary key,
  login_session_id varchar(40) references hydra_oauth2_authentication_session on delete cascade);
create table hydra_oauth2_consent_request (challenge varchar(40) primary key, subject varchar(255) not null,
  client_id varchar(255), login_session_id varchar(40) references hydra_oauth2_authentication_session on delete set null);
create table hydra_oauth2_consent_request_handled (
  challenge varchar(40) primary key references hydra_oauth2_consent_request on delete cascade,
  error text not null default '{}', remember bool not null default true);
";
const GREEN: &str =
    "create table hydra_oauth2_flow (login_challenge varchar(40) primary key, subject varchar(255) not null,
  client_id varchar(255) not null, state int not null, consent_challenge_id varchar(40) unique, consent_error text,
  consent_remember bool not null default true,
  login_session_id varchar(40) references hydra_oauth2_authentication_session on delete set null);
";

fn tokens() -> String {
    TOKENS
        .iter()
        .map(|name| {
            format!(
                "create table hydra_oauth2_{name} (signature varchar(255) primary key, request_id varchar(40) not null,
  requested_at timestamp not null default now(), client_id varchar(255) not null, subject varchar(255) not null,
  active bool not null default true, challenge_id varchar(40));
create index on hydra_oauth2_{name} (request_id);
"
            )
        })
        .collect()
}

/// Makes the tables on both sides.
pub(crate) async fn create(pair: &Pair) {
    create_on_blue(pair).await;
    pair.green.execute(&format!("{SHARED}{GREEN}{}", tokens())).await;
}

/// Makes blue's alone.
pub(crate) async fn create_on_blue(pair: &Pair) {
    pair.blue.execute(&format!("{SHARED}{BLUE}{}", tokens())).await;
}

/// One access and one refresh token of a request, as SQL for either side.
pub(crate) fn grant(request: &str, name: &str, client: &str, subject: &str) -> String {
    ["access", "refresh"]
        .iter()
        .map(|table| {
            format!(
                "insert into hydra_oauth2_{table} (signature, request_id, client_id, subject, challenge_id) values ('{name}-{table}', '{request}', '{client}', '{subject}', '{request}');"
            )
        })
        .collect()
}

/// A consent that stands, on blue.
pub(crate) fn blue_consent(challenge: &str, client: &str, subject: &str) -> String {
    format!(
        "insert into hydra_oauth2_consent_request (challenge, subject, client_id) values ('{challenge}', '{subject}', '{client}');
insert into hydra_oauth2_consent_request_handled (challenge) values ('{challenge}');"
    )
}

/// A consent that stands, on green.
pub(crate) fn green_consent(challenge: &str, client: &str, subject: &str) -> String {
    format!(
        "insert into hydra_oauth2_flow (login_challenge, subject, client_id, state, consent_challenge_id, consent_error) values ('l-{challenge}', '{subject}', '{client}', 6, '{challenge}', '{{}}');"
    )
}

/// How many living tokens of a request green holds.
pub(crate) const LIVING: &str = "select (select count(*) from hydra_oauth2_access where request_id = 'r1')
  + (select count(*) from hydra_oauth2_refresh where request_id = 'r1' and active)";
