//! Rows of both sides compared as they come, in one order: nothing is held but the rows of one key.

use super::answer::{Answer, Class, Differing};
use super::error::InvariantError;
use super::prepared;
use crate::database::sql::ident;
use crate::plan::{Invariant, Side};
use futures_util::StreamExt;
use futures_util::stream::Fuse;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::pin::Pin;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, RowStream};

/// Most rows of one key: they are held together.
const OF_ONE_KEY: usize = 10_000;
/// Characters of a key's value that are shown.
const KEY_CHARS: usize = 200;

type Text = Option<String>;

/// One row: the texts of its key, and those of its other columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    key: Vec<Text>,
    rest: Vec<Text>,
}

/// The columns of a question, those of the key first.
#[derive(Debug, PartialEq, Eq)]
struct Columns {
    key: Vec<String>,
    rest: Vec<String>,
}

impl Columns {
    async fn of(
        invariant: &Invariant,
        side: Side,
        question: &str,
        client: &impl GenericClient,
    ) -> Result<Self, InvariantError> {
        let statement = prepared(&invariant.name, side, question, client).await?;
        let shape = |what: String| InvariantError::Shape { name: invariant.name.clone(), side, what };
        let mut names: Vec<String> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        for name in &invariant.key {
            if !names.contains(name) {
                return Err(shape(format!("no column {name}, which is in its key")));
            }
        }
        names.retain(|name| !invariant.key.contains(name));
        names.sort();
        let columns = Self { key: invariant.key.clone(), rest: names };
        let is_twice = columns.rest.windows(2).any(|pair| pair[0] == pair[1])
            || columns.key.len() + columns.rest.len() != statement.columns().len();
        if is_twice { Err(shape("two columns of one name".to_owned())) } else { Ok(columns) }
    }

    /// All columns as text, in the order of their bytes; null comes first, as for us.
    fn select(&self, question: &str) -> String {
        let all: Vec<String> =
            self.key.iter().chain(&self.rest).map(|name| format!("q.{}::text", ident(name))).collect();
        let order: Vec<String> = all.iter().map(|column| format!("{column} collate \"C\" nulls first")).collect();
        format!("select {} from (\n{question}\n) q order by {}", all.join(", "), order.join(", "))
    }
}

/// The rows of one side, read as they are wanted.
struct Lines {
    name: String,
    side: Side,
    keys: usize,
    /// Fused: its end may be asked for twice.
    stream: Fuse<Pin<Box<RowStream>>>,
    next: Option<Line>,
}

impl Lines {
    async fn of(
        name: &str,
        side: Side,
        columns: &Columns,
        question: &str,
        client: &impl GenericClient,
    ) -> Result<Self, InvariantError> {
        let nothing: [&(dyn ToSql + Sync); 0] = [];
        let stream = client.query_raw(&columns.select(question), nothing).await;
        let stream = stream.map_err(|source| InvariantError::Asked { name: name.to_owned(), side, source })?;
        let (name, keys, stream) = (name.to_owned(), columns.key.len(), Box::pin(stream).fuse());
        let mut lines = Self { name, side, keys, stream, next: None };
        lines.advance().await?;
        Ok(lines)
    }

