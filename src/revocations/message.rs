//! The envelope: what travels from a gateway to control, as versioned JSON, and how strictly it is read. Pure; never holds a token.
//!
//! All messages of an incarnation share one sequence without gaps, whatever their kind. `at` is the producer's clock and is compared
//! with nobody's.

use super::event::{Captured, Chain, Door, Outcome, Seen};
use crate::plan::Side;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::Uuid;

/// The version written, and the only one understood.
const VERSION: u32 = 1;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity, a ULID; the identity of the event when it is one.
    pub id: Uuid,
    /// The plan it belongs to.
    pub plan: String,
    /// Who sent it, and its number there.
    pub from: Origin,
    /// When it was made, by the producer's clock.
    pub at: Timestamp,
    /// What it says.
    pub kind: Kind,
}

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The gateway's name.
    pub gateway: String,
    /// Which incarnation of it.
    pub incarnation: Uuid,
    /// The message's number there, contiguous from 1.
    pub seq: i64,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A revocation was captured; it is forwarded only after this is durable.
    Captured {
        /// What was captured.
        what: Box<Captured>,
        /// Who asked, as the gateway saw it.
        actor: Option<String>,
    },
    /// What became of a captured revocation.
    Outcome {
        /// The event.
        of: Uuid,
        /// What became of it.
        outcome: Outcome,
        /// The engine's HTTP status, when it answered.
        status: Option<i32>,
    },
    /// Nothing more is captured before `epoch`.
    Barrier {
        /// The epoch to come.
        epoch: i64,
    },
    /// An earlier incarnation of the same gateway had confirmed numbers up to `last`; what has a higher number was never forwarded.
    Closed {
        /// The earlier incarnation.
        incarnation: Uuid,
        /// The last number that it had confirmed.
        last: i64,
    },
}

