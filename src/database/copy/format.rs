//! In which form the rows of a table travel: binary where both sides have the very same well-known types, text elsewhere.
//!
//! The server refuses few wrong binary values: a `float8` is taken for a `bigint` without a word. So binary is used only when both servers name
//! the same types for every column, and only types whose binary form says all of their value.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

/// Types with one binary form on every server since version 10.
const SAFE: [Type; 32] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::OID,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::NUMERIC,
    Type::TEXT,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::BYTEA,
    Type::UUID,
    Type::DATE,
    Type::TIME,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INTERVAL,
    Type::JSON,
    Type::JSONB,
    Type::INET,
    Type::CIDR,
    Type::BOOL_ARRAY,
    Type::INT2_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::VARCHAR_ARRAY,
    Type::UUID_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::NUMERIC_ARRAY,
    Type::JSONB_ARRAY,
];

/// What follows `to stdout` and `from stdin`.
pub(in crate::database) type Form = &'static str;
/// The form that every type has.
pub(in crate::database) const TEXT: Form = "";
const BINARY: Form = " (format binary)";

/// What a binary copy begins with, before the first row: signature, flags, and the length of an extension that nobody has.
const HEADER: usize = 19;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What stands in a row's place at the end of a binary copy, where its number of columns would be.
const END: &[u8] = &[0xff, 0xff];

/// Whether a message of a `copy … to stdout` is a row; a server sends each in a message of its own, and the end of a binary copy too
/// (PostgreSQL, "Message Formats", and "Binary Format" of COPY).
pub(super) fn is_row(form: Form, message: &[u8]) -> bool {
    let body = if message.starts_with(SIGNATURE) { message.get(HEADER..).unwrap_or_default() } else { message };
    form != BINARY || !(body.is_empty() || body.starts_with(END))
}

/// The form for rows that `select` gives on blue and that `into` (a select of the same columns) describes on green.
pub(in crate::database) async fn form(
    blue: &Client,
    select: &str,
    green: &impl GenericClient,
    into: &str,
) -> Result<Form, tokio_postgres::Error> {
    let (given, wanted) = (types(blue, select).await?, types(green, into).await?);
    Ok(if given == wanted && wanted.iter().all(|kind| SAFE.contains(kind)) { BINARY } else { TEXT })
}

async fn types(client: &impl GenericClient, select: &str) -> Result<Vec<Type>, tokio_postgres::Error> {
    let prepared = client.prepare(select).await?;
    Ok(prepared.columns().iter().map(|column| column.type_().clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_and_the_end_of_a_binary_copy_are_no_rows() {
        let head = [SIGNATURE, &[0; 8]].concat();
        let row: &[u8] = &[0, 1, 0, 0, 0, 1, b'x'];
        assert!(is_row(BINARY, row) && is_row(BINARY, &[&head, row].concat()));
        assert!(!is_row(BINARY, END) && !is_row(BINARY, &[&head, END].concat()) && !is_row(BINARY, &head));
        assert!(is_row(TEXT, END), "a text may begin with anything");
    }
}
