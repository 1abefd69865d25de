//! The questions of a diff: sums of hashes by bucket, then the rows of buckets that differ, column by column as hashes. Only text.
//!
//! A part is a range of the hash of the key, not of the key: two servers need not agree on an order then, and a key that means nothing
//! (a signature) spreads evenly. No value leaves a server, except keys.

use super::declared::Declared;
use crate::database::apply::is_exact;
use crate::database::mapping::{KeyColumn, TableMapping};
use crate::database::sql::{ident, qualified};

/// Rows in a bucket, about: what is read again when one of them differs.
const ROWS_IN_BUCKET: u64 = 1000;
/// Most buckets of a part: what both sides hold in memory.
const MOST_BUCKETS: u64 = 4096;
/// Types whose own hash does not tell all their values apart, and what gives their bytes.
const FOLDED: [(&str, &str); 3] = [
    ("bigint", "int8send"),
    ("timestamp without time zone", "timestamp_send"),
    ("timestamp with time zone", "timestamptz_send"),
];

/// How a row becomes a number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    /// The server's own of a record, which servers of the same kind share; several times as fast as printing the row.
    Own,
    /// The first half of an MD5 of the row's text, which all share.
    Md5,
}

impl Hash {
    /// The hash of some columns of `q`. A null is no empty text in it.
    pub(super) fn of<'c>(self, columns: impl IntoIterator<Item = &'c KeyColumn>) -> String {
        self.seeded(columns, "0")
    }

    /// The same, begun at the number `seed`: hashes of rows with two seeds have nothing in common, though all values be the same.
    fn seeded<'c>(self, columns: impl IntoIterator<Item = &'c KeyColumn>, seed: &str) -> String {
        let values: Vec<String> = columns.into_iter().map(|column| self.value(column)).collect();
        self.of_values(&values.join(", "), seed)
    }

    /// The hash of values that are written out.
    pub(super) fn of_values(self, values: &str, seed: &str) -> String {
        match self {
            Self::Own => format!("pg_catalog.hash_record_extended(row({values}), {seed})"),
            Self::Md5 => {
                format!("('x' || pg_catalog.substr(pg_catalog.md5(row({values})::text), 1, 16))::bit(64)::bigint")
            }
        }
    }

    /// A column as it is hashed: as text, unless its type's own hash says as much. That of an enum says what it is in one database, those of
    /// numbers take 1.0 for 1.00, and that of a `jsonb` turns round after 64 elements. Those of 64-bit numbers, and of times, which are such,
    /// fold one half over the other and take -1 for 4294967295: their eight bytes are hashed instead.
    fn value(self, column: &KeyColumn) -> String {
        let (name, kind) = (ident(&column.name), column.type_sql.as_str());
        let folded = FOLDED.iter().find(|(folded, _)| *folded == kind);
        match (self, folded) {
            (Self::Own, Some((_, send))) => format!("pg_catalog.{send}(q.{name}::{kind})"),
            (Self::Own, None) if is_exact(kind) => format!("q.{name}::{kind}"),
            (Self::Own, None) => format!("q.{name}::text collate \"C\""),
            (Self::Md5, _) => format!("q.{name}"),
        }
    }
}

/// A part of one table's rows: those whose key has a hash that leaves `at` when divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: i32,
    pub(super) of: i32,
}

impl Part {
    /// Of a bare equation the planner expects one row in two hundred, and joins the many that come one by one; of what it cannot see through, half.
    fn condition(self) -> String {
        if self.of == 1 { "true".to_owned() } else { format!("coalesce(p.spot % {} = {}, false)", self.of, self.at) }
    }

    /// The bucket of a row, of so many in this part.
    fn bucket(self, buckets: u64) -> String {
        if self.of == 1 { format!("p.spot % {buckets}") } else { format!("(p.spot / {}) % {buckets}", self.of) }
    }
}

/// The questions about one table on one side.
pub(super) struct Questions<'t> {
    table: &'t TableMapping,
    /// A select of the carried columns.
    select: String,
    hash: Hash,
    part: Part,
    buckets: u64,
}

