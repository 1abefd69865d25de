//! Wording: durations, bytes, counts and receipts as short text. Pure; owns no layout.

use serde_json::{Map, Value};
use std::time::Duration;

/// Most parts of a receipt that a line shows; the journal keeps all of them.
const RECEIPT_PARTS: usize = 4;
/// Longest text of a receipt that a line shows.
const SHORT_TEXT: usize = 48;

/// A length of time with the precision that a person needs: `850 ms`, `3.1 s`, `2 m 05 s`, `1 h 04 m`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let ms = length.as_millis();
    let seconds = (ms + 500) / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..59_950 => format!("{}.{} s", (ms + 50) / 1000, (ms + 50) / 100 % 10),
        59_950..3_599_500 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A length of time given in milliseconds.
#[must_use]
pub fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// A number of bytes, in powers of 1024 as PostgreSQL and the plan count them: `512 B`, `1.5 MB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mut unit = "B";
    let mut value = bytes as f64;
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A number with a comma between thousands: `200,000`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of something: `200,000 rows`, `1 row`, `1.5 MB`. A unit is a plural word, or `bytes`.
#[must_use]
pub fn amount(number: u64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(number),
        "" => count(number),
        unit if number == 1 => format!("1 {}", singular(unit)),
        unit => format!("{} {unit}", count(number)),
    }
}

/// `row` of `rows`, `index` of `indexes`, `entry` of `entries`.
fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let has_e = ["xes", "ches", "shes", "sses"].iter().any(|end| plural.ends_with(end));
    plural.strip_suffix(if has_e { "es" } else { "s" }).unwrap_or(plural).to_owned()
}

/// A text from outside as one line: line breaks and other control characters become spaces, so that no server's message can break
/// or steer the screen.
#[must_use]
pub fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A receipt in one short phrase, empty when it says nothing short: `200,000 rows, 12 tables, 3.1 s`.
#[must_use]
pub fn receipt(receipt: &Value) -> String {
    match receipt {
        Value::Object(fields) => phrase(fields),
        Value::Array(items) => amount(items.len() as u64, "items"),
        Value::String(text) => one_line(text),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), count),
        Value::Bool(_) | Value::Null => String::new(),
    }
}

fn phrase(fields: &Map<String, Value>) -> String {
    let parts: Vec<String> = fields.iter().filter_map(|(key, value)| part(key, value)).take(RECEIPT_PARTS).collect();
    parts.join(", ")
}

/// One field of a receipt; nothing for what does not fit a line or means nothing to a person.
fn part(key: &str, value: &Value) -> Option<String> {
    let spoken = key.replace('_', " ");
    match value {
        Value::Number(number) => Some(number_part(key, &spoken, number)),
        Value::Array(items) if !items.is_empty() => Some(amount(items.len() as u64, &spoken)),
        Value::Object(inner) if !inner.is_empty() && spoken.ends_with('s') => Some(amount(inner.len() as u64, &spoken)),
        Value::String(text) if is_readable(key, text) => Some(format!("{spoken} {}", one_line(text))),
        Value::Bool(true) => Some(spoken),
        _ => None,
    }
}

fn number_part(key: &str, spoken: &str, number: &serde_json::Number) -> String {
    let Some(whole) = number.as_u64() else { return format!("{spoken} {number}") };
    if let Some(name) = key.strip_suffix("_ms") {
        return format!("{} {}", name.replace('_', " "), millis(whole));
    }
    if let Some(name) = key.strip_suffix("_bytes") {
        return format!("{} {}", name.replace('_', " "), bytes(whole));
    }
    if key == "bytes" || is_plural(key) { amount(whole, spoken) } else { format!("{spoken} {}", count(whole)) }
}

fn is_plural(key: &str) -> bool {
    key.ends_with('s') && !key.ends_with("ss")
}

/// Short and not one of the identifiers that only the tool itself compares.
fn is_readable(key: &str, text: &str) -> bool {
    let is_mark = ["nonce", "hash", "digest", "fingerprint", "run", "id"].iter().any(|mark| key.ends_with(mark));
    !is_mark && !text.is_empty() && text.chars().count() <= SHORT_TEXT
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn report_words_durations_keep_what_matters() {
        let cases = [
            (0, "0 ms"),
            (850, "850 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (3_149, "3.1 s"),
            (9_960, "10.0 s"),
            (59_940, "59.9 s"),
            (59_960, "1 m 00 s"),
            (125_000, "2 m 05 s"),
            (3_599_600, "1 h 00 m"),
            (3_840_000, "1 h 04 m"),
            (90_000_000, "25 h 00 m"),
        ];
        for (ms, text) in cases {
            assert_eq!(millis(ms), text, "{ms} ms");
        }
    }

    #[test]
    fn report_words_counts_and_bytes() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 kB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MB");
        assert_eq!(bytes(10 * 1024 * 1024 * 1024), "10.0 GB");
        assert_eq!(amount(200_000, "rows"), "200,000 rows");
        assert_eq!(amount(1, "rows"), "1 row");
        assert_eq!(amount(1, "batches"), "1 batch");
        assert_eq!(amount(1, "entries"), "1 entry");
        assert_eq!(amount(1536, "bytes"), "1.5 kB");
    }

    #[test]
    fn report_words_receipt_is_one_short_phrase() {
        let body = json!({
            "rows": 200_000, "nonce": "a6f2", "tables": {"a": 1, "b": 2}, "write_gap_ms": 412, "wal_bytes": 2048, "epoch": 3,
            "later": "not shown: four parts are enough",
        });
        assert_eq!(receipt(&body), "200,000 rows, 2 tables, write gap 412 ms, wal 2.0 kB");
        assert_eq!(receipt(&Value::Null), "");
        assert_eq!(
            receipt(&json!({ "epoch": 3, "slot": "cutover_0123456789ab" })),
            "epoch 3, slot cutover_0123456789ab"
        );
        assert_eq!(receipt(&json!({ "indexes": ["a"] })), "1 index");
    }

    #[test]
    fn report_words_outside_text_cannot_steer_the_screen() {
        assert_eq!(one_line("bad\n\u{1b}[2Jthing\r\n  here"), "bad [2Jthing here");
    }
}
