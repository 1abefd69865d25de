//! The API's shapes: what is sent, what comes back, and how bodies are encoded. Pure.

use crate::revocations::queue::{Delivery, Lease};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(super) struct Pulled {
    #[serde(default)]
    pub(super) messages: Vec<Leased>,
}

#[derive(Deserialize)]
pub(super) struct Leased {
    #[serde(default)]
    body: String,
    lease_id: String,
    #[serde(default)]
    attempts: f64,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
pub(super) struct Depths {
    #[serde(default)]
    message_backlog_count: f64,
    #[serde(default)]
    messages: Vec<Value>,
}

impl Depths {
    /// An estimate: what was seen, or what the service believes.
    pub(super) fn depth(&self) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that the API gives as a number"
        )]
        let believed = self.message_backlog_count.max(0.0) as u64;
        believed.max(self.messages.len() as u64)
    }
}

#[derive(Deserialize)]
pub(super) struct Described {
    pub(super) queue_name: String,
    #[serde(default)]
    consumers: Vec<Consumer>,
}

#[derive(Deserialize)]
struct Consumer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    dead_letter_queue: Option<String>,
}

impl Described {
    pub(super) fn is_pulled(&self) -> bool {
        self.consumers.iter().any(|consumer| consumer.kind == "http_pull")
    }

    pub(super) fn dead_letter_queue(&self) -> Option<&str> {
        let mut named = self.consumers.iter().filter_map(|consumer| consumer.dead_letter_queue.as_deref());
        named.find(|name| !name.is_empty())
    }
}

/// A message to publish: JSON as such, other text as text.
pub(super) fn message(body: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return Ok(json!({ "body": value, "content_type": "json" }));
    }
    match std::str::from_utf8(body) {
        Ok(text) => Ok(json!({ "body": text, "content_type": "text" })),
        Err(_) => Err("a message that is no text cannot be carried by this queue".to_owned()),
    }
}

/// A message as it was published. Bodies of JSON and bytes come as base64, text as it is.
pub(super) fn delivery(leased: Leased) -> Delivery {
    let body = match leased.metadata["CF-Content-Type"].as_str() {
        Some("text") => leased.body.into_bytes(),
        // What is no base64 was never encoded; an object's brace is no letter of that alphabet.
        _ => STANDARD.decode(&leased.body).unwrap_or_else(|_| leased.body.into_bytes()),
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count that the API gives as a number"
    )]
    let attempts = leased.attempts.max(0.0) as u32;
    Delivery { lease: Lease(leased.lease_id), id: None, body, attempts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(body: &str, kind: &str) -> Leased {
        let metadata = json!({ "CF-Content-Type": kind });
        Leased { body: body.to_owned(), lease_id: "l".to_owned(), attempts: 2.0, metadata }
    }

    #[test]
    fn a_body_is_decoded_by_what_it_was_published_as() {
        assert_eq!(delivery(leased("eyJhIjoxfQ==", "json")).body, br#"{"a":1}"#);
        assert_eq!(delivery(leased("eyJhIjoxfQ==", "bytes")).body, br#"{"a":1}"#);
        assert_eq!(delivery(leased("eyJhIjoxfQ==", "text")).body, b"eyJhIjoxfQ==", "text is never decoded");
        assert_eq!(delivery(leased(r#"{"a":1}"#, "json")).body, br#"{"a":1}"#, "as older examples show it");
    }

    #[test]
    fn a_dead_letter_queue_counts_only_when_it_has_a_name() {
        let described = |consumer: Value| -> Described {
            serde_json::from_value(json!({ "queue_name": "q", "consumers": [consumer] })).expect("a queue")
        };
        let named = described(json!({ "type": "http_pull", "dead_letter_queue": "d" }));
        assert_eq!((named.is_pulled(), named.dead_letter_queue()), (true, Some("d")));
        assert_eq!(described(json!({ "type": "http_pull", "dead_letter_queue": "" })).dead_letter_queue(), None);
        assert!(!described(json!({ "type": "worker", "dead_letter_queue": "d" })).is_pulled());
    }
}
