//! The list of changes up to our marker, read as touched keys: what a snapshot sees is touched, what may be consumed is counted.
//!
//! Owns the rule of visibility: commit order in the log is not the order in which commits become visible, so a commit counts only
//! when its transaction is visible in the snapshot from which rows are derived. All visible commits touch their keys; only the longest
//! prefix of visible ones is consumed, the rest stays in the slot and comes again. Pure: messages in, keys out.

use super::pgoutput::{self, DecodeError, Lsn, Message, Relation};
use super::snapshot::Snapshot;
use crate::plan::TableName;
use std::collections::{BTreeSet, HashMap, HashSet};
use thiserror::Error;

/// Prefix of our markers in the log.
pub const MARKER_PREFIX: &str = "cutover";

/// A key of a blue table, as text, in the order of its key columns.
pub type Key = Vec<String>;

/// Why the list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangesError {
    /// Bytes that make no sense.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The list names a table that is not captured: it was renamed.
    #[error("the change list names {table}, which is not captured: a captured table was renamed on blue")]
    UnknownTable {
        /// `schema.name`.
        table: String,
    },
    /// A key column is not part of the table's replica identity any more.
    #[error("{table}: its replica identity no longer holds {column}")]
    IdentityChanged {
        /// `schema.name`.
        table: String,
        /// The key column.
        column: String,
    },
}

/// A captured table and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedTable {
    /// Its name on blue.
    pub name: TableName,
    /// Its key columns.
    pub key: Vec<String>,
}

/// Reads messages one after another.
#[derive(Debug)]
pub struct ChangeReader<'a> {
    tables: &'a [CapturedTable],
    snapshot: Snapshot,
    marker: &'a [u8],
    ignored: &'a [String],
    relations: HashMap<u32, Described>,
    visible: bool,
    marked: bool,
    gap: bool,
    /// Where the slot may be advanced to: the end of the consumed prefix.
    pub consumed_end: Option<Lsn>,
    /// Commits in the consumed prefix.
    pub commits: u64,
    /// Commits before the marker that stay in the slot.
    pub left: u64,
    /// Whether the marker was seen; the list ends there.
    pub done: bool,
    /// Touched keys by captured table, since the last [`ChangeReader::take_keys`].
    keys: Vec<HashSet<Key>>,
    count: usize,
    /// Captured tables that were emptied.
    pub emptied: BTreeSet<usize>,
}

#[derive(Debug)]
enum Described {
    /// A captured table, by its place, and where its key columns stand.
    Known { table: usize, positions: Vec<usize> },
    /// Captured, and of no interest to this mapping.
    Ignored,
    /// Neither, by name.
    Strange(String),
}

impl<'a> ChangeReader<'a> {
    /// A reader for one batch: its snapshot, and the content of its marker.
    #[must_use]
    pub fn new(tables: &'a [CapturedTable], snapshot: Snapshot, marker: &'a [u8]) -> Self {
        Self {
            tables,
            snapshot,
            marker,
            ignored: &[],
            relations: HashMap::new(),
            visible: false,
            marked: false,
            gap: false,
            consumed_end: None,
            commits: 0,
            left: 0,
            done: false,
            keys: vec![HashSet::new(); tables.len()],
            count: 0,
            emptied: BTreeSet::new(),
        }
    }

    /// The same reader, to which changes of these tables (`schema.name`) mean nothing: the capture has more tables than the mapping.
    #[must_use]
    pub fn ignoring(self, ignored: &'a [String]) -> Self {
        Self { ignored, ..self }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// When it cannot be understood, or shows that a captured table changed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ChangesError> {
        match pgoutput::read(bytes)? {
            Message::Begin { xid } => {
                self.visible = self.snapshot.sees(self.snapshot.widen(xid));
                self.marked = false;
            }
            Message::Commit { end, .. } => self.commit(end),
            Message::Relation(relation) => self.describe(&relation)?,
            Message::Change { relation, old, new } if self.visible => {
                let Some((table, positions)) = described(&self.relations, relation)? else { return Ok(()) };
                let name = || self.tables[table].name.to_string();
                for key in pgoutput::touched_keys(name, positions, old.as_ref(), new.as_ref())? {
                    self.count += usize::from(self.keys[table].insert(key));
                }
            }
            Message::Truncate { relations } if self.visible => {
                for oid in relations {
                    self.emptied.extend(described(&self.relations, oid)?.map(|(table, _)| table));
                }
            }
            Message::Marker { prefix, content } => {
                self.marked |= prefix == MARKER_PREFIX && content == self.marker;
            }
            Message::Change { .. } | Message::Truncate { .. } | Message::Other => {}
        }
        Ok(())
    }

    fn commit(&mut self, end: Lsn) {
        if self.marked {
            self.done = true;
        } else if !self.visible {
            self.gap = true;
        }
        if self.gap {
            self.left += u64::from(!self.marked);
            return;
        }
        self.commits += u64::from(!self.marked);
        self.consumed_end = Some(end);
    }

    /// Notes a relation. One that is not captured may be described, as a partition is beside its root, and only not be changed.
    fn describe(&mut self, relation: &Relation) -> Result<(), ChangesError> {
        let name = format!("{}.{}", relation.schema, relation.name);
        let named = |table: &CapturedTable| table.name.schema == relation.schema && table.name.name == relation.name;
        let Some(table) = self.tables.iter().position(named) else {
            let described = if self.ignored.contains(&name) { Described::Ignored } else { Described::Strange(name) };
            self.relations.insert(relation.oid, described);
            return Ok(());
        };
        let position = |column: &String| {
            let found = relation.columns.iter().position(|found| found.is_identity && found.name == *column);
            found.ok_or_else(|| ChangesError::IdentityChanged { table: name.clone(), column: column.clone() })
        };
        let positions = self.tables[table].key.iter().map(position).collect::<Result<_, _>>()?;
        self.relations.insert(relation.oid, Described::Known { table, positions });
        Ok(())
    }

