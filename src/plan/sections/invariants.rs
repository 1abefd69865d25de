//! The sections `invariants` and `repairs`.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{Expect, Invariant, Repair, TableName};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::{Kind, written_table};

impl Resolver<'_, '_> {
    pub(in crate::plan) fn invariants(&mut self, typed: &[typed::Invariant]) -> Vec<Invariant> {
        let place = Place::top("invariants");
        typed.iter().enumerate().map(|(index, one)| self.invariant(&place.index(index), one)).collect()
    }

    fn invariant(&mut self, place: &Place, typed: &typed::Invariant) -> Invariant {
        if let Some(because) = &typed.because {
            self.nonempty(&place.key("because"), because);
        }
        let mut sql = |key: &str, text: &String| self.sql(&place.key(key), text, Kind::Question).unwrap_or_else(no_sql);
        let blue = typed.blue.as_ref().map(|text| sql("blue", text));
        let green = sql("green", &typed.green);
        let expect = match &typed.expect {
            typed::Expect::Word(typed::ExpectWord::Equal) => Expect::Equal,
            typed::Expect::Word(typed::ExpectWord::AtLeast) => Expect::AtLeast,
            typed::Expect::Word(typed::ExpectWord::SetEqual) => Expect::SetEqual,
            typed::Expect::Word(typed::ExpectWord::Empty) => Expect::Empty,
            typed::Expect::Within(typed::ExpectWithin { within }) => {
                Expect::Within { rows: within.rows, percent: within.percent }
            }
        };
        let name = self.name(&place.key("name"), &typed.name);
        Invariant { name, blue, green, expect, key: typed.key.clone(), because: typed.because.clone() }
    }

    pub(in crate::plan) fn repairs(&mut self, typed: &[typed::Repair]) -> Vec<Repair> {
        let place = Place::top("repairs");
        typed.iter().enumerate().map(|(index, one)| self.repair(&place.index(index), one)).collect()
    }

    fn repair(&mut self, place: &Place, typed: &typed::Repair) -> Repair {
        self.nonempty(&place.key("because"), &typed.because);
        let sql = self.sql(&place.key("sql"), &typed.sql, Kind::Repair).unwrap_or_else(no_sql);
        let nowhere = TableName { schema: "public".to_owned(), name: String::new() };
        Repair {
            name: self.name(&place.key("name"), &typed.name),
            invariant: typed.invariant.clone(),
            table: written_table(&sql.text).unwrap_or(nowhere),
            sql,
            cap_rows: typed.cap.rows,
            cap_percent: typed.cap.percent,
            because: typed.because.clone(),
        }
    }
}
