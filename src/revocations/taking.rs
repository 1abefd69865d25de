//! Messages become rows: what is known of incarnations and numbers, then events, outcomes, barriers and closings, in one transaction.
//!
//! All who do this for a plan take turns, so that an outcome and its event never pass each other unseen.

use super::event::Captured;
use super::message::{Kind, Message};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

const BEGIN: &str = "begin";
const TURN: &str = "select pg_advisory_xact_lock(hashtextextended('cutover.received ' || $1, 0))";
const INCARNATIONS: &str =
    "select incarnation, gateway, closed_seq from cutover.producer where plan = $1 and incarnation = any($2)";
const NUMBER: &str = "insert into cutover.received (incarnation, seq, id)
select e.incarnation, e.seq, e.id from unnest($1::uuid[], $2::bigint[], $3::uuid[]) as e (incarnation, seq, id)
on conflict do nothing";
const NUMBERED: &str = "select r.incarnation, r.seq, r.id from cutover.received r
join unnest($1::uuid[], $2::bigint[]) as e (incarnation, seq) on r.incarnation = e.incarnation and r.seq = e.seq";
const EVENT: &str = "insert into cutover.revocation
  (id, plan, incarnation, seq, live, epoch, door, chain, blue_seen, green_seen, produced_at, actor, outcome, status)
select e.id, $1, e.incarnation, e.seq, e.live, e.epoch, e.door, e.chain, e.blue_seen, e.green_seen, e.produced_at, e.actor,
  case when e.seq > p.closed_seq then 'refused' else coalesce(o.outcome, 'captured') end, o.status
from unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::text[], $10::text[],
    $11::timestamptz[], $12::text[])
  as e (id, incarnation, seq, live, epoch, door, chain, blue_seen, green_seen, produced_at, actor)
join cutover.producer p on p.incarnation = e.incarnation
left join cutover.early_outcome o on o.id = e.id and o.plan = $1 and o.gateway = p.gateway
on conflict do nothing";
const SEEN_EARLY: &str = "delete from cutover.early_outcome where id = any($1)";
/// Only the gateway that captured an event may say what became of it.
const OUTCOME: &str = "update cutover.revocation r set outcome = s.outcome, status = s.status
from unnest($2::uuid[], $3::text[], $4::text[], $5::int[]) as s (id, gateway, outcome, status), cutover.producer p
where r.id = s.id and r.plan = $1 and r.outcome = 'captured' and p.incarnation = r.incarnation and p.gateway = s.gateway";
const EARLY_OUTCOME: &str = "insert into cutover.early_outcome (id, plan, gateway, outcome, status)
select s.id, $1, s.gateway, s.outcome, s.status
from unnest($2::uuid[], $3::text[], $4::text[], $5::int[]) as s (id, gateway, outcome, status)
where not exists (select from cutover.revocation r where r.id = s.id) on conflict do nothing";
const BARRIER: &str = "insert into cutover.barrier as b (plan, epoch, incarnation, last_seq) values ($1, $2, $3, $4)
on conflict (plan, epoch, incarnation) do update set last_seq = greatest(b.last_seq, excluded.last_seq), at = clock_timestamp()";
const CLOSE: &str = "with closed as (
  update cutover.producer set closed_seq = $2, ended_at = coalesce(ended_at, clock_timestamp()) where incarnation = $1)
update cutover.revocation set outcome = 'refused' where incarnation = $1 and seq > $2 and outcome = 'captured'";
const DEAD: &str = "insert into cutover.dead_message (id, plan, queue, body, why) values ($1, $2, $3, $4, $5)
on conflict do nothing";
/// What could not be taken once, and was taken now, is dead no more.
const RISEN: &str = "delete from cutover.dead_message where plan = $1 and id = any($2)";

/// What was read of a message, beside its bytes.
pub(super) type Read<'a> = (&'a [u8], Result<Message, String>);

