//! Tokens of canaries at rest: encrypted under a secret that only the environment knows, bound to their run.
//!
//! They must outlive the process, since `run` ends days before `flip`, and must be found from any machine: so they are kept in the journal,
//! and nobody who reads it learns them. The secret itself is never kept.

use crate::plan::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;
use thiserror::Error;

/// Why sealed text could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the canaries' tokens cannot be read: the secret in `canaries.key` is not the one under which they were kept")]
pub struct Unreadable;

/// A key of its own for each run.
fn key(secret: &Secret, run: &str) -> LessSafeKey {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(b"cutover canaries of run ");
    mac.update(run.as_bytes());
    let derived = mac.finalize().into_bytes();
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).expect("the key has the length that the cipher wants"))
}

/// Encrypts a text.
#[must_use]
pub fn seal(secret: &Secret, run: &str, text: &str) -> String {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let mut sealed = text.as_bytes().to_vec();
    let tag = key(secret, run).seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(run.as_bytes()),
        &mut sealed,
    );
    let tag = tag.expect("a text in memory is short enough for the cipher");
    STANDARD_NO_PAD.encode([nonce.as_slice(), &sealed, tag.as_ref()].concat())
}

/// Decrypts it.
///
/// # Errors
/// When it was encrypted under another secret, for another run, or was changed.
pub fn open(secret: &Secret, run: &str, sealed: &str) -> Result<String, Unreadable> {
    let bytes = STANDARD_NO_PAD.decode(sealed).map_err(|_| Unreadable)?;
    let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or(Unreadable)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unreadable)?;
    let mut rest = rest.to_vec();
    let text = key(secret, run).open_in_place(nonce, Aad::from(run.as_bytes()), &mut rest).map_err(|_| Unreadable)?;
    String::from_utf8(text.to_vec()).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_reads_what_was_sealed_for_the_same_run() {
        let (secret, other) = (Secret::new("a secret of a plan"), Secret::new("another secret"));
        let sealed = seal(&secret, "run-1", "a token");
        assert!(!sealed.contains("token") && sealed != seal(&secret, "run-1", "a token"));
        assert_eq!(open(&secret, "run-1", &sealed).as_deref(), Ok("a token"));
        assert_eq!(open(&other, "run-1", &sealed), Err(Unreadable));
        assert_eq!(open(&secret, "run-2", &sealed), Err(Unreadable));
        assert_eq!(open(&secret, "run-1", &sealed[1..]), Err(Unreadable));
        assert_eq!(open(&secret, "run-1", ""), Err(Unreadable));
    }
}
