//! Encryption of connections: what a URL asks for, and the rustls configuration that gives it.
//!
//! Owns the keys of a URL that tokio-postgres does not know (`sslrootcert`, `sslcert`, `sslkey`, `verify-ca`, `verify-full`). Reads
//! certificate files that the URL names; nothing else.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Keys of libpq that are understood neither here nor by tokio-postgres, and what to do instead.
const UNKNOWN: &[(&str, &str)] = &[
    ("service", "write host, port and user into the URL"),
    ("passfile", "give the password in the URL, by a `${VARIABLE}` of the plan"),
    ("replication", "leave it out: changes are read by SQL functions"),
    ("gssencmode", "leave it out"),
    ("fallback_application_name", "leave it out"),
    ("sslpassword", "name a key file without a password"),
    ("sslcrl", "leave it out: revocation lists are not read"),
    ("sslnegotiation", "leave it out"),
];

/// What a URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    mode: Option<Mode>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    /// Encrypted when the server offers it; nobody is asked who they are.
    Prefer,
    /// Encrypted; nobody is asked who they are.
    Require,
    /// The server has a certificate of a trusted authority.
    VerifyAuthority,
    /// The same, and it is this host's.
    VerifyFull,
}

/// How the connection is opened.
pub(super) enum Encryption {
    None,
    Rustls(Box<MakeRustlsConnect>),
}

/// Takes our keys out of a URL's query; the rest is for tokio-postgres.
pub(super) fn lift(url: &str) -> Result<(String, Wanted), String> {
    let mut wanted = Wanted::default();
    let Some((before, query)) = url.split_once('?') else { return Ok((url.to_owned(), wanted)) };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || {
            url::form_urlencoded::parse(value.replace('+', "%2B").as_bytes())
                .next()
                .map_or_else(String::new, |(value, _)| value.into_owned())
        };
        match key {
            "sslmode" => wanted.mode = Some(mode(&value())?),
            "sslrootcert" => wanted.root = Some(value()),
            "sslcert" => wanted.certificate = Some(value()),
            "sslkey" => wanted.key = Some(value()),
            key => match UNKNOWN.iter().find(|(unknown, _)| *unknown == key) {
                Some((_, instead)) => return Err(format!("the URL's key `{key}` is not understood: {instead}")),
                None => rest.push(pair),
            },
        }
    }
    let url = if rest.is_empty() { before.to_owned() } else { format!("{before}?{}", rest.join("&")) };
    Ok((url, wanted))
}

fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "disable" => Ok(Mode::Disable),
        "allow" | "prefer" => Ok(Mode::Prefer),
        "require" => Ok(Mode::Require),
        "verify-ca" => Ok(Mode::VerifyAuthority),
        "verify-full" => Ok(Mode::VerifyFull),
        _ => Err("the URL's `sslmode` is none of disable, allow, prefer, require, verify-ca, verify-full".to_owned()),
    }
}

impl Wanted {
    fn mode(&self, config: &Config) -> Mode {
        match self.mode {
            // As libpq does: a root certificate that is named is also used.
            Some(Mode::Require) if self.root.is_some() => Mode::VerifyAuthority,
            Some(mode) => mode,
            None if config.get_hosts().iter().all(is_here) && self.root.is_none() => Mode::Disable,
            None => Mode::VerifyFull,
        }
    }

    /// The same for a program of PostgreSQL, in the variables that it reads.
    pub(super) fn variables(&self, config: &Config) -> Vec<(&'static str, String)> {
        let mode = self.mode(config);
        let word = match mode {
            Mode::Disable => "disable",
            Mode::Prefer => "prefer",
            Mode::Require => "require",
            Mode::VerifyAuthority => "verify-ca",
            Mode::VerifyFull => "verify-full",
        };
        let root = self.root.clone().or((mode == Mode::VerifyFull).then(|| "system".to_owned()));
        let files = [("PGSSLROOTCERT", root), ("PGSSLCERT", self.certificate.clone()), ("PGSSLKEY", self.key.clone())];
        let files = files.into_iter().filter_map(|(name, file)| Some((name, file?)));
        std::iter::once(("PGSSLMODE", word.to_owned())).chain(files).collect()
    }

