//! The output of the `pgoutput` plugin, protocol version 1: just what keeping level needs from it.
//!
//! Owns reading one message from bytes: transaction boundaries, relations, the keys that a change touched (old and new), truncates
//! and markers. Row values beside the key are skipped unread. Pure: bytes in, words out; bytes that make no sense are an error and
//! never a panic.

use thiserror::Error;

/// A position in the write-ahead log.
pub type Lsn = u64;

/// Why a message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message ends before it is whole.
    #[error("a pgoutput message of kind {kind:?} ends too early")]
    Short {
        /// Its first byte as a character.
        kind: char,
    },
    /// A kind or a tag that protocol version 1 does not know.
    #[error("a pgoutput message has an unknown kind or tag {tag:?}")]
    Unknown {
        /// The byte as a character.
        tag: char,
    },
    /// Text that is not UTF-8, although the connection asks for it.
    #[error("a pgoutput message holds text that is not UTF-8")]
    Text,
    /// A change of a relation that was not described before it.
    #[error("a pgoutput message changes relation {oid}, which was not described before")]
    Undescribed {
        /// The relation's oid.
        oid: u32,
    },
    /// A key column without a value: the table's replica identity does not hold the key.
    #[error("a change of {table} does not carry its key: the replica identity of the table is not its key")]
    Keyless {
        /// `schema.name`.
        table: String,
    },
}

/// A relation as described before its first change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Oid on the sending server.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns in the order of its tuples.
    pub columns: Vec<RelationColumn>,
}

/// One column of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Name.
    pub name: String,
    /// Whether the replica identity holds it.
    pub is_identity: bool,
    /// Oid of its type.
    pub type_oid: u32,
}

/// Values of one tuple; `None` is NULL or a value that was not sent.
pub type Tuple = Vec<Option<String>>;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Begin {
        /// Its id, 32 bits.
        xid: u32,
    },
    /// It ends.
    Commit {
        /// Where its commit record begins.
        commit: Lsn,
        /// The position behind it: where a slot that has consumed it stands.
        end: Lsn,
    },
    /// A relation is described.
    Relation(Relation),
    /// A row changed: the identity of the old row where it was sent, and the new row.
    Change {
        /// The relation's oid.
        relation: u32,
        /// Old identity: sent when it changed, or the row was deleted.
        old: Option<Tuple>,
        /// New row; none for a delete.
        new: Option<Tuple>,
    },
    /// Tables were emptied.
    Truncate {
        /// Their oids.
        relations: Vec<u32>,
    },
    /// A logical message, such as our marker.
    Marker {
        /// Its prefix.
        prefix: String,
        /// Its content.
        content: Vec<u8>,
    },
    /// A message that means nothing to us (origin, type).
    Other,
}

/// Reads one message.
///
/// # Errors
/// When the bytes are not a message of protocol version 1.
pub fn read(bytes: &[u8]) -> Result<Message, DecodeError> {
    let kind = char::from(*bytes.first().ok_or(DecodeError::Short { kind: '?' })?);
    let mut reader = Reader { kind, rest: &bytes[1..] };
    match kind {
        'B' => reader.begin(),
        'C' => reader.commit(),
        'R' => reader.relation(),
        'I' | 'U' | 'D' => reader.change(),
        'T' => reader.truncate(),
        'M' => reader.marker(),
        'O' | 'Y' => Ok(Message::Other),
        tag => Err(DecodeError::Unknown { tag }),
    }
}

struct Reader<'a> {
    kind: char,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn begin(&mut self) -> Result<Message, DecodeError> {
        self.take(16)?;
        Ok(Message::Begin { xid: self.u32()? })
    }

    fn commit(&mut self) -> Result<Message, DecodeError> {
        self.take(1)?;
        Ok(Message::Commit { commit: self.u64()?, end: self.u64()? })
    }

    fn relation(&mut self) -> Result<Message, DecodeError> {
        let oid = self.u32()?;
        let schema = match self.text()? {
            "" => "pg_catalog".to_owned(),
            schema => schema.to_owned(),
        };
        let name = self.text()?.to_owned();
        self.take(1)?;
        let count = self.u16()?;
        let columns = (0..count).map(|_| self.column()).collect::<Result<_, _>>()?;
        Ok(Message::Relation(Relation { oid, schema, name, columns }))
    }

    fn column(&mut self) -> Result<RelationColumn, DecodeError> {
        let is_identity = self.u8()? & 1 == 1;
        let name = self.text()?.to_owned();
        let type_oid = self.u32()?;
        self.take(4)?;
        Ok(RelationColumn { name, is_identity, type_oid })
    }

    fn change(&mut self) -> Result<Message, DecodeError> {
        let relation = self.u32()?;
        let (mut old, mut new) = (None, None);
        let mut tag = self.u8()?;
        if self.kind != 'I' && (tag == b'K' || tag == b'O') {
            old = Some(self.tuple()?);
            if self.kind == 'D' {
                return Ok(Message::Change { relation, old, new });
            }
            tag = self.u8()?;
        }
        if self.kind == 'D' || tag != b'N' {
            return Err(DecodeError::Unknown { tag: char::from(tag) });
        }
        new.replace(self.tuple()?);
        Ok(Message::Change { relation, old, new })
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = self.u16()?;
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Option<String>, DecodeError> {
        match self.u8()? {
            b'n' | b'u' => Ok(None),
            b't' => {
                let length = self.u32()?;
                let bytes = self.take(length as usize)?;
                std::str::from_utf8(bytes).map(|text| Some(text.to_owned())).map_err(|_| DecodeError::Text)
            }
            tag => Err(DecodeError::Unknown { tag: char::from(tag) }),
        }
    }

    fn truncate(&mut self) -> Result<Message, DecodeError> {
        let count = self.u32()?;
        self.take(1)?;
        let relations = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(Message::Truncate { relations })
    }

    fn marker(&mut self) -> Result<Message, DecodeError> {
        self.take(9)?;
        let prefix = self.text()?.to_owned();
        let length = self.u32()?;
        let content = self.take(length as usize)?.to_vec();
        Ok(Message::Marker { prefix, content })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Short { kind: self.kind })?;
        let head = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(head).map_err(|_| DecodeError::Text)
    }
}