impl<'t> Questions<'t> {
    /// On the source: what the mapping derives.
    pub(super) fn of_source(table: &'t TableMapping, hash: Hash, part: Part, rows: u64) -> Self {
        Self { table, select: table.select.clone(), hash, part, buckets: buckets(rows, part) }
    }

    /// On the target: what stands there.
    pub(super) fn of_target(table: &'t TableMapping, hash: Hash, part: Part, rows: u64) -> Self {
        let columns: Vec<String> = table.columns.iter().map(|column| ident(&column.name)).collect();
        let select =
            format!("select {} from {}", columns.join(", "), qualified(&table.target.schema, &table.target.name));
        Self { table, select, hash, part, buckets: buckets(rows, part) }
    }

    /// Bucket, rows and sum of their hashes, for each bucket that has any.
    pub(super) fn sums(&self) -> String {
        format!(
            "select {} as bucket, pg_catalog.count(*), pg_catalog.sum(p.whole)::text
from (select {} as spot, {} as whole from ({}) q) p where {} group by 1",
            self.part.bucket(self.buckets),
            self.spot(),
            self.whole(),
            self.select,
            self.part.condition()
        )
    }

    /// Of the buckets `$1`: place in the order (twice: a number and, for two keys of one number, a text), key, hash of the row, hash of each column beside the key, whether each of `declared` means it; in the order of places and keys.
    pub(super) fn rows(&self, declared: &[&Declared]) -> String {
        let keys: Vec<String> =
            self.table.key.iter().map(|column| format!("q.{}::text", ident(&column.name))).collect();
        let declared: Vec<String> = declared.iter().map(|one| one.question()).collect();
        let columns: Vec<String> = self.beside_key().map(|column| self.hash.of([column])).collect();
        format!(
            "select p.spot, p.place, p.key, p.whole, p.columns, p.declared
from (select {} as spot, array[{}]::text[] as key, {} as whole, array[{}]::bigint[] as columns, array[{}]::boolean[] as declared, {} collate \"C\" as place from ({}) q) p
where {} and {} = any($1::bigint[]) order by p.spot, p.place, p.whole",
            self.spot(),
            keys.join(", "),
            self.whole(),
            columns.join(", "),
            declared.join(", "),
            row_text(&self.table.key),
            self.select,
            self.part.condition(),
            self.part.bucket(self.buckets)
        )
    }

    /// Columns beside the key, in the order of their hashes.
    pub(super) fn beside_key(&self) -> impl Iterator<Item = &'t KeyColumn> + use<'t> {
        let table = self.table;
        table.columns.iter().filter(|column| !table.key.iter().any(|key| key.name == column.name))
    }

    /// The hash of the key, without its sign. It is taken several times for each row; that of a record of one text is the text's own, which is
    /// had for half the price.
    fn spot(&self) -> String {
        let hash = match (self.hash, self.table.key.as_slice()) {
            (Hash::Own, [column]) if !is_exact(&column.type_sql) => {
                format!("pg_catalog.hashtextextended({}, 0)", self.hash.value(column))
            }
            _ => self.hash.of(&self.table.key),
        };
        format!("({hash} & 9223372036854775807)")
    }

    /// The hash of all columns, begun at the key's. The server adds the hashes of columns up, each times a power of 31: begun at one number, two
    /// rows that have exchanged a value would add up to what they were before.
    fn whole(&self) -> String {
        self.hash.seeded(&self.table.columns, &self.spot())
    }
}

/// A row as text, for an order that both sides share.
fn row_text<'c>(columns: impl IntoIterator<Item = &'c KeyColumn>) -> String {
    let names: Vec<String> = columns.into_iter().map(|column| format!("q.{}", ident(&column.name))).collect();
    format!("row({})::text", names.join(", "))
}

fn buckets(rows: u64, part: Part) -> u64 {
    (rows / ROWS_IN_BUCKET / u64::from(part.of.unsigned_abs().max(1))).clamp(1, MOST_BUCKETS)
}
