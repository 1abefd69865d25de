//! A URL in the variables that PostgreSQL's own programs read: nothing of it, least of all a password, is seen in a program's arguments.

use super::{ConnectError, tls, unusable};
use crate::plan::Secret;
use std::collections::BTreeMap;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Longest wait of a program for a server's port, in seconds.
const PATIENCE_S: &str = "10";

/// Variables with which a program of PostgreSQL connects as [`connect`](super::connect) would, encryption included.
///
/// # Errors
/// When the URL cannot be read or used.
pub fn variables(url: &Secret, what: &str) -> Result<BTreeMap<String, Secret>, ConnectError> {
    let (rest, wanted) = tls::lift(url.expose()).map_err(|reason| unusable(what, reason))?;
    let config: Config = rest.parse().map_err(|source| ConnectError::Url { what: what.to_owned(), source })?;
    let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
    let mut variables = vec![
        ("PGHOST", hosts.join(",")),
        ("PGPORT", ports.join(",")),
        ("PGUSER", text(config.get_user())),
        ("PGDATABASE", text(config.get_dbname())),
        ("PGPASSWORD", password),
        ("PGOPTIONS", text(config.get_options())),
        ("PGAPPNAME", "cutover".to_owned()),
        ("PGCONNECT_TIMEOUT", PATIENCE_S.to_owned()),
    ];
    variables.extend(wanted.variables(&config));
    let given = variables.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(given.map(|(name, value)| (name.to_owned(), Secret::new(value))).collect())
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> BTreeMap<String, String> {
        let variables = variables(&Secret::new(url), "blue").expect("a URL");
        variables.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect()
    }

    #[test]
    fn a_url_is_told_in_variables() {
        let here = of("postgres://me:p%40ss@127.0.0.1:5433/db");
        let wanted = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", "5433"),
            ("PGUSER", "me"),
            ("PGDATABASE", "db"),
            ("PGPASSWORD", "p@ss"),
            ("PGSSLMODE", "disable"),
        ];
        for (name, value) in wanted {
            assert_eq!(here[name], value, "{name}");
        }
        assert!(!here.contains_key("PGSSLROOTCERT") && !here.contains_key("PGOPTIONS"));
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is_to_programs_too() {
        let far = of("postgres://me@db.example.org/db");
        assert_eq!((far["PGSSLMODE"].as_str(), far["PGSSLROOTCERT"].as_str()), ("verify-full", "system"));
        let named = of("postgres://me@db.example.org/db?sslmode=require&sslrootcert=/ca.pem");
        assert_eq!((named["PGSSLMODE"].as_str(), named["PGSSLROOTCERT"].as_str()), ("verify-ca", "/ca.pem"));
        assert_eq!(of("postgres://me@db.example.org/db?sslmode=disable")["PGSSLMODE"], "disable");
    }
}
