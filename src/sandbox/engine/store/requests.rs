//! Version 1: login and consent in four tables, a question and an answer each.

use super::super::fault::Fault;
use super::grants::{ConsentAnswer, Granted, LoginAnswer, Question};
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

const ASK_LOGIN: &str = "insert into hydra_oauth2_authentication_request
    (challenge, verifier, csrf, requested_scope, requested_at_audience, subject, request_url, skip, client_id, oidc_context,
     login_session_id)
    values ($1, $2::text, md5($2::text), array_to_string($3::text[], '|'), array_to_string($4::text[], '|'), $7, $5, $8, $6, '{}', $9)";

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
        "select l.challenge, l.verifier, l.client_id, coalesce(nullif(l.subject, ''), a.subject, ''), l.request_url, l.skip,
            string_to_array(l.requested_scope, '|'), string_to_array(l.requested_at_audience, '|'), l.login_session_id,
            null::text, coalesce(a.was_used, false), a.error
           from hydra_oauth2_authentication_request l
           left join hydra_oauth2_authentication_request_handled a on a.challenge = l.challenge
          where l.{by} = $1"
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
        requested_scope: row.get::<_, Option<_>>(6).unwrap_or_default(),
        requested_audience: row.get::<_, Option<_>>(7).unwrap_or_default(),
        login_session_id: row.get(8),
        login_challenge: row.get(9),
        used: row.get(10),
        error: row.get(11),
    }
}

const ANSWER_LOGIN: &str = "insert into hydra_oauth2_authentication_request_handled
    (challenge, subject, remember, remember_for, error, acr, context, was_used, requested_at, authenticated_at)
    select l.challenge, $2, $3, $4, $5, $6, $7, false, l.requested_at, now() at time zone 'utc'
      from hydra_oauth2_authentication_request l where l.challenge = $1
    on conflict (challenge) do update set subject = excluded.subject, remember = excluded.remember,
        remember_for = excluded.remember_for, error = excluded.error, acr = excluded.acr, context = excluded.context
     where not hydra_oauth2_authentication_request_handled.was_used";

pub(super) async fn answer_login<C: GenericClient>(
    db: &C,
    challenge: &str,
    answer: &LoginAnswer,
) -> Result<bool, Fault> {
    let statement = db.prepare_cached(ANSWER_LOGIN).await?;
    let LoginAnswer { subject, remember, remember_for_s, acr, context, error } = answer;
    let written = db
        .execute(&statement, &[&challenge, subject, remember, remember_for_s, error, acr, &context.to_string()])
        .await?;
    Ok(written == 1)
}

pub(super) const USE_LOGIN: &str = "update hydra_oauth2_authentication_request_handled set was_used = true
    where challenge = $1 and not was_used returning remember";
pub(super) const LOGIN_SESSION: &str = "update hydra_oauth2_authentication_request
    set login_session_id = $2, authenticated_at = now() at time zone 'utc' where challenge = $1";

const ASK_CONSENT: &str = "insert into hydra_oauth2_consent_request
    (challenge, verifier, csrf, client_id, subject, request_url, skip, requested_scope, requested_at_audience, oidc_context,
     authenticated_at, login_session_id, login_challenge)
    values ($1, $2::text, md5($2::text), $3, $4, $5, $6, array_to_string($7::text[], '|'), array_to_string($8::text[], '|'), '{}',
     now() at time zone 'utc', $9, $10)";

pub(super) async fn ask_consent(tx: &Transaction<'_>, consent: &Question) -> Result<(), Fault> {
    let statement = tx.prepare_cached(ASK_CONSENT).await?;
    tx.execute(
        &statement,
        &[
            &consent.challenge,
            &consent.verifier,
            &consent.client_id,
            &consent.subject,
            &consent.request_url,
            &consent.skip,
            &consent.requested_scope,
            &consent.requested_audience,
            &consent.login_session_id,
            &consent.login_challenge,
        ],
    )
    .await?;
    Ok(())
}

const CONSENT: &str = "select c.challenge, c.verifier, c.client_id, c.subject, c.request_url, c.skip,
        string_to_array(c.requested_scope, '|'), string_to_array(c.requested_at_audience, '|'), c.login_session_id,
        c.login_challenge, coalesce(g.was_used, false), g.error,
        string_to_array(g.granted_scope, '|'), string_to_array(g.granted_at_audience, '|'), coalesce(g.remember, false),
        coalesce(g.remember_for, 0), coalesce(g.session_access_token, '{}'), coalesce(g.session_id_token, '{}'),
        coalesce(to_char(g.handled_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '')
   from hydra_oauth2_consent_request c
   left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge";

pub(super) async fn consent<C: GenericClient>(db: &C, by: &str, value: &str) -> Result<Option<Granted>, Fault> {
    let text = format!("{CONSENT} where c.{by} = $1");
    Ok(db.query_opt(&db.prepare_cached(&text).await?, &[&value]).await?.as_ref().map(with_answer))
}

fn with_answer(row: &Row) -> Granted {
    let question = question(row);
    let json = |at| serde_json::from_str(row.get(at)).unwrap_or_default();
    let answer = ConsentAnswer {
        granted_scope: row.get::<_, Option<_>>(12).unwrap_or_default(),
        granted_audience: row.get::<_, Option<_>>(13).unwrap_or_default(),
        remember: row.get(14),
        remember_for_s: row.get(15),
        access_token: json(16),
        id_token: json(17),
        error: question.error.clone().unwrap_or_default(),
    };
    Granted { question, answer, handled_at: row.get(18) }
}

const ANSWER_CONSENT: &str = "insert into hydra_oauth2_consent_request_handled
    (challenge, granted_scope, granted_at_audience, remember, remember_for, error, session_access_token, session_id_token, was_used,
     requested_at, authenticated_at, handled_at)
    select c.challenge, array_to_string($2::text[], '|'), array_to_string($3::text[], '|'), $4, $5, $6, $7, $8, false,
           c.requested_at, c.authenticated_at, now() at time zone 'utc'
      from hydra_oauth2_consent_request c where c.challenge = $1
    on conflict (challenge) do update set granted_scope = excluded.granted_scope,
        granted_at_audience = excluded.granted_at_audience, remember = excluded.remember, remember_for = excluded.remember_for,
        error = excluded.error, session_access_token = excluded.session_access_token,
        session_id_token = excluded.session_id_token, handled_at = excluded.handled_at
     where not hydra_oauth2_consent_request_handled.was_used";

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
                &answer.access_token.to_string(),
                &answer.id_token.to_string(),
            ],
        )
        .await?;
    Ok(written == 1)
}

pub(super) const USE_CONSENT: &str = "update hydra_oauth2_consent_request_handled set was_used = true
    where challenge = $1 and not was_used";

pub(super) async fn granted<C: GenericClient>(
    db: &C,
    subject: &str,
    client: Option<&str>,
) -> Result<Vec<Granted>, Fault> {
    let text = format!(
        "{CONSENT} where c.subject = $1 and ($2::text is null or c.client_id = $2) and not c.skip and g.error = '{{}}'
          and (g.remember_for = 0 or not g.remember
               or g.handled_at + make_interval(secs => g.remember_for) > now() at time zone 'utc')
          order by g.handled_at desc"
    );
    let rows = db.query(&db.prepare_cached(&text).await?, &[&subject, &client]).await?;
    Ok(rows.iter().map(with_answer).collect())
}

pub(super) const REVOKE_CONSENTS: &str = "delete from hydra_oauth2_consent_request
    where subject = $1 and ($2::text is null or client_id = $2)";
