//! What constraints and partitions that come and go lock and do.

use super::alter_table::{TAKES_THE_LOCK, dropped_key};
use super::known::{Known, Rule, bare};
use super::lock::{Effect, Lock, Work};
use super::tree::{columns, has_word, named};
use squawk_syntax::ast::{self, AstNode, Constraint};

use Lock::{AccessExclusive, RowShare, ShareRowExclusive, ShareUpdateExclusive};

pub(super) fn add_constraint(table: &str, constraint: &Constraint, known: &Known) -> Vec<Effect> {
    let name = constraint.constraint_name().map(|name| ast::normalize_name_node(name.syntax()));
    let name = name.as_deref().unwrap_or("NAME");
    let later = constraint.is_not_valid();
    let validated = format!("alter table {table} add … not valid; alter table {table} validate constraint {name}");
    match constraint {
        Constraint::ForeignKeyConstraint(foreign) => {
            let parent = foreign.table_name_ref().and_then(|parent| named(&parent)).unwrap_or_default();
            let (work, why) = match later {
                true => (Work::None, "writers of both tables wait for a moment"),
                false => (Work::Scan, "every row is looked up in the other table while nobody writes to either"),
            };
            let safe = (!later).then_some(validated);
            let mut effects = vec![Effect {
                safe: safe.clone(),
                ..Effect::on("add-foreign-key", table, ShareRowExclusive, work, why)
            }];
            if parent != table {
                effects.push(Effect { safe, ..Effect::on("add-foreign-key", parent, ShareRowExclusive, work, why) });
            }
            effects
        }
        Constraint::CheckConstraint(_) | Constraint::NotNullConstraint(_) if !later => {
            vec![
                Effect::on(
                    "add-check",
                    table,
                    AccessExclusive,
                    Work::Scan,
                    "every row is checked while nobody reads or writes",
                )
                .safe(validated),
            ]
        }
        Constraint::CheckConstraint(_) | Constraint::NotNullConstraint(_) => {
            vec![Effect::on("add-check", table, AccessExclusive, Work::None, TAKES_THE_LOCK)]
        }
        Constraint::UniqueConstraint(_) | Constraint::PrimaryKeyConstraint(_)
            if has_word(constraint.syntax(), "using") && has_word(constraint.syntax(), "index") =>
        {
            add_by_index(table, constraint, known)
        }
        _ => {
            let exclusion = matches!(constraint, Constraint::ExcludeConstraint(_));
            let listed = columns(constraint.syntax()).join(", ");
            let effect = Effect::on(
                "add-key",
                table,
                AccessExclusive,
                Work::Build,
                "its index is built while nobody reads or writes",
            );
            let form = format!(
                "create unique index concurrently {name} on {table} ({listed}); alter table {table} add constraint {name} … using index {name}"
            );
            vec![if exclusion {
                effect.safe("an exclusion cannot be added later: do it on a green database")
            } else {
                effect.safe(form)
            }]
        }
    }
}

/// A primary key over columns that may be null looks at every row.
fn add_by_index(table: &str, constraint: &Constraint, known: &Known) -> Vec<Effect> {
    let is_primary = matches!(constraint, Constraint::PrimaryKeyConstraint(_));
    let index = constraint.syntax().descendants().find_map(ast::UsingIndexName::cast).and_then(|using| named(&using));
    // It is named without the schema, which is its table's.
    let index = index.map(|index| format!("{}{index}", table.strip_suffix(bare(table)).unwrap_or_default()));
    let columns = index.and_then(|index| known.index_columns.get(&index));
    let refuses_null = |column: &String| known.tables.get(table).is_some_and(|table| table.not_null.contains(column));
    let is_proved = columns.is_some_and(|columns| columns.iter().all(refuses_null));
    if is_primary && !is_proved {
        let why = "columns that may be null are checked row by row while nobody reads or writes";
        return vec![
            Effect::on("add-key-by-index", table, AccessExclusive, Work::Scan, why)
                .safe("set its columns not null first, by a checked constraint"),
        ];
    }
    vec![Effect::on("add-key-by-index", table, AccessExclusive, Work::None, TAKES_THE_LOCK)]
}

