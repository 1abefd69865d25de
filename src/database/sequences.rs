//! Sequences: read in one go, carried from the side being left to the side to come, compared.
//!
//! A sequence is matched by the column that owns it, else by its name. It is carried ahead by a margin, because a fence on tables
//! does not stop `nextval`; it never goes backwards. Rows are not this file's concern. May call `term` and `sql`.

use super::sql::qualified;
use super::term::{Term, TermError, hold};
use crate::plan::{Side, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};

const CATALOG: &str = "
select n.nspname, c.relname, tn.nspname, t.relname, a.attname, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
  from pg_catalog.pg_sequence s
  join pg_catalog.pg_class c on c.oid = s.seqrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid
       and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
  left join pg_catalog.pg_class t on t.oid = d.refobjid
  left join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
  left join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
 where c.relpersistence <> 't'
   and n.nspname <> 'cutover' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
 order by 1, 2";
const SET: &str = "select pg_catalog.setval(name::regclass, value, called)
  from unnest($1::text[], $2::bigint[], $3::boolean[]) as wanted(name, value, called)";

/// Why sequences could not be read or carried.
#[derive(Debug, Error)]
pub enum SequenceError {
    /// Another process has taken over; nothing more is changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The server refused; what was set is ahead of blue and harmless, and is found again.
    #[error("{act} sequences on {side}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// Where.
        side: Side,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A sequence counts up on one side and down on the other, so that no value is ahead of both.
    #[error("carry sequence {sequence}: it counts {blue} by blue's definition and {green} by green's; nothing was set")]
    Direction {
        /// Green's sequence.
        sequence: TableName,
        /// Blue's increment.
        blue: i64,
        /// Green's increment.
        green: i64,
    },
}

/// A sequence with its definition and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its own schema and name.
    pub name: TableName,
    /// The table and column that own it (`serial`, identity, `owned by`).
    pub owner: Option<(TableName, String)>,
    /// What each call adds; never 0.
    pub increment: i64,
    /// Lowest value.
    pub min: i64,
    /// Highest value.
    pub max: i64,
    /// Whether it starts over at its end.
    pub cycles: bool,
    /// The value it holds: given out already when `is_called`, else the next to be given.
    pub last_value: i64,
    /// Whether `last_value` was given out.
    pub is_called: bool,
}

/// What became of one of blue's sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Green's was set to the value.
    Set,
    /// Green's stood there or further already, and was left alone at the value.
    Ahead,
    /// Green has neither the sequence nor the table of the column that owned it; the value is blue's.
    OwnerDropped,
    /// Green has no such sequence although it has the table, or nothing owned it; the value is blue's.
    Missing,
}

/// One of blue's sequences after carrying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Green's sequence, or blue's where green has none.
    pub sequence: TableName,
    /// Where it stands now.
    pub value: i64,
    /// How it came there.
    pub outcome: Outcome,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.outcome {
            Outcome::Set => "set to",
            Outcome::Ahead => "ahead at",
            Outcome::OwnerDropped => "gone with its table on green, on blue at",
            Outcome::Missing => "missing on green, on blue at",
        };
        write!(f, "{} {words} {}", self.sequence, self.value)
    }
}

impl Sequence {
    /// The value the next call gives, were there no bounds.
    fn next(&self) -> i128 {
        i128::from(self.last_value) + if self.is_called { i128::from(self.increment) } else { 0 }
    }

    /// Whether the next value is at or beyond `value` in the direction of counting.
    fn has_reached(&self, value: i128) -> bool {
        if self.increment > 0 { self.next() >= value } else { self.next() <= value }
    }

    /// `margin`, or a tenth of the values that are left if that is less.
    fn bounded(&self, margin: u32) -> u32 {
        let bound = if self.increment > 0 { self.max } else { self.min };
        let left = (i128::from(bound) - i128::from(self.last_value)) / i128::from(self.increment);
        u32::try_from(left.max(0) / 10).unwrap_or(u32::MAX).min(margin)
    }