/// A new identity, in order of time as far as one clock goes.
#[must_use]
pub fn fresh_id() -> Uuid {
    Ulid::generate().into()
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u32,
    id: String,
    plan: String,
    gateway: String,
    incarnation: Uuid,
    seq: i64,
    at: Timestamp,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Body {
    Captured {
        door: Door,
        chain: Chain,
        live: Side,
        epoch: i64,
        blue: Seen,
        green: Seen,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    Outcome {
        of: String,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<i32>,
    },
    Barrier {
        epoch: i64,
    },
    Closed {
        closed: Uuid,
        last: i64,
    },
}

impl Message {
    /// The message as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = match self.kind.clone() {
            Kind::Captured { what, actor } => {
                let Captured { door, chain, live, epoch, blue, green } = *what;
                Body::Captured { door, chain, live, epoch, blue, green, actor }
            }
            Kind::Outcome { of, outcome, status } => Body::Outcome { of: Ulid::from(of).to_string(), outcome, status },
            Kind::Barrier { epoch } => Body::Barrier { epoch },
            Kind::Closed { incarnation, last } => Body::Closed { closed: incarnation, last },
        };
        let envelope = Envelope {
            v: VERSION,
            id: Ulid::from(self.id).to_string(),
            plan: self.plan.clone(),
            gateway: self.from.gateway.clone(),
            incarnation: self.from.incarnation,
            seq: self.from.seq,
            at: self.at,
            body,
        };
        serde_json::to_vec(&envelope).expect("a message is plain data")
    }

    /// Reads a message of `plan`.
    ///
    /// # Errors
    /// In words why it cannot be understood, or believed to belong to this plan.
    pub fn read(bytes: &[u8], plan: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no message of ours: {error}"))?;
        if version.v != VERSION {
            return Err(format!("it has version {}, and this program understands {VERSION}", version.v));
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if envelope.plan != plan {
            return Err(format!("it belongs to the plan {:?}", envelope.plan));
        }
        if envelope.seq < 1 {
            return Err(format!("it has the number {}, and numbers begin at 1", envelope.seq));
        }
        let kind = match envelope.body {
            Body::Captured { door, chain, live, epoch, blue, green, actor } => {
                Kind::Captured { what: Box::new(Captured { door, chain, live, epoch, blue, green }), actor }
            }
            Body::Outcome { outcome: Outcome::Captured, .. } => return Err("`captured` is no outcome".to_owned()),
            Body::Outcome { of, outcome, status } => Kind::Outcome { of: ulid(&of)?, outcome, status },
            Body::Barrier { epoch } => Kind::Barrier { epoch },
            Body::Closed { last, .. } if last < 0 => return Err(format!("it closes at the number {last}")),
            Body::Closed { closed, .. } if closed == envelope.incarnation => {
                return Err("it closes its own incarnation".to_owned());
            }
            Body::Closed { closed, last } => Kind::Closed { incarnation: closed, last },
        };
        let from = Origin { gateway: envelope.gateway, incarnation: envelope.incarnation, seq: envelope.seq };
        Ok(Self { id: ulid(&envelope.id)?, plan: envelope.plan, from, at: envelope.at, kind })
    }
}

fn ulid(text: &str) -> Result<Uuid, String> {
    Ulid::from_string(text).map(Uuid::from).map_err(|error| format!("{text:?} is no ULID: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(kind: Kind) -> Message {
        let from = Origin { gateway: "engine".into(), incarnation: Uuid::new_v4(), seq: 7 };
        Message { id: fresh_id(), plan: "plan".into(), from, at: Timestamp::now(), kind }
    }

    fn captured() -> Message {
        let chain = Chain { requests: ["r1".to_owned()].into(), until: Some("now".into()), ..Chain::default() };
        let (blue, green) = (Seen::Found, Seen::Unreachable);
        let what = Captured { door: Door::Consent, chain, live: Side::Blue, epoch: 3, blue, green };
        message(Kind::Captured { what: Box::new(what), actor: Some("client app".into()) })
    }

    fn read(value: &Value) -> Result<Message, String> {
        Message::read(value.to_string().as_bytes(), "plan")
    }

    #[test]
    fn every_kind_comes_back_as_it_was_sent() {
        let kinds = [
            Kind::Outcome { of: fresh_id(), outcome: Outcome::Refused, status: Some(401) },
            Kind::Outcome { of: fresh_id(), outcome: Outcome::Executed, status: None },
            Kind::Barrier { epoch: 9 },
            Kind::Closed { incarnation: Uuid::new_v4(), last: 0 },
        ];
        for message in kinds.map(message).into_iter().chain([captured()]) {
            assert_eq!(Message::read(&message.to_bytes(), "plan"), Ok(message));
        }
    }

    #[test]
    fn what_is_not_exactly_a_message_is_not_understood() {
        let whole: Value = serde_json::from_slice(&captured().to_bytes()).expect("JSON");
        read(&whole).expect("it is whole");
        let changes = [
            ("v", json!(2), "version 2"),
            ("v", json!("1"), "no message"),
            ("plan", json!("other"), "the plan \"other\""),
            ("kind", json!("erased"), "erased"),
            ("seq", json!(0), "number 0"),
            ("seq", json!("7"), "invalid type"),
            ("id", json!("7ZZZZZZZZZZZZZZZZZZZZZZZZ"), "no ULID"),
            ("incarnation", json!("one"), ""),
            ("door", json!("window"), "window"),
            ("live", json!("red"), "red"),
            ("chain", json!([1]), ""),
            ("at", json!(7), ""),
            ("token", json!("secret"), "unknown field"),
        ];
        for (key, value, why) in changes {
            let mut changed = whole.clone();
            changed[key] = value;
            let error = read(&changed).expect_err(key);
            assert!(error.contains(why), "{key}: {error}");
        }
        for key in ["v", "id", "plan", "gateway", "incarnation", "seq", "at", "kind", "door", "chain", "epoch", "blue"]
        {
            let mut short = whole.clone();
            short.as_object_mut().expect("an object").remove(key);
            read(&short).expect_err(key);
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_not_understood() {
        for bytes in [&b""[..], b"\xff\xfe", b"[]", b"{}", b"{\"v\":1}", b"null"] {
            Message::read(bytes, "plan").expect_err("poison");
        }
    }

    #[test]
    fn an_incarnation_does_not_close_itself_and_nothing_comes_out_as_captured() {
        let mut own = message(Kind::Barrier { epoch: 1 });
        own.kind = Kind::Closed { incarnation: own.from.incarnation, last: 4 };
        Message::read(&own.to_bytes(), "plan").expect_err("its own");
        let none = message(Kind::Outcome { of: fresh_id(), outcome: Outcome::Captured, status: None });
        Message::read(&none.to_bytes(), "plan").expect_err("no outcome");
    }
}
