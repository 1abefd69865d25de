//! Two streams of rows in one order, set side by side: what only one of them has, and what differs. Holds the rows of one key at a time.

use super::declared::{Declared, reason};
use super::found::{Class, Difference, Found};
use crate::plan::TableName;
use futures_util::{Stream, TryStreamExt};
use std::cmp::Ordering;
use std::pin::Pin;

/// One row as both sides name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hashed {
    /// Its place in the order: the hash of its key.
    pub(super) spot: i64,
    /// Its place among keys of the same hash: the key as one text.
    pub(super) place: String,
    pub(super) key: Vec<String>,
    /// The hash of all of it.
    pub(super) whole: i64,
    /// The hash of each column beside the key.
    pub(super) columns: Vec<i64>,
    /// Whether each of the declared differences means this row.
    pub(super) declared: Vec<bool>,
}

/// What a merge needs to know of its table.
pub(super) struct Named<'a> {
    pub(super) table: &'a TableName,
    /// The columns beside the key.
    pub(super) columns: Vec<&'a str>,
    /// What of it may differ.
    pub(super) declared: Vec<&'a Declared>,
    /// Most rows to list.
    pub(super) most: usize,
}

/// One side of a merge: the rows of the next key, gathered.
struct Rows<S> {
    stream: Pin<Box<S>>,
    /// The first row of the key after `next`.
    ahead: Option<Hashed>,
}

impl<S: Stream<Item = Result<Hashed, E>>, E> Rows<S> {
    async fn of(stream: S) -> Result<Self, E> {
        let mut stream = Box::pin(stream);
        let ahead = stream.try_next().await?;
        Ok(Self { stream, ahead })
    }

    /// All rows of the next key; none at the end.
    async fn next(&mut self) -> Result<Vec<Hashed>, E> {
        let Some(first) = self.ahead.take() else { return Ok(Vec::new()) };
        let mut rows = vec![first];
        while let Some(row) = self.stream.try_next().await? {
            if row.spot != rows[0].spot || row.place != rows[0].place {
                self.ahead = Some(row);
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// Compares what blue's mapping gives with what green has, both in the order of places and keys.
pub(super) async fn merge<E>(
    named: &Named<'_>,
    blue: impl Stream<Item = Result<Hashed, E>>,
    green: impl Stream<Item = Result<Hashed, E>>,
    found: &mut Found,
) -> Result<(), E> {
    let (mut blue, mut green) = (Rows::of(blue).await?, Rows::of(green).await?);
    let (mut wanted, mut given) = (blue.next().await?, green.next().await?);
    loop {
        match order(wanted.first(), given.first()) {
            None => return Ok(()),
            Some(Ordering::Less) => {
                settle(named, wanted, Vec::new(), found);
                wanted = blue.next().await?;
            }
            Some(Ordering::Greater) => {
                settle(named, Vec::new(), given, found);
                given = green.next().await?;
            }
            Some(Ordering::Equal) => {
                settle(named, wanted, given, found);
                (wanted, given) = (blue.next().await?, green.next().await?);
            }
        }
    }
}

/// Which comes first; none when both have ended.
fn order(wanted: Option<&Hashed>, given: Option<&Hashed>) -> Option<Ordering> {
    match (wanted, given) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(wanted), Some(given)) => Some(wanted.spot.cmp(&given.spot).then_with(|| wanted.place.cmp(&given.place))),
    }
}

/// The rows of one key on both sides: what is equal goes away, then each is set against one of the other.
fn settle(named: &Named<'_>, mut wanted: Vec<Hashed>, mut given: Vec<Hashed>, found: &mut Found) {
    let is_there = !wanted.is_empty();
    wanted.retain(|row| match given.iter().position(|other| other.whole == row.whole) {
        Some(at) => {
            given.swap_remove(at);
            false
        }
        None => true,
    });
    let mut add = |class: Class, columns: Vec<String>, rows: [Option<&Hashed>; 2]| {
        let key = rows.iter().flatten().next().map(|row| row.key.clone()).unwrap_or_default();
        match reason(&named.declared, class, &columns, rows) {
            Some(because) => *found.declared.entry(because.to_owned()).or_default() += 1,
            None => found.add(Difference { table: named.table.clone(), key, class, columns }, named.most),
        }
    };
    let pairs = wanted.len().min(given.len());
    let left = wanted.split_off(pairs);
    let surplus = given.split_off(pairs);
    for (row, other) in wanted.into_iter().zip(given) {
        let columns = named.differing(&row, &other);
        add(Class::Changed, columns, [Some(&row), Some(&other)]);
    }
    left.into_iter().for_each(|row| add(Class::Missing, Vec::new(), [Some(&row), None]));
    let class = if is_there { Class::Duplicate } else { Class::Extra };
    surplus.into_iter().for_each(|row| add(class, Vec::new(), [None, Some(&row)]));
}

impl Named<'_> {
    fn differing(&self, row: &Hashed, other: &Hashed) -> Vec<String> {
        let hashes = row.columns.iter().zip(&other.columns);
        let differ = self.columns.iter().zip(hashes).filter(|(_, (row, other))| row != other);
        differ.map(|(name, _)| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn row(key: &str, columns: [i64; 2]) -> Hashed {
        let (place, key) = (format!("({key})"), vec![key.to_owned()]);
        Hashed {
            spot: 7,
            place,
            key,
            whole: columns[0] * 31 + columns[1],
            columns: columns.to_vec(),
            declared: Vec::new(),
        }
    }

    async fn of(blue: &[Hashed], green: &[Hashed]) -> Vec<(String, Class, Vec<String>)> {
        let table = TableName { schema: "public".to_owned(), name: "t".to_owned() };
        let named = Named { table: &table, columns: vec!["a", "b"], declared: Vec::new(), most: 10 };
        let stream = |rows: Vec<Hashed>| futures_util::stream::iter(rows.into_iter().map(Ok::<_, Infallible>));
        let mut found = Found::default();
        merge(&named, stream(blue.to_vec()), stream(green.to_vec()), &mut found).await.expect("no stream fails");
        assert_eq!(found.differences() as usize, found.listed.len());
        found.listed.into_iter().map(|one| (one.key.join(","), one.class, one.columns)).collect()
    }

    #[tokio::test]
    async fn each_class_is_told() {
        let blue = [row("a", [1, 1]), row("b", [1, 1]), row("d", [1, 1]), row("e", [1, 1])];
        let green = [row("b", [1, 2]), row("c", [1, 1]), row("d", [1, 1]), row("e", [1, 1]), row("e", [1, 1])];
        let told = |key: &str, class, columns: &[&str]| {
            (key.to_owned(), class, columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let wanted = [
            told("a", Class::Missing, &[]),
            told("b", Class::Changed, &["b"]),
            told("c", Class::Extra, &[]),
            told("e", Class::Duplicate, &[]),
        ];
        assert_eq!(of(&blue, &green).await, wanted);
        assert_eq!(of(&[], &[]).await, []);
        assert_eq!(of(&blue, &blue).await, []);
        assert_eq!(
            of(&[row("e", [1, 1]), row("e", [1, 1])], &[row("e", [1, 1])]).await,
            [told("e", Class::Missing, &[])]
        );
    }
}