    /// This sequence as it should stand to be `margin` values ahead of `source`.
    fn ahead_of(&self, source: &Self, margin: u32) -> Self {
        let wanted = i128::from(source.last_value) + i128::from(source.increment) * i128::from(margin);
        let (value, is_called) = if wanted >= i128::from(self.min) && wanted <= i128::from(self.max) {
            (wanted, source.is_called)
        } else if self.cycles {
            (self.wrapped(wanted), source.is_called)
        } else {
            self.clamped(source, wanted)
        };
        let last_value = i64::try_from(value).expect("a value between the bounds of a sequence");
        Self { last_value, is_called, ..self.clone() }
    }

    /// The bound that `wanted` oversteps; the bound itself stays to be given unless the source is already there.
    fn clamped(&self, source: &Self, wanted: i128) -> (i128, bool) {
        let value = wanted.clamp(i128::from(self.min), i128::from(self.max));
        let last = i128::from(source.last_value);
        let is_used_up =
            if self.increment > 0 { last >= value && wanted > value } else { last <= value && wanted < value };
        (value, source.is_called && is_used_up)
    }

    /// Where `wanted` falls when a cycling sequence starts over at its other end.
    fn wrapped(&self, wanted: i128) -> i128 {
        let (min, max) = (i128::from(self.min), i128::from(self.max));
        let step = i128::from(self.increment).abs();
        let (start, beyond) = if self.increment > 0 { (min, wanted - max) } else { (max, min - wanted) };
        let laps = (max - min) / step + 1;
        let steps = ((beyond + step - 1) / step - 1).rem_euclid(laps);
        if self.increment > 0 { start + steps * step } else { start - steps * step }
    }
}

/// Reads every application sequence and where it stands: one query for definitions, one for all values.
///
/// # Errors
/// When the server refuses, or a sequence was dropped between the two queries.
pub async fn read(client: &impl GenericClient) -> Result<Vec<Sequence>, tokio_postgres::Error> {
    let mut sequences: Vec<Sequence> = client.query(CATALOG, &[]).await?.iter().map(sequence).collect();
    if sequences.is_empty() {
        return Ok(sequences);
    }
    let parts = sequences.iter().enumerate().map(|(at, sequence)| {
        format!("select {at}, last_value, is_called from {}", qualified(&sequence.name.schema, &sequence.name.name))
    });
    for row in client.query(&parts.collect::<Vec<_>>().join(" union all "), &[]).await? {
        let at = usize::try_from(row.get::<_, i32>(0)).expect("a position that we wrote");
        (sequences[at].last_value, sequences[at].is_called) = (row.get(1), row.get(2));
    }
    Ok(sequences)
}

fn sequence(row: &tokio_postgres::Row) -> Sequence {
    let table = row.get::<_, Option<String>>(2).zip(row.get::<_, Option<String>>(3));
    let table = table.map(|(schema, name)| TableName { schema, name });
    Sequence {
        name: TableName { schema: row.get(0), name: row.get(1) },
        owner: table.zip(row.get::<_, Option<String>>(4)),
        increment: row.get(5),
        min: row.get(6),
        max: row.get(7),
        cycles: row.get(8),
        last_value: 0,
        is_called: false,
    }
}

/// Sets each of green's sequences `margin` values ahead of blue's; never backwards, within green's bounds.
///
/// `renamed` says which of blue's tables have another name on green. Repeating it changes nothing as long as blue stands still.
/// A cycling sequence is always set, since no value is ahead of another.
///
/// # Errors
/// When another process took over, a server refused or a sequence changed its direction. Sequences green lacks are no error but
/// are reported in the result.
pub async fn carry(
    blue: &impl GenericClient,
    green: &mut Client,
    term: &Term,
    margin: u32,
    renamed: &BTreeMap<TableName, TableName>,
) -> Result<Vec<Carried>, SequenceError> {
    let (sources, targets) = both(blue, green).await?;
    let (mut carried, mut moves) = (Vec::new(), Vec::new());
    for source in &sources {
        let Some(target) = counterpart(source, &targets, renamed) else {
            let owner = source.owner.as_ref().map(|(table, _)| renamed.get(table).unwrap_or(table));
            let outcome = if is_dropped(green, owner).await? { Outcome::OwnerDropped } else { Outcome::Missing };
            carried.push(Carried { sequence: source.name.clone(), value: source.last_value, outcome });
            continue;
        };
        let wanted = wanted(source, target, margin)?;
        let outcome = if wanted.is_some() { Outcome::Set } else { Outcome::Ahead };
        let value = wanted.as_ref().unwrap_or(target).last_value;
        carried.push(Carried { sequence: target.name.clone(), value, outcome });
        moves.extend(wanted);
    }
    set(green, term, &moves).await?;
    Ok(carried)
}

