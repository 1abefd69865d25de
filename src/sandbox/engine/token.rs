//! Opaque tokens: random bytes and their HMAC under the system secret. Pure.
//!
//! Only the signature half is stored. Version 1 keeps it as it is; version 2 keeps that of access tokens as hex of its SHA-384, puts a
//! prefix before the token, and still reads what version 1 wrote.

use super::EngineVersion;
use crate::plan::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512_256};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Refresh,
    Code,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Access => "ory_at_",
            Self::Refresh => "ory_rt_",
            Self::Code => "ory_ac_",
        }
    }
}

/// A token just made.
pub(super) struct Minted {
    /// What the client is given.
    pub(super) token: String,
    /// What is stored.
    pub(super) stored: String,
}

fn mac(secret: &Secret, random: &[u8]) -> Hmac<Sha512_256> {
    let mut mac = Hmac::new_from_slice(secret.expose().as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(random);
    mac
}

/// The form in which signatures are stored that must not be read from a table: hex of their SHA-384.
pub(super) fn digest(signature: &str) -> String {
    hex::encode(Sha384::digest(signature.as_bytes()))
}

/// The form in which `version` stores a signature.
fn stored(version: EngineVersion, kind: Kind, signature: &str) -> String {
    match (version, kind) {
        (EngineVersion::V2, Kind::Access) => digest(signature),
        _ => signature.to_owned(),
    }
}

/// Makes a token.
pub(super) fn mint(version: EngineVersion, kind: Kind, secret: &Secret) -> Minted {
    let random: [u8; 32] = rand::random();
    let signature = URL_SAFE_NO_PAD.encode(mac(secret, &random).finalize().into_bytes());
    let prefix = if version == EngineVersion::V2 { kind.prefix() } else { "" };
    let token = format!("{prefix}{}.{signature}", URL_SAFE_NO_PAD.encode(random));
    Minted { token, stored: stored(version, kind, &signature) }
}

/// The forms under which a presented token may be stored, likeliest first; `None` when we did not sign it.
pub(super) fn signatures(version: EngineVersion, kind: Kind, secret: &Secret, token: &str) -> Option<Vec<String>> {
    let bare = match version {
        EngineVersion::V1 => token,
        EngineVersion::V2 => token.strip_prefix(kind.prefix()).unwrap_or(token),
    };
    let (random, signature) = bare.split_once('.')?;
    let random = URL_SAFE_NO_PAD.decode(random).ok()?;
    mac(secret, &random).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let mut forms = vec![stored(version, kind, signature)];
    if forms[0] != signature {
        forms.push(signature.to_owned());
    }
    Some(forms)
}

/// Whether `verifier` answers an S256 `challenge` (RFC 7636).
pub(super) fn verifies(challenge: &str, verifier: &str) -> bool {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge
}

/// Salted digest of a client's secret; fast on purpose, since secrets here are random and the engine is a stand-in.
pub(super) fn hash_secret(secret: &str) -> String {
    let salt = hex::encode(rand::random::<[u8; 8]>());
    format!("sha256${salt}${}", salted(&salt, secret))
}

/// Whether `secret` is the one that was hashed.
pub(super) fn is_secret(hash: &str, secret: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some("sha256"), Some(salt), Some(digest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    salted(salt, secret) == digest
}

fn salted(salt: &str, secret: &str) -> String {
    hex::encode(Sha256::digest(format!("{salt}{secret}").as_bytes()))
}

/// A random name of 32 characters, for challenges, verifiers and request ids.
pub(super) fn name() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("a system secret of a sandbox")
    }

    #[test]
    fn version_two_reads_tokens_of_version_one_and_not_the_other_way_round() {
        for kind in [Kind::Access, Kind::Refresh, Kind::Code] {
            let old = mint(EngineVersion::V1, kind, &secret());
            let forms = signatures(EngineVersion::V2, kind, &secret(), &old.token).expect("it is ours");
            assert!(forms.contains(&old.stored));
            let new = mint(EngineVersion::V2, kind, &secret());
            assert_eq!(signatures(EngineVersion::V1, kind, &secret(), &new.token), None);
            assert_eq!(signatures(EngineVersion::V2, kind, &secret(), &new.token).expect("ours")[0], new.stored);
        }
    }

    #[test]
    fn a_token_of_another_secret_is_not_ours() {
        let other = mint(EngineVersion::V1, Kind::Access, &Secret::new("another"));
        assert_eq!(signatures(EngineVersion::V1, Kind::Access, &secret(), &other.token), None);
    }

    #[test]
    fn pkce_follows_the_appendix_of_its_rfc() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(verifies(challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!verifies(challenge, "another"));
    }

    #[test]
    fn a_secret_is_known_by_its_hash() {
        let hash = hash_secret("s3cret");
        assert!(is_secret(&hash, "s3cret") && !is_secret(&hash, "other") && !is_secret("", ""));
    }
}
