//! Who answers on a system's own path: one request, and the name in its answer. Concludes nothing from it.

use super::command::first_line;
use crate::plan::AnsweredAt;
use crate::traffic::protocol::PROBE;
use std::time::Duration;
use uuid::Uuid;

/// Bytes of an answer that are read.
const BODY_BYTES: usize = 1 << 16;

/// Asks once.
///
/// # Errors
/// One sentence: no answer, another status than 2xx, or an answer that names nobody.
pub(super) async fn who_answers(
    http: &reqwest::Client,
    at: &AnsweredAt,
    nonce: Uuid,
    bound: Duration,
) -> Result<String, String> {
    let url = &at.url;
    let request = http.get(url).header(PROBE, nonce.to_string()).timeout(bound);
    let silent = |error: reqwest::Error| format!("GET {url}: no answer ({})", cause(&error.without_url()));
    let mut response = request.send().await.map_err(silent)?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("GET {url}: answered with {status}"));
    }
    let named = match &at.header {
        Some(header) => {
            response.headers().get(header).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        }
        None => {
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(silent)? {
                body.extend_from_slice(&chunk);
                if body.len() > BODY_BYTES {
                    break;
                }
            }
            Some(String::from_utf8_lossy(&body).into_owned())
        }
    };
    let named = first_line(&named.unwrap_or_default());
    if named.is_empty() { Err(format!("GET {url}: the answer does not say who answered")) } else { Ok(named) }
}

fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