/// Whether a sequence had an owner that green does not have.
async fn is_dropped(green: &impl GenericClient, owner: Option<&TableName>) -> Result<bool, SequenceError> {
    let Some(table) = owner else { return Ok(false) };
    let name = qualified(&table.schema, &table.name);
    let row = green.query_one("select to_regclass($1::text) is null", &[&name]).await;
    Ok(row.map_err(server("look for the owner of", Side::Green))?.get(0))
}

fn server(act: &'static str, side: Side) -> impl FnOnce(tokio_postgres::Error) -> SequenceError {
    move |source| SequenceError::Server { act, side, source }
}

async fn both(
    blue: &impl GenericClient,
    green: &impl GenericClient,
) -> Result<(Vec<Sequence>, Vec<Sequence>), SequenceError> {
    let (sources, targets) = tokio::join!(read(blue), read(green));
    Ok((sources.map_err(server("read", Side::Blue))?, targets.map_err(server("read", Side::Green))?))
}

fn counterpart<'a>(
    source: &Sequence,
    targets: &'a [Sequence],
    renamed: &BTreeMap<TableName, TableName>,
) -> Option<&'a Sequence> {
    let owner = source.owner.as_ref().map(|(table, column)| (renamed.get(table).unwrap_or(table), column));
    let owned = targets
        .iter()
        .find(|target| owner.is_some() && target.owner.as_ref().map(|(table, column)| (table, column)) == owner);
    owned.or_else(|| targets.iter().find(|target| target.name == source.name))
}

/// What green's sequence must become, or nothing when it is there already.
fn wanted(source: &Sequence, target: &Sequence, margin: u32) -> Result<Option<Sequence>, SequenceError> {
    if (source.increment > 0) != (target.increment > 0) {
        let (blue, green) = (source.increment, target.increment);
        return Err(SequenceError::Direction { sequence: target.name.clone(), blue, green });
    }
    let wanted = target.ahead_of(source, margin);
    let stands = if target.cycles { *target == wanted } else { target.has_reached(wanted.next()) };
    Ok((!stands).then_some(wanted))
}

async fn set(green: &mut Client, term: &Term, moves: &[Sequence]) -> Result<(), SequenceError> {
    let names: Vec<String> = moves.iter().map(|to| qualified(&to.name.schema, &to.name.name)).collect();
    let values: Vec<i64> = moves.iter().map(|to| to.last_value).collect();
    let called: Vec<bool> = moves.iter().map(|to| to.is_called).collect();
    let transaction = green.transaction().await.map_err(server("set", Side::Green))?;
    hold(&transaction, term).await?;
    transaction.query(SET, &[&names, &values, &called]).await.map_err(server("set", Side::Green))?;
    transaction.commit().await.map_err(server("set", Side::Green))
}

/// Lets every sequence of a side skip up to `margin` values, because the other side may have given them out and cannot be asked; never more
/// than a tenth of what is left, so that none comes to its end by it. Says how many were moved.
///
/// # Errors
/// When another process took over or the server refuses.
pub async fn skip(client: &mut Client, term: &Term, margin: u32) -> Result<usize, SequenceError> {
    let sequences = read(client).await.map_err(server("read", Side::Blue))?;
    let moves: Vec<Sequence> =
        sequences.iter().map(|sequence| sequence.ahead_of(sequence, sequence.bounded(margin))).collect();
    set(client, term, &moves).await?;
    Ok(moves.len())
}

