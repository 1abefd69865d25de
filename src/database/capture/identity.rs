//! Replica identities: by which columns the log names the rows of a captured table.
//!
//! A table whose primary key the other side does not keep is named by another unique key, which the mapping has chosen; what stood
//! before is noted and comes back when the capture is stopped.

use super::slot::IDENTITY;
use super::{Capture, CaptureError, CaptureStanding};
use crate::database::mapping::{Mapping, Touch};
use crate::database::sql::{ident, qualified};
use crate::database::term::{self, Term};
use crate::plan::TableName;
use std::time::Duration;
use tokio_postgres::{Client, GenericClient, Transaction};

const CREATE: &str = "create table if not exists cutover.replica_identity (
  schema text not null, name text not null, before text not null, primary key (schema, name))";
const NOTED: &str = "select schema, name, before from cutover.replica_identity";
const EXISTS: &str = "select to_regclass('cutover.replica_identity') is not null";
/// A unique index that may be a replica identity and holds all of the wanted columns, the narrowest first; and what stands now.
const INDEX: &str = "select i.relname::text,
  case c.relreplident when 'd' then 'default' when 'f' then 'full' when 'n' then 'nothing'
    else (select 'using index ' || quote_ident(o.relname) from pg_index y join pg_class o on o.oid = y.indexrelid
           where y.indrelid = c.oid and y.indisreplident) end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_index x on x.indrelid = c.oid join pg_class i on i.oid = x.indexrelid
where n.nspname = $1 and c.relname = $2 and x.indisunique and x.indimmediate and x.indisvalid and x.indpred is null and x.indexprs is null
  and $3::text[] <@ array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnotnull and a.attnum = any(x.indkey[0:x.indnkeyatts - 1]))
  and not exists (select from pg_attribute a where a.attrelid = c.oid and not a.attnotnull and a.attnum = any(x.indkey[0:x.indnkeyatts - 1]))
order by x.indnkeyatts, i.relname limit 1";

impl Capture {
    /// Sees that the log names the rows of each source table by the columns by which the mapping knows them; call it before
    /// [`Capture::start`]. A capture that stands is left as it is. `lock` is the longest wait for a table.
    ///
    /// # Errors
    /// `NoIdentity` when a table has no unique key with these columns; nothing was changed.
    pub async fn identify(
        &self,
        client: &mut Client,
        term: &Term,
        mapping: &Mapping,
        lock: Duration,
    ) -> Result<(), CaptureError> {
        if matches!(self.verify(client).await?, CaptureStanding::Present(_)) {
            return Ok(());
        }
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        let settings = format!("set local lock_timeout = {}; {CREATE}", lock.as_millis().max(1));
        transaction.batch_execute(&settings).await.map_err(self.server("create table cutover.replica_identity"))?;
        for touch in mapping.tables.iter().flat_map(|table| &table.touched_by) {
            self.identify_table(&transaction, touch).await?;
        }
        transaction.commit().await.map_err(self.server("commit the replica identities"))
    }

    async fn identify_table(&self, transaction: &Transaction<'_>, touch: &Touch) -> Result<(), CaptureError> {
        let table = &touch.source;
        let wanted: Vec<&str> = touch.source_key.iter().map(|column| column.name.as_str()).collect();
        let row = transaction.query_opt(IDENTITY, &[&table.schema, &table.name]).await;
        let row = row.map_err(self.server("read an identity"))?;
        let row = row.ok_or_else(|| CaptureError::NoTable { side: self.side, table: table.clone() })?;
        let (is_full, columns): (bool, Vec<String>) = (row.get(0), row.get(1));
        if is_full || wanted.iter().all(|name| columns.iter().any(|column| column == name)) {
            return Ok(());
        }
        let found = transaction.query_opt(INDEX, &[&table.schema, &table.name, &wanted]).await;
        let found = found.map_err(self.server("look for a unique index"))?;
        let found = found.ok_or_else(|| CaptureError::NoIdentity { side: self.side, table: table.clone() })?;
        let (index, before): (&str, &str) = (found.get(0), found.get(1));
        let note = "insert into cutover.replica_identity values ($1, $2, $3) on conflict do nothing";
        let noted = transaction.execute(note, &[&table.schema, &table.name, &before]).await;
        noted.map_err(self.server("note a replica identity"))?;
        let alter = identity_sql(table, &format!("using index {}", ident(index)));
        transaction.batch_execute(&alter).await.map_err(self.server("change a replica identity"))
    }

    /// Gives tables back the identity that they had; a table that is gone is done.
    pub(super) async fn forget_identities(&self, transaction: &Transaction<'_>) -> Result<(), CaptureError> {
        let exists = transaction.query_one(EXISTS, &[]).await.map_err(self.server("look for replica identities"))?;
        if !exists.get::<_, bool>(0) {
            return Ok(());
        }
        for row in transaction.query(NOTED, &[]).await.map_err(self.server("read replica identities"))? {
            let table = TableName { schema: row.get(0), name: row.get(1) };
            if self.is_there(transaction, &table).await? {
                let alter = identity_sql(&table, row.get(2));
                transaction.batch_execute(&alter).await.map_err(self.server("give back a replica identity"))?;
            }
        }
        let drop = "drop table cutover.replica_identity";
        transaction.batch_execute(drop).await.map_err(self.server("drop table cutover.replica_identity"))
    }

    async fn is_there(&self, client: &impl GenericClient, table: &TableName) -> Result<bool, CaptureError> {
        let row = client.query_opt(IDENTITY, &[&table.schema, &table.name]).await;
        Ok(row.map_err(self.server("read an identity"))?.is_some())
    }
}

fn identity_sql(table: &TableName, identity: &str) -> String {
    format!("alter table {} replica identity {identity}", qualified(&table.schema, &table.name))
}
