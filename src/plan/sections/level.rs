//! The section `level`: when the batches wait that bring green level.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{Level, Load};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::Kind;
use std::time::Duration;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn level(&mut self, typed: &typed::Level) -> Level {
        let place = Place::top("level");
        let load = typed.load.as_ref().map(|load| {
            let query = self.sql(&place.key("load").key("query"), &load.query, Kind::Value);
            Load { query: query.unwrap_or_else(no_sql), most: load.most }
        });
        let every = typed.every.as_ref().and_then(|every| self.length(&place.key("every"), every));
        Level {
            replica_lag: typed.replica_lag.as_ref().and_then(|lag| self.length(&place.key("replica_lag"), lag)),
            load,
            every: every.unwrap_or(Duration::from_secs(2)),
            fan_out: typed.fan_out.unwrap_or(100_000),
        }
    }
}