/// Takes messages in; when this returns they are durable. One that the server cannot store is a dead letter, and keeps nobody else.
///
/// # Errors
/// The server's own. The connection is then to be thrown away.
pub(super) async fn take(client: &Client, plan: &str, queue: &str, read: &[Read<'_>]) -> Result<(), Error> {
    let whole: Vec<&Read<'_>> = read.iter().collect();
    let Err(error) = together(client, plan, queue, &whole).await else { return Ok(()) };
    if !is_of_data(&error) {
        return Err(error);
    }
    client.batch_execute("rollback").await?;
    for one in read {
        let Err(error) = together(client, plan, queue, &[one]).await else { continue };
        if !is_of_data(&error) {
            return Err(error);
        }
        client.batch_execute("rollback").await?;
        let why = error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
        bury(client, plan, queue, one.0, &format!("control cannot store it: {why}")).await?;
    }
    Ok(())
}

/// Whether a statement failed because of what it was given, and would fail again.
fn is_of_data(error: &Error) -> bool {
    let class = |code: &SqlState| code.code().get(..2) == Some("22") || code.code().get(..2) == Some("23");
    error.code().is_some_and(class)
}

async fn together(client: &Client, plan: &str, queue: &str, read: &[&Read<'_>]) -> Result<(), Error> {
    client.batch_execute(BEGIN).await?;
    client.query_one(TURN, &[&plan]).await?;
    let mut understood = Vec::new();
    for (body, result) in read {
        match result {
            Ok(message) => understood.push((*body, message)),
            Err(why) => bury(client, plan, queue, body, why).await?,
        }
    }
    let incarnations = Incarnations::read(client, plan, &understood).await?;
    let mut believed = Vec::new();
    for (body, message) in understood {
        match incarnations.objection(message) {
            None => believed.push((body, message)),
            Some(why) => bury(client, plan, queue, body, &why).await?,
        }
    }
    let numbered = number(client, &believed).await?;
    let mut messages = Vec::new();
    for (body, message) in believed {
        match numbered.get(&(message.from.incarnation, message.from.seq)) {
            Some(id) if *id == message.id => messages.push((body, message)),
            Some(id) => bury(client, plan, queue, body, &format!("the message {id} has the same number")).await?,
            None => bury(client, plan, queue, body, "another message with another number has its identity").await?,
        }
    }
    apply(client, plan, &messages.iter().map(|(_, message)| *message).collect::<Vec<_>>()).await?;
    let taken: Vec<Uuid> = messages.iter().map(|(body, _)| digest(body)).collect();
    client.execute(RISEN, &[&plan, &taken]).await?;
    client.batch_execute("commit").await
}

/// What is known of the incarnations that messages name.
struct Incarnations(HashMap<Uuid, (String, Option<i64>)>);

impl Incarnations {
    async fn read(client: &Client, plan: &str, messages: &[(&[u8], &Message)]) -> Result<Self, Error> {
        let named = messages.iter().flat_map(|(_, message)| {
            let closed = match &message.kind {
                Kind::Closed { incarnation, .. } => Some(*incarnation),
                _ => None,
            };
            std::iter::once(message.from.incarnation).chain(closed)
        });
        let named: Vec<Uuid> = named.collect();
        if named.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let rows = client.query(INCARNATIONS, &[&plan, &named]).await?;
        Ok(Self(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()))
    }

    fn objection(&self, message: &Message) -> Option<String> {
        self.stranger(message.from.incarnation, &message.from.gateway).or_else(|| match &message.kind {
            Kind::Closed { incarnation, last } => self.unclosable(*incarnation, *last, &message.from.gateway),
            _ => None,
        })
    }

    /// One that control does not know never came to register: there is nothing to close, and no harm in saying so.
    fn unclosable(&self, incarnation: Uuid, last: i64, gateway: &str) -> Option<String> {
        let (_, closed) = self.0.get(&incarnation)?;
        self.stranger(incarnation, gateway).or_else(|| match closed {
            Some(closed) if *closed != last => {
                Some(format!("it closes {incarnation} at {last}, which was closed at {closed} before"))
            }
            _ => None,
        })
    }

    fn stranger(&self, incarnation: Uuid, gateway: &str) -> Option<String> {
        match self.0.get(&incarnation) {
            None => Some(format!("no gateway of this plan has registered the incarnation {incarnation}")),
            Some((name, _)) if name != gateway => {
                Some(format!("the incarnation {incarnation} is the gateway {name:?}'s, not {gateway:?}'s"))
            }
            Some(_) => None,
        }
    }
}

/// Notes which numbers have arrived; gives what stands under each.
async fn number(client: &Client, messages: &[(&[u8], &Message)]) -> Result<HashMap<(Uuid, i64), Uuid>, Error> {
    if messages.is_empty() {
        return Ok(HashMap::new());
    }
    let (mut incarnations, mut seqs, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (_, message) in messages {
        incarnations.push(message.from.incarnation);
        seqs.push(message.from.seq);
        ids.push(message.id);
    }
    client.execute(NUMBER, &[&incarnations, &seqs, &ids]).await?;
    let rows = client.query(NUMBERED, &[&incarnations, &seqs]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

async fn apply(client: &Client, plan: &str, messages: &[&Message]) -> Result<(), Error> {
    events(client, plan, messages).await?;
    outcomes(client, plan, messages).await?;
    for message in messages {
        match &message.kind {
            Kind::Barrier { epoch } => {
                client.execute(BARRIER, &[&plan, epoch, &message.from.incarnation, &message.from.seq]).await?;
            }
            Kind::Closed { incarnation, last } => {
                client.execute(CLOSE, &[incarnation, last]).await?;
            }
            Kind::Captured { .. } | Kind::Outcome { .. } => {}
        }
    }
    Ok(())
}

async fn events(client: &Client, plan: &str, messages: &[&Message]) -> Result<(), Error> {
    let captured = messages.iter().filter_map(|message| match &message.kind {
        Kind::Captured { what, actor } => Some((*message, what.as_ref(), actor.as_deref())),
        _ => None,
    });
    let captured: Vec<(&Message, &Captured, Option<&str>)> = captured.collect();
    if captured.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Captured) -> &'static str| captured.iter().map(|(_, what, _)| of(what)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = captured.iter().map(|(message, ..)| message.id).collect();
    let incarnations: Vec<Uuid> = captured.iter().map(|(message, ..)| message.from.incarnation).collect();
    let seqs: Vec<i64> = captured.iter().map(|(message, ..)| message.from.seq).collect();
    let epochs: Vec<i64> = captured.iter().map(|(_, what, _)| what.epoch).collect();
    let chains: Vec<serde_json::Value> =
        captured.iter().map(|(_, what, _)| serde_json::to_value(&what.chain).expect("a chain is plain data")).collect();
    let times: Vec<jiff::Timestamp> = captured.iter().map(|(message, ..)| message.at).collect();
    let actors: Vec<Option<&str>> = captured.iter().map(|(_, _, actor)| *actor).collect();
    let (lives, doors) = (column(|what| what.live.as_str()), column(|what| what.door.as_str()));
    let (blues, greens) = (column(|what| what.blue.as_str()), column(|what| what.green.as_str()));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 12] =
        [&plan, &ids, &incarnations, &seqs, &lives, &epochs, &doors, &chains, &blues, &greens, &times, &actors];
    client.execute(EVENT, &parameters).await?;
    client.execute(SEEN_EARLY, &[&ids]).await?;
    Ok(())
}

async fn outcomes(client: &Client, plan: &str, messages: &[&Message]) -> Result<(), Error> {
    let (mut ids, mut gateways, mut words, mut statuses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        if let Kind::Outcome { of, outcome, status } = &message.kind {
            ids.push(*of);
            gateways.push(message.from.gateway.as_str());
            words.push(outcome.as_str());
            statuses.push(*status);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    client.execute(OUTCOME, &[&plan, &ids, &gateways, &words, &statuses]).await?;
    client.execute(EARLY_OUTCOME, &[&plan, &ids, &gateways, &words, &statuses]).await?;
    Ok(())
}

/// Keeps a message that is not to be taken; the same bytes once, however often they are delivered.
async fn bury(client: &Client, plan: &str, queue: &str, body: &[u8], why: &str) -> Result<(), Error> {
    let id = digest(body);
    tracing::error!(%id, why, "a message of the queue is a dead letter");
    client.execute(DEAD, &[&id, &plan, &queue, &body, &why]).await?;
    Ok(())
}

/// By which the same bytes are known again.
fn digest(body: &[u8]) -> Uuid {
    Uuid::from_slice(&Sha256::digest(body)[..16]).expect("sixteen bytes")
}