/// The keys that a change touched, as text: those of the old row and of the new one, without repetition.
///
/// `positions` are the key's columns within the relation's tuples. A value left out of the new row, because it is stored apart and did not
/// change, is the old row's.
///
/// # Errors
/// When neither tuple holds the whole key.
pub fn touched_keys(
    table: impl FnOnce() -> String,
    positions: &[usize],
    old: Option<&Tuple>,
    new: Option<&Tuple>,
) -> Result<Vec<Vec<String>>, DecodeError> {
    let before = old.and_then(|tuple| key_of(positions, tuple, None));
    let after = new.and_then(|tuple| key_of(positions, tuple, old));
    if (old.is_some() && before.is_none()) || (new.is_some() && after.is_none()) || (old.is_none() && new.is_none()) {
        return Err(DecodeError::Keyless { table: table() });
    }
    let mut keys: Vec<_> = before.into_iter().chain(after).collect();
    keys.dedup();
    Ok(keys)
}

fn key_of(positions: &[usize], tuple: &Tuple, fallback: Option<&Tuple>) -> Option<Vec<String>> {
    let value = |tuple: &Tuple, position: usize| tuple.get(position).cloned().flatten();
    positions.iter().map(|at| value(tuple, *at).or_else(|| fallback.and_then(|old| value(old, *at)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(values: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = u16::try_from(values.len()).expect("a short tuple").to_be_bytes().to_vec();
        for value in values {
            match value {
                None => bytes.push(b'n'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend(u32::try_from(text.len()).expect("a short text").to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        bytes
    }

    fn message(parts: &[&[u8]]) -> Message {
        read(&parts.concat()).expect("a whole message")
    }

    #[test]
    fn reads_the_bounds_of_a_transaction() {
        let begin = message(&[b"B", &7u64.to_be_bytes(), &0u64.to_be_bytes(), &42u32.to_be_bytes()]);
        assert_eq!(begin, Message::Begin { xid: 42 });
        let commit = message(&[b"C\0", &7u64.to_be_bytes(), &9u64.to_be_bytes(), &0u64.to_be_bytes()]);
        assert_eq!(commit, Message::Commit { commit: 7, end: 9 });
    }

    #[test]
    fn reads_a_relation() {
        let columns =
            [b"\x01id\0".as_slice(), &25u32.to_be_bytes(), &[255; 4], b"\0x\0", &23u32.to_be_bytes(), &[255; 4]];
        let read = message(&[b"R", &5u32.to_be_bytes(), b"public\0t\0d", &2u16.to_be_bytes(), &columns.concat()]);
        let Message::Relation(relation) = read else { panic!("{read:?}") };
        assert_eq!((relation.oid, relation.schema.as_str(), relation.name.as_str()), (5, "public", "t"));
        assert_eq!(relation.columns.iter().map(|c| c.is_identity).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_key_change_touches_the_old_key_and_the_new() {
        let oid = 5u32.to_be_bytes();
        let update = [b"U".as_slice(), &oid, b"K", &tuple(&[Some("a"), None]), b"N", &tuple(&[Some("b"), Some("v")])];
        let Message::Change { old, new, .. } = message(&update) else { panic!() };
        let keys = touched_keys(String::new, &[0], old.as_ref(), new.as_ref());
        assert_eq!(keys, Ok(vec![vec!["a".to_owned()], vec!["b".to_owned()]]));
        let delete = [b"D".as_slice(), &oid, b"K", &tuple(&[Some("a"), None])];
        let Message::Change { old, new, .. } = message(&delete) else { panic!() };
        assert_eq!(touched_keys(String::new, &[0], old.as_ref(), new.as_ref()), Ok(vec![vec!["a".to_owned()]]));
        let insert = [b"I".as_slice(), &oid, b"N", &tuple(&[Some("c"), None])];
        let Message::Change { old, new, .. } = message(&insert) else { panic!() };
        assert_eq!(touched_keys(String::new, &[0], old.as_ref(), new.as_ref()), Ok(vec![vec!["c".to_owned()]]));
    }

    #[test]
    fn a_key_value_stored_apart_comes_from_the_old_row() {
        let (old, new) = (vec![Some("long".to_owned())], vec![None]);
        assert_eq!(touched_keys(String::new, &[0], Some(&old), Some(&new)), Ok(vec![vec!["long".to_owned()]]));
        assert!(touched_keys(String::new, &[0], None, Some(&new)).is_err());
        assert!(touched_keys(String::new, &[3], Some(&old), None).is_err());
    }

    #[test]
    fn reads_truncates_and_markers() {
        let truncate = message(&[b"T", &2u32.to_be_bytes(), b"\0", &5u32.to_be_bytes(), &6u32.to_be_bytes()]);
        assert_eq!(truncate, Message::Truncate { relations: vec![5, 6] });
        let marker = message(&[b"M\x01", &9u64.to_be_bytes(), b"cutover\0", &3u32.to_be_bytes(), b"abc"]);
        assert_eq!(marker, Message::Marker { prefix: "cutover".into(), content: b"abc".to_vec() });
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "[BCRIUDTMOY]") {
            let _ = read(&bytes);
            let _ = read(&[kind.as_bytes(), &bytes].concat());
        }
    }
}
