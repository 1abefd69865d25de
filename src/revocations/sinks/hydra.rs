//! Ory Hydra's admin API, 1.x and 2.x, without being told which: 2.x answers under `/admin`, 1.x knows no such path.

use super::{Errand, Sink, SinkError, sent};
use futures_util::future::BoxFuture;
use reqwest::Client;
use std::time::Duration;
use url::Url;

/// The admin API of one engine.
pub struct HydraSink {
    http: Client,
    admin: Url,
    limit: Duration,
}

impl HydraSink {
    /// The engine whose admin API is at `admin`, asked through `http` (see [`super::client`]), which waits for at most `limit`.
    #[must_use]
    pub fn new(http: Client, admin: Url, limit: Duration) -> Self {
        Self { http, admin, limit }
    }

    async fn ask(&self, errand: &Errand) -> Result<u16, SinkError> {
        match self.delete("admin", errand).await {
            // No such path: 1.x, which has done nothing.
            Err(SinkError::Refused(404 | 405)) => self.delete("", errand).await,
            told => told,
        }
    }

    async fn delete(&self, prefix: &str, errand: &Errand) -> Result<u16, SinkError> {
        let (path, query) = request(errand);
        sent(self.http.delete(address(&self.admin, prefix, path, &query)), self.limit).await
    }
}

impl Sink for HydraSink {
    fn tell<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, Result<u16, SinkError>> {
        Box::pin(self.ask(errand))
    }
}

/// Path below the admin API and query of a DELETE. One that an engine is too old for names nothing that it knows, and is refused.
fn request(errand: &Errand) -> (&'static str, Vec<(&'static str, &str)>) {
    const CONSENT: &str = "oauth2/auth/sessions/consent";
    const LOGIN: &str = "oauth2/auth/sessions/login";
    match errand {
        Errand::Consents { subject, client: Some(client) } => (CONSENT, vec![("subject", subject), ("client", client)]),
        Errand::Consents { subject, client: None } => (CONSENT, vec![("subject", subject), ("all", "true")]),
        Errand::Consent { challenge } => (CONSENT, vec![("consent_request_id", challenge)]),
        Errand::Sessions { subject } => (LOGIN, vec![("subject", subject)]),
        Errand::Session { id } => (LOGIN, vec![("sid", id)]),
        Errand::ClientTokens { client } => ("oauth2/tokens", vec![("client_id", client)]),
    }
}

/// Whatever a value holds, it stays a value.
fn address(admin: &Url, prefix: &str, path: &str, query: &[(&str, &str)]) -> Url {
    let mut address = admin.clone();
    let base = admin.path().trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    address.set_path(&format!("{base}{prefix}/{path}"));
    address.query_pairs_mut().clear().extend_pairs(query);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_its_id_alone() {
        let admin: Url = "http://engine:4445".parse().expect("an address");
        let errand = Errand::Session { id: "s&subject=ann".into() };
        let (path, query) = request(&errand);
        let login = "oauth2/auth/sessions/login?sid=s%26subject%3Dann";
        assert_eq!(address(&admin, "admin", path, &query).as_str(), format!("http://engine:4445/admin/{login}"));
        assert_eq!(address(&admin, "", path, &query).as_str(), format!("http://engine:4445/{login}"), "1.x refuses it");
    }

    #[test]
    fn hostile_values_stay_values() {
        let admin: Url = "http://engine:4445/base/".parse().expect("an address");
        let errand = Errand::Consents { subject: "a&all=true#../x\r\n".into(), client: Some("c d".into()) };
        let (path, query) = request(&errand);
        let made = address(&admin, "admin", path, &query);
        assert_eq!(made.path(), "/base/admin/oauth2/auth/sessions/consent");
        assert_eq!(made.host_str(), Some("engine"));
        let pairs: Vec<(String, String)> = made.query_pairs().into_owned().collect();
        let expected = [("subject", "a&all=true#../x\r\n"), ("client", "c d")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
