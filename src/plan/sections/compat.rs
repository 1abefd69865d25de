//! The section `compat`: files are read with the plan, so that what was approved is what is asked.

use crate::plan::document as typed;
use crate::plan::model::Compat;
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn compat(&mut self, typed: &typed::Compat) -> Compat {
        let place = Place::top("compat");
        if typed.statements.is_empty() && !typed.statistics {
            let hint = "`statements` names files, `statistics: true` asks blue; or leave `compat` out";
            self.problems.key(&place, "`compat` asks for no statement", hint);
        }
        let place = place.key("statements");
        let read = |(index, name): (usize, &String)| {
            let place = place.index(index);
            self.fixed(&place, name);
            self.nonempty(&place, name);
            if self.problems.is_spoiled(&place) {
                return None;
            }
            self.file(&place, name).map(|text| (name.clone(), text))
        };
        let statements = typed.statements.iter().enumerate().filter_map(read).collect();
        Compat { statements, statistics: typed.statistics }
    }
}
