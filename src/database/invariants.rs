//! Invariants: one question on each side, one judgement. Owns how a side is asked, and how answers compare; which moment is asked, the caller says.
//!
//! A question is text that people wrote: it is prepared alone, so it is one statement, and asked in a transaction that the caller has made
//! read-only, with settings under which both sides print alike. Rows are compared as they come, in one order on both sides, so that memory is
//! bounded whatever they are. May call `client`, `sql` and `plan` sections.

mod answer;
mod error;
mod put_right;
mod rows;

pub use answer::{Answer, Class, Differing};
pub use error::InvariantError;
pub use put_right::{Changed, put_right};

use self::error::on;
use super::client;
use super::sql::{ident, literal};
use crate::plan::{Expect, Invariant, Secret, Side};
use std::time::Duration;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Statement, Transaction};

/// Settings under which values print alike on both sides and bare names mean `public`; only until the transaction ends.
const PINNED: &str = "set local search_path = public; set local timezone = 'UTC'; set local datestyle = 'ISO, MDY'; set local intervalstyle = 'postgres';
set local extra_float_digits = 1; set local bytea_output = 'hex'; set local row_security = off; set local lc_monetary = 'C'; set local lock_timeout = '5s'";
/// What can be compared as a number.
const NUMBERS: [&str; 6] = ["smallint", "integer", "bigint", "numeric", "real", "double precision"];

/// A connection on which questions are asked.
///
/// # Errors
/// When the server does not answer, or does not keep its texts in UTF-8: the order of rows would then differ from ours.
pub async fn session(url: &Secret, side: Side) -> Result<Client, InvariantError> {
    let client = client::connect(url, side.as_str()).await?;
    // A moment is kept while other questions are asked, or clients released; what a server allows its clients does not end it.
    let patient = "set idle_in_transaction_session_timeout = 0";
    client.batch_execute(patient).await.map_err(on("set up the session", side))?;
    let row = client.query_one("select getdatabaseencoding()", &[]).await.map_err(on("ask for the encoding", side))?;
    let encoding: String = row.get(0);
    if encoding == "UTF8" { Ok(client) } else { Err(InvariantError::Encoding { side, encoding }) }
}

/// Begins to keep what a side holds now, on this connection; [`resume`] asks it.
///
/// # Errors
/// When the server does not answer.
pub async fn keep(client: &Client, side: Side) -> Result<(), InvariantError> {
    // A snapshot is taken by the first statement that needs one, not by the beginning.
    let begin = "begin isolation level repeatable read read only; select pg_catalog.pg_current_snapshot()";
    client.batch_execute(begin).await.map_err(on("keep a moment", side))
}

/// What a connection keeps, with the settings under which questions are asked. It is let go with the connection.
///
/// # Errors
/// When the server does not answer.
pub async fn resume(client: &Client, side: Side, bound: Duration) -> Result<(), InvariantError> {
    client.batch_execute(&settings(bound)).await.map_err(on("pin the settings", side))
}

/// A transaction that can only ask, at `snapshot` when one is given, with the settings under which questions are asked.
///
/// # Errors
/// When the server does not answer, or the snapshot is there no longer.
pub async fn begin<'a>(
    client: &'a mut Client,
    side: Side,
    bound: Duration,
    snapshot: Option<&str>,
) -> Result<Transaction<'a>, InvariantError> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await.map_err(on("begin to ask", side))?;
    if let Some(snapshot) = snapshot {
        let import = format!("set transaction snapshot {}", literal(snapshot));
        transaction.batch_execute(&import).await.map_err(on("look at the moment of the last batch", side))?;
    }
    pin(&transaction, side, bound).await?;
    Ok(transaction)
}

/// Makes the settings of a transaction those under which questions are asked; `bound` is for each statement.
///
/// # Errors
/// When the server does not answer.
pub async fn pin(transaction: &Transaction<'_>, side: Side, bound: Duration) -> Result<(), InvariantError> {
    transaction.batch_execute(&settings(bound)).await.map_err(on("pin the settings", side))
}

fn settings(bound: Duration) -> String {
    format!("{PINNED}; set local statement_timeout = {}", bound.as_millis().max(1))
}

/// Asks one invariant of both sides, as their transactions see them.
///
/// # Errors
/// When a side cannot be asked, or its answer has not the form that the plan says; nothing was changed.
pub async fn ask(
    invariant: &Invariant,
    blue: &impl GenericClient,
    green: &impl GenericClient,
) -> Result<Answer, InvariantError> {
    match (&invariant.blue, invariant.expect) {
        (_, Expect::Empty) => rows::none(invariant, green).await,
        (Some(question), Expect::SetEqual) => rows::compare(invariant, &question.text, blue, green).await,
        (Some(question), _) => {
            let (blue_value, green_value) = tokio::join!(
                value(&invariant.name, Side::Blue, &question.text, blue),
                value(&invariant.name, Side::Green, &invariant.green.text, green)
            );
            judge(invariant, green, blue_value?, green_value?).await
        }
        // The plan's rules refuse it; without an answer of blue's nothing holds.
        (None, _) => Err(InvariantError::NoQuestion { name: invariant.name.clone() }),
    }
}

