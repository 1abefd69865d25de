//! Revocations on real servers: the queue, the chains, the replay and its proof.

mod alone;
mod counted_out;
mod proof;
mod queue;
mod rotation;
mod statements;
pub(crate) mod tables;
mod touched;

use crate::harness::Pair;
use cutover::plan::Side;
use cutover::revocations::chain::lookup;
use cutover::revocations::hydra::{Knock, signature_forms};
use cutover::revocations::{
    Captured, Chain, Event, Install, Known, Ledger, Outcome, Producer, Seen, Shape, Touched, Ways,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// Bound of every call on the queue.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Makes our tables in control as the journal does.
pub(crate) fn install(pair: &Pair) -> Install {
    let url = pair.control.url();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(
            async move { cutover::journal::Journal::open(&url).await.map(|_| ()).map_err(|error| error.to_string()) },
        )
    })
}

pub(crate) fn producer(pair: &Pair, gateway: &str) -> Producer {
    Producer::start(&pair.control.url(), "plan", gateway, LIMIT, install(pair))
}

pub(crate) fn ledger(pair: &Pair) -> Ledger {
    ledger_of(pair, Side::Blue)
}

/// The queue as seen when this side is left.
fn ledger_of(pair: &Pair, from: Side) -> Ledger {
    Ledger::new(&pair.control.url(), "plan", from, LIMIT)
}

/// The engine's tables of a side.
pub(crate) async fn ways(client: &Client) -> Ways {
    Shape::detect(client).await.expect("the catalog answers").into()
}

/// Whether touched rows may belong to what an event kills.
pub(crate) fn meets(touched: &Touched, event: &Event) -> bool {
    let mut known = Known::default();
    known.learn(std::slice::from_ref(event));
    known.met_by(touched).contains(&event.id)
}

/// A revocation of something, captured while blue is live.
pub(crate) fn captured(knock: &Knock, chain: Chain) -> Captured {
    let blue = if chain.is_known() { Seen::Found } else { Seen::Unknown };
    Captured { door: knock.door(), chain, live: Side::Blue, epoch: 1, blue, green: Seen::Unknown }
}

/// An event of what a side knows of a knock, without a queue.
async fn event_of(pair: &Pair, knock: Knock) -> Event {
    let blue = pair.blue.client().await;
    let shape = Shape::detect(&blue).await.expect("the catalog answers");
    let mut chain = lookup(&blue, &shape, &knock).await.expect("blue answers");
    match &knock {
        Knock::Token { signatures } => chain.signatures.clone_from(signatures),
        Knock::ClientDelete { client } | Knock::ClientUpdate { client } | Knock::ClientTokens { client } => {
            chain.clients.insert(client.clone());
        }
        _ => {}
    }
    Event {
        id: Uuid::new_v4(),
        incarnation: Uuid::nil(),
        seq: 1,
        captured_at: jiff::Timestamp::now(),
        what: captured(&knock, chain),
        outcome: Outcome::Executed,
    }
}

pub(crate) fn token(text: &str) -> Knock {
    Knock::Token { signatures: signature_forms(text) }
}