    /// The row at which it stands; the next one is read.
    async fn advance(&mut self) -> Result<Option<Line>, InvariantError> {
        let row = self.stream.next().await.transpose();
        let row = row.map_err(|source| InvariantError::Asked { name: self.name.clone(), side: self.side, source })?;
        let next = row.map(|row| {
            let text = |at: usize| row.get::<_, Text>(at);
            Line { key: (0..self.keys).map(text).collect(), rest: (self.keys..row.len()).map(text).collect() }
        });
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// All rows of the key at which it stands.
    async fn of_one_key(&mut self) -> Result<Vec<Line>, InvariantError> {
        let mut group: Vec<Line> = Vec::new();
        while let Some(next) = &self.next {
            if group.first().is_some_and(|first| first.key != next.key) {
                break;
            }
            if group.len() == OF_ONE_KEY {
                let what = format!("more than {OF_ONE_KEY} rows of one key: `key` does not name a row");
                return Err(InvariantError::Shape { name: self.name.clone(), side: self.side, what });
            }
            group.extend(self.advance().await?);
        }
        Ok(group)
    }
}

/// Whether blue's question has the columns of the key.
pub(super) async fn examine(
    invariant: &Invariant,
    question: &str,
    blue: &impl GenericClient,
) -> Result<(), InvariantError> {
    Columns::of(invariant, Side::Blue, question, blue).await.map(drop)
}

/// Compares all rows of both sides; each must be as often on one as on the other.
pub(super) async fn compare(
    invariant: &Invariant,
    question: &str,
    blue: &impl GenericClient,
    green: &impl GenericClient,
) -> Result<Answer, InvariantError> {
    let (name, asked) = (&invariant.name, &invariant.green.text);
    let columns = Columns::of(invariant, Side::Blue, question, blue).await?;
    let others = Columns::of(invariant, Side::Green, asked, green).await?;
    if columns != others {
        let what = format!("the columns {}, and on blue {}", others.rest.join(", "), columns.rest.join(", "));
        return Err(InvariantError::Shape { name: name.clone(), side: Side::Green, what });
    }
    let (blue, green) = tokio::join!(
        Lines::of(name, Side::Blue, &columns, question, blue),
        Lines::of(name, Side::Green, &columns, asked, green)
    );
    let (mut blue, mut green) = (blue?, green?);
    let mut answer = Answer::of_rows(invariant);
    loop {
        let order = match (&blue.next, &green.next) {
            (None, None) => return Ok(answer),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.key.cmp(&other.key),
        };
        let ours = if order == Ordering::Greater { Vec::new() } else { blue.of_one_key().await? };
        let theirs = if order == Ordering::Less { Vec::new() } else { green.of_one_key().await? };
        of_one_key(&mut answer, &columns, ours, theirs);
    }
}

/// Every row that green gives is one too many.
pub(super) async fn none(invariant: &Invariant, green: &impl GenericClient) -> Result<Answer, InvariantError> {
    let (name, asked) = (&invariant.name, &invariant.green.text);
    let columns = Columns::of(invariant, Side::Green, asked, green).await?;
    let mut lines = Lines::of(name, Side::Green, &columns, asked, green).await?;
    let mut answer = Answer::of_rows(invariant);
    while let Some(line) = lines.advance().await? {
        answer.add(differing(Class::Extra, &columns, &line.key));
    }
    Ok(answer)
}

/// Rows that are the same go out of both; of what is left, each on one side is paired with one on the other.
fn of_one_key(answer: &mut Answer, columns: &Columns, mut blue: Vec<Line>, mut green: Vec<Line>) {
    let mut only_green = Vec::new();
    for line in green.drain(..) {
        match blue.binary_search(&line) {
            Ok(at) => drop(blue.remove(at)),
            Err(_) => only_green.push(line),
        }
    }
    let pairs = blue.len().min(only_green.len());
    for (one, other) in blue.iter().zip(&only_green) {
        answer.add(changed(columns, one, other));
    }
    for (class, lines) in [(Class::Missing, &blue[pairs..]), (Class::Extra, &only_green[pairs..])] {
        for line in lines {
            answer.add(differing(class, columns, &line.key));
        }
    }
}

/// What differs, by names: of numbers also which way, of nothing the value.
fn changed(columns: &Columns, blue: &Line, green: &Line) -> Differing {
    let mut row = differing(Class::Changed, columns, &blue.key);
    for (name, (one, other)) in columns.rest.iter().zip(blue.rest.iter().zip(&green.rest)) {
        if one == other {
            continue;
        }
        match order(one, other) {
            Some(Ordering::Greater) => row.less.push(name.clone()),
            Some(Ordering::Less) => row.more.push(name.clone()),
            _ => {}
        }
        row.columns.push(name.clone());
    }
    row
}

fn order(one: &Text, other: &Text) -> Option<Ordering> {
    let number = |text: &Text| text.as_ref()?.parse::<f64>().ok();
    number(one)?.partial_cmp(&number(other)?)
}

fn differing(class: Class, columns: &Columns, key: &[Text]) -> Differing {
    let shown =
        |text: &Text| text.as_ref().map_or(Value::Null, |text| text.chars().take(KEY_CHARS).collect::<String>().into());
    let key: Map<String, Value> = columns.key.iter().cloned().zip(key.iter().map(shown)).collect();
    Differing { class, key, columns: Vec::new(), less: Vec::new(), more: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Expect, Sql};

    fn line(rest: &[Option<&str>]) -> Line {
        let rest = rest.iter().map(|text| text.map(str::to_owned)).collect();
        Line { key: vec![Some("one".to_owned())], rest }
    }

    fn judged(blue: Vec<Line>, green: Vec<Line>) -> Answer {
        let columns = Columns { key: vec!["id".to_owned()], rest: vec!["a".to_owned(), "b".to_owned()] };
        let green_sql = Sql { text: String::new(), file: None };
        let (name, key) = ("one".to_owned(), columns.key.clone());
        let invariant = Invariant { name, blue: None, green: green_sql, expect: Expect::SetEqual, key, because: None };
        let mut answer = Answer::of_rows(&invariant);
        of_one_key(&mut answer, &columns, blue, green);
        answer
    }

    #[test]
    fn rows_of_one_key_are_paired_after_equal_ones_are_gone() {
        let (a, b) = (line(&[Some("1"), None]), line(&[Some("1"), Some("")]));
        assert!(judged(vec![a.clone(), b.clone()], vec![b.clone(), a.clone()]).holds, "in any order");
        let one = judged(vec![a.clone(), b.clone()], vec![b.clone()]);
        assert_eq!((one.missing, one.extra, one.changed), (1, 0, 0), "{one:?}");
        let twice = judged(vec![a.clone()], vec![a.clone(), a.clone()]);
        assert_eq!((twice.missing, twice.extra, twice.changed), (0, 1, 0), "a duplicate is one too many");
        let null = judged(vec![a], vec![b]);
        assert_eq!((null.changed, null.rows[0].columns.join(" ").as_str()), (1, "b"), "null is not empty");
        let way = |one, other| judged(vec![line(&[Some(one), None])], vec![line(&[Some(other), None])]).words();
        assert!(way("10", "9").contains("in a (less on green)") && way("9", "10").contains("in a (more on green)"));
        assert!(way("10", "nine").ends_with("in a"), "what is no number is only another one");
    }
}