    /// Sets the mode on `config` and reads what it needs.
    pub(super) fn settle(&self, config: &mut Config) -> Result<Encryption, String> {
        let mode = self.mode(config);
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        });
        if mode == Mode::Disable {
            return Ok(Encryption::None);
        }
        Ok(Encryption::Rustls(Box::new(MakeRustlsConnect::new(self.rustls(mode)?))))
    }

    fn rustls(&self, mode: Mode) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?.dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match mode {
            Mode::Disable | Mode::Prefer | Mode::Require => Arc::new(Unasked { provider }),
            Mode::VerifyAuthority => Arc::new(AnyName { inner: self.authority(&provider)? }),
            Mode::VerifyFull => self.authority(&provider)?,
        };
        let builder = builder.with_custom_certificate_verifier(verifier);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| format!("`sslcert` and `sslkey` do not fit: {error}")),
            _ => Err("the URL names one of `sslcert` and `sslkey` without the other".to_owned()),
        }
    }

    fn authority(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
        let mut roots = RootCertStore::empty();
        match self.root.as_deref() {
            None | Some("system") => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("this machine trusts no certificate authority: name one with `sslrootcert`".to_owned());
                }
            }
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("certificate file {path}: {error}"))?;
                }
            }
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| format!("TLS cannot be set up: {error}"))
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = File::open(path).map_err(|error| format!("certificate file {path}: {error}"))?;
    let read: Result<Vec<_>, _> = rustls_pemfile::certs(&mut BufReader::new(file)).collect();
    let read = read.map_err(|error| format!("certificate file {path}: {error}"))?;
    if read.is_empty() { Err(format!("certificate file {path} holds no certificate")) } else { Ok(read) }
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    let file = File::open(path).map_err(|error| format!("key file {path}: {error}"))?;
    let read =
        rustls_pemfile::private_key(&mut BufReader::new(file)).map_err(|error| format!("key file {path}: {error}"))?;
    read.ok_or_else(|| format!("key file {path} holds no private key"))
}

/// Takes any certificate: `require` encrypts and asks nobody who they are. The handshake's signature is still checked.
#[derive(Debug)]
struct Unasked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unasked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Asks for a trusted authority, and forgives another name: `verify-ca`.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.inner.verify_server_cert(certificate, chain, name, ocsp, now);
        match verdict {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(url: &str) -> SslMode {
        let (rest, wanted) = lift(url).expect("a URL that can be read");
        let mut config: Config = rest.parse().expect("what is left is tokio-postgres's");
        wanted.settle(&mut config).map(drop).expect("settled");
        config.get_ssl_mode()
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        assert_eq!(mode_of("postgres://u@127.0.0.1/d"), SslMode::Disable);
        assert_eq!(mode_of("postgres://u@localhost,[::1]/d"), SslMode::Disable);
        assert_eq!(mode_of("postgres://u@%2Frun%2Fpostgresql/d"), SslMode::Disable);
        assert_eq!(mode_of("postgres://u@db.test/d?sslmode=require&application_name=x"), SslMode::Require);
        assert_eq!(mode_of("postgres://u@db.test/d?sslmode=disable"), SslMode::Disable);
        let (_, wanted) = lift("postgres://u@127.0.0.1,db.test/d").expect("a URL");
        let mut config: Config = "postgres://u@127.0.0.1,db.test/d".parse().expect("a URL");
        let settled = wanted.settle(&mut config);
        assert_eq!(config.get_ssl_mode(), SslMode::Require, "one host elsewhere is enough");
        assert!(settled.is_ok() || settled.is_err_and(|reason| reason.contains("sslrootcert")));
    }

    #[test]
    fn our_keys_are_lifted_and_the_rest_stays() {
        let url = "postgres://u:p%3F@db.test/d?connect_timeout=3&sslmode=verify-ca&sslrootcert=%2Fa%20b%2Froot.pem";
        let (rest, wanted) = lift(url).expect("a URL");
        assert_eq!(rest, "postgres://u:p%3F@db.test/d?connect_timeout=3");
        assert_eq!((wanted.mode, wanted.root.as_deref()), (Some(Mode::VerifyAuthority), Some("/a b/root.pem")));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (url, word) in [
            ("postgres://u@h/d?service=x", "service"),
            ("postgres://u@h/d?sslmode=maybe", "sslmode"),
            ("postgres://u@h/d?sslrootcert=/nowhere/root.pem", "/nowhere/root.pem"),
            ("postgres://u@h/d?sslmode=require&sslcert=/nowhere/a.pem", "sslkey"),
        ] {
            let mut config: Config = "postgres://u@h/d".parse().expect("a URL");
            let said = lift(url).and_then(|(_, wanted)| wanted.settle(&mut config).map(drop)).expect_err(url);
            assert!(said.contains(word), "{url}: {said}");
        }
    }
}
