//! Version 2: login and consent in one flow, whose state says how far it has come.
//!
//! 1 login asked, 2 login answered, 3 login used, 4 consent asked, 5 consent answered, 6 consent used; 128 login refused, 129 consent
//! refused.

use super::super::fault::Fault;
use super::grants::{ConsentAnswer, Granted, LoginAnswer, Question};
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

const ASK_LOGIN: &str = "insert into hydra_oauth2_flow
    (login_challenge, login_verifier, login_csrf, requested_scope, requested_at_audience, subject, request_url, login_skip,
     client_id, login_session_id, state, nid)
    values ($1, $2::text, md5($2::text), to_jsonb($3::text[]), to_jsonb($4::text[]), $7, $5, $8, $6, $9, 1,
     (select id from networks))";

pub(super) async fn ask_login<C: GenericClient>(db: &C, login: &Question) -> Result<(), Fault> {
    let statement = db.prepare_cached(ASK_LOGIN).await?;
    db.execute(
        &statement,
        &[
            &login.challenge,
            &login.verifier,
            &login.requested_scope,
            &login.requested_audience,
            &login.request_url,
            &login.client_id,
            &login.subject,
            &login.skip,
            &login.login_session_id,
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn login<C: GenericClient>(db: &C, by: &str, value: &str) -> Result<Option<Question>, Fault> {
    let text = format!(
        "select login_challenge, login_verifier, client_id, subject, request_url, login_skip,
            array(select jsonb_array_elements_text(requested_scope)), array(select jsonb_array_elements_text(requested_at_audience)),
            login_session_id, null::text, login_was_used, case when state = 1 then null else login_error end
           from hydra_oauth2_flow where login_{by} = $1 and nid = (select id from networks)"
    );
    Ok(db.query_opt(&db.prepare_cached(&text).await?, &[&value]).await?.as_ref().map(question))
}

fn question(row: &Row) -> Question {
    Question {
        challenge: row.get(0),
        verifier: row.get(1),
        client_id: row.get(2),
        subject: row.get(3),
        request_url: row.get(4),
        skip: row.get(5),
        requested_scope: row.get(6),
        requested_audience: row.get(7),
        login_session_id: row.get(8),
        login_challenge: row.get(9),
        used: row.get(10),
        error: row.get(11),
    }
}

const ANSWER_LOGIN: &str = "update hydra_oauth2_flow
    set subject = $2, login_remember = $3, login_remember_for = $4, login_error = $5, acr = $6, context = $7,
        login_authenticated_at = now() at time zone 'utc', state = case when $5 = '{}' then 2 else 128 end
    where login_challenge = $1 and state in (1, 2, 128) and nid = (select id from networks)";

pub(super) async fn answer_login<C: GenericClient>(
    db: &C,
    challenge: &str,
    answer: &LoginAnswer,
) -> Result<bool, Fault> {
    let statement = db.prepare_cached(ANSWER_LOGIN).await?;
    let LoginAnswer { subject, remember, remember_for_s, acr, context, error } = answer;
    let written = db.execute(&statement, &[&challenge, subject, remember, remember_for_s, error, acr, context]).await?;
    Ok(written == 1)
}

pub(super) const USE_LOGIN: &str = "update hydra_oauth2_flow
    set login_was_used = true, login_initialized_at = now() at time zone 'utc', state = 3
    where login_challenge = $1 and state = 2 and nid = (select id from networks) returning login_remember";
pub(super) const LOGIN_SESSION: &str = "update hydra_oauth2_flow set login_session_id = $2
    where login_challenge = $1 and nid = (select id from networks)";

const ASK_CONSENT: &str = "update hydra_oauth2_flow
    set consent_challenge_id = $2, consent_verifier = $3::text, consent_csrf = md5($3::text), consent_skip = $4, state = 4
    where login_challenge = $1 and state = 3 and nid = (select id from networks)";

pub(super) async fn ask_consent(tx: &Transaction<'_>, consent: &Question) -> Result<(), Fault> {
    let statement = tx.prepare_cached(ASK_CONSENT).await?;
    let Question { login_challenge, challenge, verifier, skip, .. } = consent;
    match tx.execute(&statement, &[login_challenge, challenge, verifier, skip]).await? {
        1 => Ok(()),
        _ => Err(Fault::bad("invalid_request", "the login has gone on without this request")),
    }
}

const CONSENT: &str = "select consent_challenge_id, consent_verifier, client_id, subject, request_url, consent_skip,
        array(select jsonb_array_elements_text(requested_scope)), array(select jsonb_array_elements_text(requested_at_audience)),
        login_session_id, login_challenge, consent_was_used, case when state = 4 then null else consent_error end,
        array(select jsonb_array_elements_text(granted_scope)), array(select jsonb_array_elements_text(granted_at_audience)),
        consent_remember, coalesce(consent_remember_for, 0), session_access_token, session_id_token,
        coalesce(to_char(consent_handled_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '')
   from hydra_oauth2_flow";

pub(super) async fn consent<C: GenericClient>(db: &C, by: &str, value: &str) -> Result<Option<Granted>, Fault> {
    let column = if by == "challenge" { "consent_challenge_id" } else { "consent_verifier" };
    let text = format!("{CONSENT} where {column} = $1 and nid = (select id from networks)");
    Ok(db.query_opt(&db.prepare_cached(&text).await?, &[&value]).await?.as_ref().map(with_answer))
}

fn with_answer(row: &Row) -> Granted {
    let question = question(row);
    let answer = ConsentAnswer {
        granted_scope: row.get(12),
        granted_audience: row.get(13),
        remember: row.get(14),
        remember_for_s: row.get(15),
        access_token: row.get(16),
        id_token: row.get(17),
        error: question.error.clone().unwrap_or_default(),
    };
    Granted { question, answer, handled_at: row.get(18) }
}

const ANSWER_CONSENT: &str = "update hydra_oauth2_flow
    set granted_scope = to_jsonb($2::text[]), granted_at_audience = to_jsonb($3::text[]), consent_remember = $4,
        consent_remember_for = $5, consent_error = $6, session_access_token = $7, session_id_token = $8,
        consent_handled_at = now() at time zone 'utc', state = case when $6 = '{}' then 5 else 129 end
    where consent_challenge_id = $1 and state in (4, 5, 129) and nid = (select id from networks)";

pub(super) async fn answer_consent<C: GenericClient>(
    db: &C,
    challenge: &str,
    answer: &ConsentAnswer,
) -> Result<bool, Fault> {
    let statement = db.prepare_cached(ANSWER_CONSENT).await?;
    let written = db
        .execute(
            &statement,
            &[
                &challenge,
                &answer.granted_scope,
                &answer.granted_audience,
                &answer.remember,
                &answer.remember_for_s,
                &answer.error,
                &answer.access_token,
                &answer.id_token,
            ],
        )
        .await?;
    Ok(written == 1)
}

pub(super) const USE_CONSENT: &str = "update hydra_oauth2_flow set consent_was_used = true, state = 6
    where consent_challenge_id = $1 and state = 5 and nid = (select id from networks)";

pub(super) async fn granted<C: GenericClient>(
    db: &C,
    subject: &str,
    client: Option<&str>,
) -> Result<Vec<Granted>, Fault> {
    let text = format!(
        "{CONSENT} where subject = $1 and ($2::text is null or client_id = $2) and not consent_skip and state in (5, 6)
          and consent_error = '{{}}' and nid = (select id from networks)
          and (consent_remember_for = 0 or not consent_remember
               or consent_handled_at + make_interval(secs => consent_remember_for) > now() at time zone 'utc')
          order by consent_handled_at desc"
    );
    let rows = db.query(&db.prepare_cached(&text).await?, &[&subject, &client]).await?;
    Ok(rows.iter().map(with_answer).collect())
}

/// Walks the flows' subject, as the real engine does: a flow whose subject a careless migration has lost is not found.
pub(super) const REVOKE_CONSENTS: &str = "delete from hydra_oauth2_flow
    where subject = $1 and ($2::text is null or client_id = $2) and consent_challenge_id is not null
      and nid = (select id from networks)";
