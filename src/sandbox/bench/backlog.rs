//! A backlog: changes that are written on blue while nobody levels, each in a transaction of its own, as an application would.

use super::BenchError;
use super::place::{Place, connect};

/// Most changes of one backlog.
const CHANGES: u32 = 200_000;
/// How many changes there are to one hot key.
const HEAT: u32 = 100;
/// Blue's log need not reach the disk for each of them: only how fast they are taken over is measured.
const QUICKLY: &str = "set synchronous_commit = off";

/// Which rows a backlog touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Each row once: two in five are updates, one in ten is a delete, the rest are new.
    Distinct,
    /// Updates of few rows, again and again.
    Hot,
}

impl Backlog {
    /// Its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Distinct => "distinct",
            Self::Hot => "hot",
        }
    }

    /// Writes it on blue. `mark` makes its new rows differ from those of every other; the last change is the row of this name.
    pub(super) async fn write(self, place: &Place, changes: u32, mark: &str) -> Result<(), BenchError> {
        let refused = BenchError::sql("write a backlog on blue");
        let blue = connect(&place.blue).await?;
        blue.batch_execute(QUICKLY).await.map_err(&refused)?;
        let statement = match self {
            Self::Distinct => distinct(changes, mark),
            Self::Hot => hot(changes, mark),
        };
        blue.batch_execute(&statement).await.map_err(&refused)?;
        blue.batch_execute(&new_row(&format!("'{mark}'"))).await.map_err(&refused)?;
        // What a client would wait for: the log is on the disk before anybody is timed.
        blue.batch_execute("checkpoint").await.map_err(&refused)
    }
}

/// How many changes a backlog has on a blue with so many token rows: no more than there are keys for.
pub(super) fn changes(rows: u32) -> u32 {
    rows.min(CHANGES)
}

/// A token whose signature is the SQL expression `signature`.
pub(super) fn new_row(signature: &str) -> String {
    format!(
        "insert into hydra_oauth2_access (signature, request_id, client_id, scope, granted_scope, form_data, session_data, subject)
         values ({signature}, 'bench', 'service-000', 'read', 'read', 'grant_type=client_credentials&scope=read',
                 repeat('{{\"bench\":1}}', 40), 'service-000')"
    )
}

fn distinct(changes: u32, mark: &str) -> String {
    let (updates, deletes) = (changes / 5 * 2, changes / 10);
    let inserts = changes - updates - deletes;
    let old = updates + deletes;
    let insert = new_row(&format!("'{mark}-' || n"));
    format!(
        "do $$ declare one record; n integer := 0; begin
           for one in select signature from hydra_oauth2_access order by md5('{mark}' || signature) limit {old} loop
             n := n + 1;
             if n <= {updates} then update hydra_oauth2_access set active = not active where signature = one.signature;
             else delete from hydra_oauth2_access where signature = one.signature; end if;
             commit;
           end loop;
           for n in 1 .. {inserts} loop {insert}; commit; end loop;
         end $$"
    )
}

fn hot(changes: u32, mark: &str) -> String {
    let keys = (changes / HEAT).max(1);
    format!(
        "do $$ declare keys text[]; begin
           keys := array(select signature from hydra_oauth2_access order by md5('{mark}' || signature) limit {keys});
           for n in 1 .. {changes} loop
             update hydra_oauth2_access set granted_scope = 'read ' || n where signature = keys[1 + n % {keys}]; commit;
           end loop;
         end $$"
    )
}
