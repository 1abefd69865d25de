//! Login sessions by which a browser is known again, and the logouts that end one.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::{GenericClient, Transaction};

/// A login session that a browser has a cookie of.
#[derive(Debug, Clone)]
pub(in super::super) struct LoginSession {
    pub(in super::super) id: String,
    pub(in super::super) subject: String,
}

/// A question to the logout screen.
#[derive(Debug)]
pub(in super::super) struct Logout {
    pub(in super::super) challenge: String,
    pub(in super::super) verifier: String,
    pub(in super::super) session: LoginSession,
    pub(in super::super) request_url: String,
    /// Where the browser goes afterwards.
    pub(in super::super) redirect_url: String,
}

/// Opens a session; a login that went on with one leaves it as it is.
pub(super) async fn open(
    tx: &Transaction<'_>,
    version: EngineVersion,
    id: &str,
    subject: &str,
    remembers: bool,
) -> Result<(), Fault> {
    let text = format!(
        "insert into hydra_oauth2_authentication_session (id, authenticated_at, subject, remember{})
         values ($1, now() at time zone 'utc', $2, $3{}) on conflict (id) do nothing",
        version.nid_column(),
        version.nid_value()
    );
    tx.execute(&tx.prepare_cached(&text).await?, &[&id, &subject, &remembers]).await?;
    Ok(())
}

/// The session of an id, when it is one to remember.
pub(in super::super) async fn remembered<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
) -> Result<Option<LoginSession>, Fault> {
    let text = format!(
        "select id, subject from hydra_oauth2_authentication_session where id = $1 and remember{}",
        version.nid_filter("")
    );
    let found = db.query_opt(&db.prepare_cached(&text).await?, &[&id]).await?;
    Ok(found.map(|row| LoginSession { id: row.get(0), subject: row.get(1) }))
}

/// Ends a subject's login sessions.
pub(in super::super) async fn end_all<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    subject: &str,
) -> Result<u64, Fault> {
    let text = format!("delete from hydra_oauth2_authentication_session where subject = $1{}", version.nid_filter(""));
    Ok(db.execute(&db.prepare_cached(&text).await?, &[&subject]).await?)
}

/// Ends one login session, when it is one to remember; 2.x looks for no other.
pub(in super::super) async fn end_one<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
) -> Result<u64, Fault> {
    let text =
        format!("delete from hydra_oauth2_authentication_session where id = $1 and remember{}", version.nid_filter(""));
    Ok(db.execute(&db.prepare_cached(&text).await?, &[&id]).await?)
}

/// Keeps a new logout question.
pub(in super::super) async fn ask_logout<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    logout: &Logout,
) -> Result<(), Fault> {
    let text = format!(
        "insert into hydra_oauth2_logout_request (challenge, verifier, subject, sid, request_url, redir_url{})
         values ($1, $2, $3, $4, $5, $6{})",
        version.nid_column(),
        version.nid_value()
    );
    let Logout { challenge, verifier, session, request_url, redirect_url } = logout;
    let statement = db.prepare_cached(&text).await?;
    db.execute(&statement, &[challenge, verifier, &session.subject, &session.id, request_url, redirect_url]).await?;
    Ok(())
}

/// Notes that the user wants it; the verifier with which the browser comes back, when there is such a question.
pub(in super::super) async fn accept_logout<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    challenge: &str,
) -> Result<Option<String>, Fault> {
    let text = format!(
        "update hydra_oauth2_logout_request set accepted = true where challenge = $1 and not rejected and not was_used{}
         returning verifier",
        version.nid_filter("")
    );
    let accepted = db.query_opt(&db.prepare_cached(&text).await?, &[&challenge]).await?;
    Ok(accepted.map(|row| row.get(0)))
}

/// Uses an accepted logout once and ends its session; where the browser goes, when there is such a logout.
pub(in super::super) async fn log_out(
    tx: &Transaction<'_>,
    version: EngineVersion,
    verifier: &str,
) -> Result<Option<String>, Fault> {
    let network = version.nid_filter("");
    let text = format!(
        "update hydra_oauth2_logout_request set was_used = true
          where verifier = $1 and accepted and not rejected and not was_used{network} returning sid, redir_url"
    );
    let Some(used) = tx.query_opt(&tx.prepare_cached(&text).await?, &[&verifier]).await? else { return Ok(None) };
    let text = format!("delete from hydra_oauth2_authentication_session where id = $1{network}");
    tx.execute(&tx.prepare_cached(&text).await?, &[&used.get::<_, String>(0)]).await?;
    Ok(Some(used.get(1)))
}