/// Whether blue's part of an invariant can be asked, and answers in the form that the plan says. Rows are not read.
///
/// # Errors
/// When it cannot be asked, or gives another form.
pub async fn examine(invariant: &Invariant, blue: &impl GenericClient) -> Result<(), InvariantError> {
    let Some(question) = &invariant.blue else { return Ok(()) };
    if invariant.expect.is_of_rows() {
        return rows::examine(invariant, &question.text, blue).await;
    }
    let value = value(&invariant.name, Side::Blue, &question.text, blue).await?;
    if invariant.expect == Expect::Equal || (value.is_number() && value.text.is_some()) {
        return Ok(());
    }
    Err(no_number(invariant, Side::Blue, &value))
}

/// One value, as text, and its type.
struct Value {
    text: Option<String>,
    kind: String,
}

impl Value {
    fn is_number(&self) -> bool {
        NUMBERS.contains(&self.kind.as_str())
    }
}

/// The statement alone, so that it is one, and its columns.
async fn prepared(
    name: &str,
    side: Side,
    question: &str,
    client: &impl GenericClient,
) -> Result<Statement, InvariantError> {
    client.prepare(question).await.map_err(|source| InvariantError::Asked { name: name.to_owned(), side, source })
}

async fn value(name: &str, side: Side, question: &str, client: &impl GenericClient) -> Result<Value, InvariantError> {
    let shape = |what: String| InvariantError::Shape { name: name.to_owned(), side, what };
    let statement = prepared(name, side, question, client).await?;
    let [column] = statement.columns() else {
        return Err(shape(format!("{} columns where one value is expected", statement.columns().len())));
    };
    let column = ident(column.name());
    let wrapped =
        format!("select q.{column}::text, pg_catalog.pg_typeof(q.{column})::text from (\n{question}\n) q limit 2");
    let rows = client.query(&wrapped, &[]).await;
    let rows = rows.map_err(|source| InvariantError::Asked { name: name.to_owned(), side, source })?;
    match rows.as_slice() {
        [row] => Ok(Value { text: row.get(0), kind: row.get(1) }),
        [] => Err(shape("no row where one value is expected".to_owned())),
        _ => Err(shape("several rows where one value is expected".to_owned())),
    }
}

/// Compares two values; numbers as numbers, by the server, exactly.
async fn judge(
    invariant: &Invariant,
    client: &impl GenericClient,
    blue: Value,
    green: Value,
) -> Result<Answer, InvariantError> {
    let are_numbers = blue.is_number() && green.is_number();
    let holds = match (&invariant.expect, &blue.text, &green.text) {
        (Expect::Equal, Some(one), Some(other)) if are_numbers => compared(client, "$1 = $2", one, other).await?,
        (Expect::Equal, one, other) => one == other,
        (Expect::AtLeast, Some(one), Some(other)) if are_numbers => compared(client, "$2 >= $1", one, other).await?,
        (Expect::Within { rows, percent }, Some(one), Some(other)) if are_numbers => {
            let bound = format!("abs($2 - $1) <= {rows} and abs($2 - $1) * 100 <= {percent} * abs($1)");
            compared(client, &bound, one, other).await?
        }
        _ => {
            let (side, value) =
                if blue.is_number() && blue.text.is_some() { (Side::Green, green) } else { (Side::Blue, blue) };
            return Err(no_number(invariant, side, &value));
        }
    };
    Ok(Answer::of_values(invariant, holds, shown(&blue), shown(&green)))
}

fn no_number(invariant: &Invariant, side: Side, value: &Value) -> InvariantError {
    let what = if value.text.is_none() { "null".to_owned() } else { format!("a value of type {}", value.kind) };
    let what = format!("{what} where a number is expected");
    InvariantError::Shape { name: invariant.name.clone(), side, what }
}

async fn compared(client: &impl GenericClient, test: &str, blue: &str, green: &str) -> Result<bool, InvariantError> {
    let test = test.replace("$1", "$1::text::numeric").replace("$2", "$2::text::numeric");
    let row = client.query_one(&format!("select {test}"), &[&blue, &green]).await;
    Ok(row.map_err(on("compare two numbers", Side::Green))?.get(0))
}

/// Numbers and truth values themselves; of anything else only that it is there, since it may be a secret.
fn shown(value: &Value) -> String {
    match &value.text {
        None => "null".to_owned(),
        Some(text) if value.is_number() || value.kind == "boolean" => text.clone(),
        Some(_) => "***".to_owned(),
    }
}
