//! Which pieces a table is copied in: ranges of blocks of the one table that drives its mapping, or all of it. Pure.
//!
//! A range can be read fast and in any order, and its rows are committed with the note that says so; after a crash only the ranges that
//! are not noted are read again, in a new snapshot.

/// Blocks of one table, the first to the one before the end; the last range has no end, so that it also takes what was added since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) from: i64,
    pub(super) to: Option<i64>,
}

impl Blocks {
    /// All of them.
    pub(super) const ALL: Self = Self { from: 0, to: None };

    /// As a predicate over the rows called `alias` (a quoted name); none for all of them.
    pub(super) fn predicate(self, alias: &str) -> Option<String> {
        let from = (self.from > 0).then(|| format!("{alias}.ctid >= '({},0)'", self.from));
        let to = self.to.map(|to| format!("{alias}.ctid < '({to},0)'"));
        let both: Vec<String> = from.into_iter().chain(to).collect();
        (!both.is_empty()).then(|| both.join(" and "))
    }

    /// How many blocks of a table of `total` lie in the range.
    pub(super) fn count(self, total: i64) -> i64 {
        (self.to.unwrap_or(total).min(total) - self.from).max(0)
    }
}

/// A table of `total` blocks in ranges of `size`, together all of it.
pub(super) fn ranges(total: i64, size: i64) -> Vec<Blocks> {
    let size = size.max(1);
    let many = (total.max(1) + size - 1) / size;
    (0..many).map(|at| Blocks { from: at * size, to: (at + 1 < many).then_some((at + 1) * size) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_table_is_one_range_without_a_condition() {
        assert_eq!(ranges(0, 8), [Blocks::ALL]);
        assert_eq!(ranges(8, 8), [Blocks::ALL]);
        assert_eq!(Blocks::ALL.predicate("t"), None);
    }

    #[test]
    fn the_last_range_has_no_end() {
        let found = ranges(17, 8);
        let predicates: Vec<_> = found.iter().map(|blocks| blocks.predicate("\"t\"").expect("a condition")).collect();
        let wanted =
            ["\"t\".ctid < '(8,0)'", "\"t\".ctid >= '(8,0)' and \"t\".ctid < '(16,0)'", "\"t\".ctid >= '(16,0)'"];
        assert_eq!(predicates, wanted);
        assert_eq!(found.iter().map(|blocks| blocks.count(17)).collect::<Vec<_>>(), [8, 8, 1]);
    }

    proptest! {
        #[test]
        fn every_block_lies_in_one_range(total in 0i64..5000, size in 1i64..700, block in 0i64..9000) {
            let found = ranges(total, size);
            let holding = found.iter().filter(|blocks| block >= blocks.from && blocks.to.is_none_or(|to| block < to));
            prop_assert_eq!(holding.count(), 1);
        }
    }
}