    /// How many keys wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.count
    }

    /// Takes the touched keys out, by captured table.
    pub fn take_keys(&mut self) -> Vec<(usize, Vec<Key>)> {
        self.count = 0;
        let sets = self.keys.iter_mut().enumerate().filter(|(_, keys)| !keys.is_empty());
        sets.map(|(table, keys)| (table, keys.drain().collect())).collect()
    }
}

fn described(relations: &HashMap<u32, Described>, oid: u32) -> Result<Option<(usize, &[usize])>, ChangesError> {
    match relations.get(&oid).ok_or(DecodeError::Undescribed { oid })? {
        Described::Known { table, positions } => Ok(Some((*table, positions))),
        Described::Ignored => Ok(None),
        Described::Strange(table) => Err(ChangesError::UnknownTable { table: table.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(xid: u32) -> Vec<u8> {
        [b"B".as_slice(), &[0; 16], &xid.to_be_bytes()].concat()
    }

    fn commit(end: u64) -> Vec<u8> {
        [b"C\0".as_slice(), &[0; 8], &end.to_be_bytes(), &[0; 8]].concat()
    }

    fn insert(key: &str) -> Vec<u8> {
        let length = u32::try_from(key.len()).expect("short").to_be_bytes();
        [b"I".as_slice(), &7u32.to_be_bytes(), b"N\0\x01t", &length, key.as_bytes()].concat()
    }

    fn relation(name: &str) -> Vec<u8> {
        [b"R".as_slice(), &7u32.to_be_bytes(), b"public\0", name.as_bytes(), b"\0d\0\x01\x01id\0", &[0; 8]].concat()
    }

    fn marker(content: &str) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("short").to_be_bytes();
        [b"M\x01".as_slice(), &[0; 8], b"cutover\0", &length, content.as_bytes()].concat()
    }

    fn tables() -> Vec<CapturedTable> {
        vec![CapturedTable { name: TableName { schema: "public".into(), name: "t".into() }, key: vec!["id".into()] }]
    }

    fn read(messages: &[Vec<u8>], snapshot: &str) -> (Option<Lsn>, u64, u64, bool, Vec<String>) {
        let tables = tables();
        let mut reader = ChangeReader::new(&tables, snapshot.parse().expect("a snapshot"), b"mark");
        for message in messages {
            reader.feed(message).expect("a good message");
        }
        let mut keys: Vec<String> = reader.take_keys().into_iter().flat_map(|(_, keys)| keys.concat()).collect();
        keys.sort();
        (reader.consumed_end, reader.commits, reader.left, reader.done, keys)
    }

    fn transaction(xid: u32, key: &str, end: u64) -> Vec<Vec<u8>> {
        vec![begin(xid), relation("t"), insert(key), commit(end)]
    }

    #[test]
    fn consumes_up_to_the_marker_when_all_is_visible() {
        let list = [transaction(10, "a", 100), transaction(11, "b", 110), vec![begin(20), marker("mark"), commit(120)]];
        let keys = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read(&list.concat(), "15:15:"), (Some(120), 2, 0, true, keys));
    }

    #[test]
    fn a_commit_not_yet_visible_stays_with_all_behind_it_and_what_is_visible_is_touched() {
        let list = [
            transaction(10, "a", 100),
            transaction(12, "unseen", 110),
            transaction(11, "b", 115),
            vec![begin(20), marker("mark"), commit(120)],
        ];
        let keys = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read(&list.concat(), "12:15:12"), (Some(100), 1, 2, true, keys));
    }

    #[test]
    fn nothing_is_consumed_when_the_first_is_not_visible() {
        let list = [transaction(15, "a", 100), vec![begin(20), marker("mark"), commit(120)]];
        assert_eq!(read(&list.concat(), "15:15:"), (None, 0, 1, true, vec![]));
    }

    #[test]
    fn another_batch_s_marker_is_a_commit_like_any() {
        let list = [vec![begin(10), marker("other"), commit(90)], vec![begin(20), marker("mark"), commit(120)]];
        assert_eq!(read(&list.concat(), "15:15:"), (Some(120), 1, 0, true, vec![]));
    }

    #[test]
    fn a_renamed_table_is_refused() {
        let tables = tables();
        let mut reader = ChangeReader::new(&tables, "15:15:".parse().expect("a snapshot"), b"mark");
        assert!(matches!(reader.feed(&begin(10)), Ok(())));
        assert!(matches!(reader.feed(&insert("a")), Err(ChangesError::Decode(DecodeError::Undescribed { oid: 7 }))));
        assert!(matches!(reader.feed(&relation("other")), Ok(())));
        assert!(matches!(reader.feed(&insert("a")), Err(ChangesError::UnknownTable { .. })));
        let ignored = ["public.other".to_owned()];
        let mut reader = ChangeReader::new(&tables, "15:15:".parse().expect("a snapshot"), b"mark").ignoring(&ignored);
        for message in [begin(10), relation("other"), insert("a")] {
            reader.feed(&message).expect("it is captured, and of no interest");
        }
        assert_eq!(reader.waiting(), 0);
    }
}
