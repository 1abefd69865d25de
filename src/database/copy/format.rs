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