pub(super) fn drop_constraint(table: &str, drop: &ast::DropConstraint, known: &Known) -> Vec<Effect> {
    let name = drop
        .constraint_name_ref()
        .map(|name| named(&name).unwrap_or_else(|| ast::normalize_name_node(name.syntax())))
        .unwrap_or_default();
    let mut effects = vec![Effect::on("drop-constraint", table, AccessExclusive, Work::None, TAKES_THE_LOCK)];
    match known.tables.get(table).and_then(|found| found.rules.get(&name)) {
        Some(Rule::Foreign { parent, .. }) if parent != table => {
            effects.push(dropped_key(parent.clone(), "a foreign key is dropped"))
        }
        Some(Rule::Key(_)) if has_word(drop.syntax(), "cascade") => {
            effects.extend(
                known
                    .children(table)
                    .into_iter()
                    .map(|child| dropped_key(child.to_owned(), "its foreign key goes with the key")),
            );
        }
        Some(_) => {}
        // What is not known may be a foreign key: every table that this one references would be locked.
        None => effects.extend(
            known
                .parents(table, None)
                .into_iter()
                .map(|parent| dropped_key(parent, "the constraint may be a foreign key")),
        ),
    }
    effects
}

pub(super) fn validate_constraint(table: &str, validate: &ast::ValidateConstraint, known: &Known) -> Vec<Effect> {
    let name = validate.constraint_name_ref().and_then(|name| named(&name)).unwrap_or_default();
    let mut effects = vec![Effect::on(
        "validate-constraint",
        table,
        ShareUpdateExclusive,
        Work::Scan,
        "every row is checked, and everyone goes on",
    )];
    if let Some(Rule::Foreign { parent, .. }) = known.tables.get(table).and_then(|found| found.rules.get(&name)) {
        effects.push(Effect::on(
            "validate-constraint",
            parent.clone(),
            RowShare,
            Work::None,
            "rows are looked up in it",
        ));
    }
    effects
}

/// The default partition of a table that gets another one: what lies there already must not belong into that.
pub(super) fn narrowed(rule: &'static str, table: &str, known: &Known) -> Option<Effect> {
    let why =
        "the default partition: its rows are checked for the new bounds unless a constraint of its own excludes them";
    let form = "give the default partition a valid check that excludes the new bounds first, then add the partition, then drop the check";
    known.rest_of(table).map(|rest| Effect::on(rule, rest, AccessExclusive, Work::Scan, why).safe(form))
}

/// The default partition of a table that loses another one.
pub(super) fn widened(rule: &'static str, table: &str, child: &str, known: &Known) -> Option<Effect> {
    let rest = known.rest_of(table).filter(|rest| rest != child);
    rest.map(|rest| {
        Effect::on(rule, rest, AccessExclusive, Work::None, "the default partition: its bounds become wider")
    })
}

pub(super) fn attach_partition(table: &str, attach: &ast::AttachPartition, known: &Known) -> Vec<Effect> {
    let child = attach.table_name_ref().and_then(|child| named(&child)).unwrap_or_default();
    let form = "give the table a valid check of the same bounds first, then attach it, then drop the check";
    let is_rest = matches!(attach.partition_type(), Some(ast::PartitionType::PartitionDefault(_)));
    let mut found = vec![
        Effect::on(
            "attach-partition",
            table,
            ShareUpdateExclusive,
            Work::None,
            "gains a partition, and everyone goes on",
        ),
        Effect::on(
            "attach-partition",
            child,
            AccessExclusive,
            Work::Scan,
            "its rows are checked unless a constraint proves the bounds",
        )
        .safe(form),
    ];
    found.extend(narrowed("attach-partition", table, known).filter(|_| !is_rest));
    found
}

pub(super) fn detach_partition(table: &str, detach: &ast::DetachPartition, known: &Known) -> Vec<Effect> {
    let child = detach.table_name_ref().and_then(|child| named(&child)).unwrap_or_default();
    if detach.detach_partition_option().is_some() {
        return vec![
            Effect::on("detach-partition", table, ShareUpdateExclusive, Work::None, "everyone goes on"),
            Effect::on("detach-partition", child, AccessExclusive, Work::None, "waits for those who use the partition"),
        ];
    }
    let form = format!("alter table {table} detach partition {child} concurrently");
    let mut found = vec![
        Effect::on("detach-partition", table, AccessExclusive, Work::None, "waits for everyone on every partition")
            .safe(form),
        Effect::on(
            "detach-partition",
            child.clone(),
            AccessExclusive,
            Work::None,
            "waits for those who use the partition",
        ),
    ];
    found.extend(widened("detach-partition", table, &child, known));
    found
}
