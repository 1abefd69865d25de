//! The section `hot_queries`: one text for both sides, or one for each.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{HotQueries, HotQuery, Sql};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::Kind;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn hot_queries(&mut self, typed: &typed::HotQueries) -> HotQueries {
        let place = Place::top("hot_queries");
        let small = self.size(&place.key("small_table"), &typed.small_table);
        let queries = place.key("queries");
        let queries =
            typed.queries.iter().enumerate().map(|(index, query)| self.hot_query(&queries.index(index), query));
        HotQueries { cost_ratio: typed.cost_ratio, queries: queries.collect(), small_table_bytes: small.unwrap_or(1) }
    }

    fn hot_query(&mut self, place: &Place, typed: &typed::HotQuery) -> HotQuery {
        let name = self.name(&place.key("name"), &typed.name);
        if let Some(accept) = &typed.accept {
            self.nonempty(&place.key("accept"), accept);
        }
        let mut sql =
            |key: &str, text: &String| -> Sql { self.sql(&place.key(key), text, Kind::Query).unwrap_or_else(no_sql) };
        let (blue, green) = match (&typed.sql, &typed.blue, &typed.green) {
            (Some(text), None, None) => {
                let sql = sql("sql", text);
                (sql.clone(), sql)
            }
            (None, Some(blue), Some(green)) => (sql("blue", blue), sql("green", green)),
            _ => {
                let hint = "`sql` where both engines send the same query, both `blue` and `green` where they differ";
                let message = format!("`{place}` must have either `sql`, or `blue` and `green`");
                self.problems.key(place, message, hint);
                (no_sql(), no_sql())
            }
        };
        HotQuery { name, blue, green, accept: typed.accept.clone() }
    }
}