/// Which of green's sequences would give a value that blue gave or would give next; reads only. Cycling ones promise nothing and
/// are left out, as are those that green lacks.
///
/// # Errors
/// When a server refuses.
pub async fn behind(
    blue: &impl GenericClient,
    green: &impl GenericClient,
    renamed: &BTreeMap<TableName, TableName>,
) -> Result<Vec<String>, SequenceError> {
    let (sources, targets) = both(blue, green).await?;
    let pairs =
        sources.iter().filter_map(|source| counterpart(source, &targets, renamed).map(|target| (source, target)));
    let late = pairs.filter(|(source, target)| !target.cycles && !target.has_reached(source.next()));
    Ok(late.map(|(source, target)| said(source, target)).collect())
}

fn said(source: &Sequence, target: &Sequence) -> String {
    format!("{}: the next value is {} on green, {} on blue", target.name, target.next(), source.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter(increment: i64, min: i64, max: i64, last_value: i64, is_called: bool) -> Sequence {
        let name = TableName { schema: "public".to_owned(), name: "counter".to_owned() };
        Sequence { name, owner: None, increment, min, max, cycles: false, last_value, is_called }
    }

    fn stand(target: &Sequence, source: &Sequence, margin: u32) -> (i64, bool) {
        let after = target.ahead_of(source, margin);
        (after.last_value, after.is_called)
    }

    #[test]
    fn keeps_a_margin_in_the_direction_of_counting() {
        let up = counter(5, 1, 1000, 20, true);
        assert_eq!(stand(&up, &up, 10), (70, true));
        let down = counter(-1, -1000, -1, -20, true);
        assert_eq!(stand(&down, &down, 10), (-30, true));
        let unused = counter(1, 1, 1000, 1, false);
        assert_eq!(stand(&unused, &unused, 0), (1, false));
        assert_eq!(stand(&unused, &unused, 10), (11, false));
    }

    #[test]
    fn stops_at_a_bound_and_leaves_it_to_be_given() {
        let near = counter(1, 1, 25, 20, true);
        assert_eq!(stand(&near, &near, 10), (25, false));
        let used_up = counter(1, 1, 25, 25, true);
        assert_eq!(stand(&used_up, &used_up, 10), (25, true));
        assert_eq!(stand(&counter(1, 100, 200, 100, false), &near, 10), (100, false), "green begins higher");
    }

    #[test]
    fn a_cycle_starts_over() {
        let up = Sequence { cycles: true, ..counter(2, 1, 10, 9, true) };
        assert_eq!(stand(&up, &up, 1), (1, true));
        assert_eq!(stand(&up, &up, 3), (5, true));
        let down = Sequence { cycles: true, ..counter(-1, 1, 3, 2, true) };
        assert_eq!(stand(&down, &down, 2), (3, true));
    }

    #[test]
    fn skips_no_more_than_a_tenth_of_what_is_left() {
        assert_eq!(counter(1, 1, i64::MAX, 20, true).bounded(1_000_000), 1_000_000);
        assert_eq!(counter(1, 1, 1020, 20, true).bounded(1_000_000), 100);
        assert_eq!(counter(-2, -1000, -1, -800, true).bounded(1_000_000), 10);
        assert_eq!(counter(1, 1, 25, 25, true).bounded(1_000_000), 0);
    }

    #[test]
    fn never_goes_backwards_nor_changes_direction() {
        let blue = counter(1, 1, 1000, 20, true);
        assert!(wanted(&blue, &counter(1, 1, 1000, 500, true), 10).expect("one direction").is_none());
        assert!(matches!(wanted(&blue, &counter(-1, -9, -1, -1, true), 10), Err(SequenceError::Direction { .. })));
    }

    proptest! {
        #[test]
        fn what_is_carried_is_never_behind(
            increment in prop_oneof![-40i64..0, 1i64..40],
            last in -500i64..500,
            margin in 0u32..90,
            is_called: bool,
        ) {
            let blue = counter(increment, -500, 500, last, is_called);
            let after = blue.ahead_of(&blue, margin);
            prop_assert!(after.last_value >= -500 && after.last_value <= 500);
            let within = blue.next().abs() <= 500;
            prop_assert!(!within || after.has_reached(blue.next()), "{after:?}");
        }
    }
}
