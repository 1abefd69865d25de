//! What makes two plans the same: the document with its references left as names, and the bytes of every named file. Comments, layout and
//! the environment are not part of it, so a rehearsal against staging and the run in production share it.

use super::document::Document;
use super::resolve::{parse_length, parse_size};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// SHA-256 in hex. Each part is preceded by its length, so that no two plans run into the same bytes.
pub(super) fn digest(document: &Document, files: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(b"cutover plan 1");
    part(meaning(document).to_string().as_bytes());
    for (name, text) in files {
        part(name.as_bytes());
        part(text.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The document with one way of writing each budget; maps are in the order of their keys already.
fn meaning(document: &Document) -> Value {
    let mut value = serde_json::to_value(document).unwrap_or_default();
    for pointer in [
        "/window/hold",
        "/window/write_gap",
        "/window/level",
        "/window/copy",
        "/window/migrate",
        "/window/invariants",
        "/window/soak",
        "/level/replica_lag",
        "/level/every",
        "/copy/throttle/replica_lag",
        "/copy/throttle/snapshot",
        "/copy/load/checkpoint_timeout",
        "/gateway/request_timeout",
        "/gateway/refresh/coalesce/ttl",
        "/gateway/refresh/engine_grace",
    ] {
        normalise(&mut value, pointer, |text| parse_length(text).map(|length| format!("{} ns", length.as_nanos())));
    }
    for pointer in [
        "/window/wal_keep",
        "/window/wal_drop",
        "/copy/throttle/rate",
        "/copy/load/index_memory",
        "/copy/load/max_wal_size",
        "/hot_queries/small_table",
        "/gateway/held_bytes",
    ] {
        normalise(&mut value, pointer, |text| parse_size(text).map(|bytes| format!("{bytes} B")));
    }
    value
}

fn normalise(value: &mut Value, pointer: &str, same: impl Fn(&str) -> Option<String>) {
    if let Some(slot) = value.pointer_mut(pointer)
        && let Some(text) = slot.as_str().and_then(same)
    {
        *slot = text.into();
    }
}
