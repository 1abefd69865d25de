//! Foreign keys: added without looking at a row, which is quick, and then validated, several tables at a time.

use super::build::{sizes, with_memory};
use super::{Definitions, ForeignKey, IndexError, read};
use crate::database::client::connect;
use crate::database::sql::{ident, qualified};
use crate::database::term::{Term, hold};
use crate::plan::{Secret, TableName};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_postgres::Client;

/// Adds what is missing of `wanted.foreign_keys` and validates each against every row, with `workers` connections of `memory_bytes` each, and tells of each
/// as it stands. The keys of one table are validated one after the other, since its lock (`share update exclusive`) keeps others of its kind out.
///
/// # Errors
/// The first key that some row breaks (23503, with the row's key), or that the server refuses; it is then left unvalidated.
pub async fn build_foreign_keys(
    url: &Secret,
    term: &Term,
    wanted: &Definitions,
    workers: usize,
    memory_bytes: u64,
    tell: &(dyn Fn(usize, usize, &str) + Sync),
) -> Result<(), IndexError> {
    let mut client = connect(url, "green").await?;
    let tables: Vec<TableName> = wanted.foreign_keys.iter().map(|key| key.table.clone()).collect();
    let standing = read(&client, &tables).await?;
    let mut unproved: BTreeMap<&TableName, Vec<&ForeignKey>> = BTreeMap::new();
    for key in &wanted.foreign_keys {
        let found = standing.foreign_keys.iter().find(|other| other.table == key.table && other.name == key.name);
        if found.is_none() {
            let add = format!("add constraint {} {} not valid", ident(&key.name), key.definition);
            alter(&mut client, term, key, "add foreign key", &add).await?;
        }
        if !found.is_some_and(|found| found.is_valid) {
            unproved.entry(&key.table).or_default().push(key);
        }
    }
    let sizes = sizes(&client, &tables).await?;
    let mut unproved: Vec<Vec<&ForeignKey>> = unproved.into_values().collect();
    let cost = |keys: &Vec<&ForeignKey>| sizes.get(&keys[0].table).copied().unwrap_or(0) * keys.len() as i64;
    unproved.sort_by_key(|keys| std::cmp::Reverse(cost(keys)));
    let all = wanted.foreign_keys.len();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(all - unproved.iter().map(Vec::len).sum::<usize>()));
    let work = || async {
        let mut client = with_memory(url, memory_bytes).await?;
        while let Some(keys) = unproved.get(next.fetch_add(1, Ordering::Relaxed)) {
            for key in keys {
                let validate = format!("validate constraint {}", ident(&key.name));
                alter(&mut client, term, key, "validate foreign key", &validate).await?;
                tell(1 + done.fetch_add(1, Ordering::Relaxed), all, &key.name);
            }
        }
        Ok::<(), IndexError>(())
    };
    let workers = workers.clamp(1, unproved.len().max(1));
    let results = futures_util::future::join_all((0..workers).map(|_| work())).await;
    results.into_iter().collect()
}

async fn alter(
    client: &mut Client,
    term: &Term,
    key: &ForeignKey,
    act: &'static str,
    change: &str,
) -> Result<(), IndexError> {
    let failed = |source| IndexError::Server { act, object: format!("{} of {}", key.name, key.table), source };
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    let table = qualified(&key.table.schema, &key.table.name);
    transaction.batch_execute(&format!("alter table {table} {change}")).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
