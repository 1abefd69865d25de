//! What a statement leaves behind, taken into what is known.

use super::known::{Known, Rule, Table, bare};
use super::tree::{columns, defined, named, plain, relations};
use squawk_syntax::ast::{
    self, AlterColumnOption, AlterTableAction, AstNode, ColumnClause, ColumnConstraint, Constraint, Stmt,
};

impl Known {
    /// Takes in what a statement leaves behind.
    pub fn learn(&mut self, statement: &Stmt) {
        match statement {
            Stmt::CreateTable(create) => self.create(create),
            Stmt::CreateTableAs(create) => self.made(create.table_name().and_then(|name| defined(&name))),
            Stmt::CreateMaterializedView(create) => {
                let view = create.view().and_then(|name| defined(&name));
                self.views.extend(view.clone().map(|view| (view, relations(statement.syntax()).into_iter().collect())));
                self.made(view);
            }
            Stmt::SelectInto(select) => {
                self.made(select.into_clause().and_then(|into| defined(&into).or_else(|| named(&into))))
            }
            Stmt::CreateView(create) => {
                let view = create.view().and_then(|view| defined(&view));
                self.views.extend(view.map(|view| (view, relations(statement.syntax()).into_iter().collect())));
            }
            Stmt::CreateStatistics(create) => {
                let table = create.from_table().and_then(|from| named(&from));
                if let (Some(name), Some(table)) = (create.statistics().and_then(|name| defined(&name)), table) {
                    self.statistics.insert(name, table);
                }
            }
            Stmt::CreateIndex(create) => {
                let table = create.table_relation_name().and_then(|table| named(&table));
                if let (Some(index), Some(table)) = (create.index().and_then(|index| defined(&index)), table) {
                    self.indexes.insert(index.clone(), table);
                    self.index_columns.extend(plain_columns(create).map(|columns| (index, columns)));
                }
                self.computed_by(create);
            }
            Stmt::CreateDomain(create) => {
                let is_checked = |one: &ast::DomainQualifier| {
                    matches!(
                        one,
                        ast::DomainQualifier::Constraint(
                            Constraint::CheckConstraint(_) | Constraint::NotNullConstraint(_)
                        )
                    )
                };
                let has_rules = create.domain_qualifiers().any(|one| is_checked(&one));
                self.domains.extend(create.domain().and_then(|name| defined(&name)).map(|name| (name, has_rules)));
            }
            Stmt::CreateType(create) => {
                self.domains.extend(create.type_name().and_then(|name| defined(&name)).map(|name| (name, false)));
            }
            Stmt::AlterDomain(alter) => {
                let is_stricter = matches!(
                    alter.action(),
                    Some(ast::AlterDomainAction::AddConstraint(_) | ast::AlterDomainAction::SetNotNull(_))
                );
                let domain = alter.domain_ref().and_then(|domain| named(&domain)).filter(|_| is_stricter);
                self.domains.extend(domain.map(|domain| (domain, true)));
            }
            Stmt::DropIndex(drop) => drop.index_refs().filter_map(|index| named(&index)).for_each(|index| {
                self.indexes.remove(&index);
            }),
            Stmt::DropTable(drop) => {
                drop.table_name_refs().filter_map(|table| named(&table)).for_each(|table| self.forget(&table))
            }
            Stmt::AlterTable(alter) => {
                if let Some(table) = alter.table_relation_name().and_then(|table| named(&table)) {
                    alter.actions().for_each(|action| self.alter(&table, &action));
                }
            }
            _ => {}
        }
    }

    /// Notes on which columns an index depends otherwise than by holding them.
    fn computed_by(&mut self, create: &ast::CreateIndex) {
        let Some(table) = create.table_relation_name().and_then(|table| named(&table)) else { return };
        let Some(table) = self.tables.get_mut(&table) else { return };
        let items = create.partition_item_list();
        let expressions: Vec<_> =
            items.iter().flat_map(|items| items.partition_items()).filter_map(|item| item.expr()).collect();
        let is_column = |one: &ast::Expr| table.columns.contains_key(&plain(one.syntax()).replace('"', ""));
        if create.where_clause().is_none() && expressions.iter().all(is_column) {
            return;
        }
        let named = expressions.iter().flat_map(|one| columns(one.syntax()));
        let conditions = create.where_clause().into_iter().flat_map(|clause| columns(clause.syntax()));
        let used: Vec<String> = named.chain(conditions).filter(|one| table.columns.contains_key(one)).collect();
        table.computed.extend(used);
    }

    fn made(&mut self, table: Option<String>) {
        if let Some(table) = table {
            self.tables.entry(table).or_insert_with(|| Table { is_new: true, ..Table::default() });
        }
    }

    fn forget(&mut self, table: &str) {
        self.tables.remove(table);
        for other in self.tables.values_mut() {
            other.default_partition.take_if(|rest| rest == table);
        }
        self.indexes.retain(|_, on| on != table);
    }

    fn create(&mut self, create: &ast::CreateTable) {
        let Some(name) = create.table_name().and_then(|name| defined(&name)) else { return };
        if self.tables.contains_key(&name) {
            return;
        }
        let mut table = Table { is_new: true, ..Table::default() };
        let above = create.partition_of().and_then(|of| named(&of)).and_then(|of| self.tables.get(&of));
        if let Some(above) = above {
            (table.columns, table.not_null) = (above.columns.clone(), above.not_null.clone());
        }
        table.is_partitioned = create.partition_by().is_some();
        table.parent =
            create.partition_of().and_then(|of| named(&of)).or_else(|| create.inherits().and_then(|of| named(&of)));
        for arg in create.table_arg_list().into_iter().flat_map(|list| list.args()) {
            match arg {
                ast::TableArg::Column(column) => {
                    let Some(at) = column.name().map(|name| name.text()) else { continue };
                    let ty = column.ty().map(|ty| plain(ty.syntax())).unwrap_or_default();
                    table.columns.insert(at.clone(), ty);
                    for clause in column.clauses() {
                        if let ColumnClause::ColumnConstraint(constraint) = clause {
                            column_rule(&name, &mut table, &at, &constraint);
                        }
                    }
                }
                ast::TableArg::TableConstraint(constraint) => {
                    if let Some(constraint) = Constraint::cast(constraint.syntax().clone()) {
                        table_rule(&name, &mut table, &constraint);
                    }
                }
                ast::TableArg::LikeClause(_) => {}
            }
        }
        if create.partition_of().is_some()
            && let Some(parent) = table.parent.as_ref().and_then(|parent| self.tables.get_mut(parent))
        {
            let is_rest = matches!(create.partition_type(), Some(ast::PartitionType::PartitionDefault(_)));
            parent.is_partitioned = true;
            parent.default_partition = if is_rest { Some(name.clone()) } else { parent.default_partition.take() };
        }
        for (rule, kind) in &table.rules {
            if matches!(kind, Rule::Key(_)) {
                self.indexes.insert(rule.clone(), name.clone());
            }
        }
        self.tables.insert(name, table);
    }

    pub(in crate::database::migrations) fn alter(&mut self, name: &str, action: &AlterTableAction) {
        if let AlterTableAction::TableRenameTo(rename) = action {
            if let Some(to) = rename.table_name().and_then(|to| defined(&to)) {
                self.rename(name, to);
            }
            return;
        }
        if let AlterTableAction::AttachPartition(attach) = action
            && let Some(child) = attach.table_name_ref().and_then(|child| named(&child))
        {
            let is_rest = matches!(attach.partition_type(), Some(ast::PartitionType::PartitionDefault(_)));
            self.tables.entry(child.clone()).or_default().parent = Some(name.to_owned());
            let parent = self.tables.entry(name.to_owned()).or_default();
            parent.is_partitioned = true;
            parent.default_partition = if is_rest { Some(child) } else { parent.default_partition.take() };
        }
        let table = self.tables.entry(name.to_owned()).or_default();
        match action {
            AlterTableAction::AddColumn(add) => {
                let Some(column) = add.column_name().map(|column| column.text()) else { return };
                table.columns.insert(column.clone(), add.ty().map(|ty| plain(ty.syntax())).unwrap_or_default());
                for constraint in add.constraints() {
                    if let Some(constraint) = ColumnConstraint::cast(constraint.syntax().clone()) {
                        column_rule(name, table, &column, &constraint);
                    }
                }
            }
            AlterTableAction::DropColumn(drop) => {
                if let Some(column) = drop.column_name_ref().map(|column| ast::normalize_name_node(column.syntax())) {
                    table.columns.remove(&column);
                    table.not_null.remove(&column);
                    if table.primary_key.contains(&column) {
                        table.primary_key.clear();
                    }
                    table
                        .rules
                        .retain(|_, rule| !matches!(rule, Rule::Foreign { columns, .. } if columns.contains(&column)));
                }
            }
            AlterTableAction::AddConstraint(add) => {
                if let Some(constraint) = add.constraint() {
                    table_rule(name, table, &constraint);
                }
            }
            AlterTableAction::DropConstraint(drop) => {
                if let Some(rule) =
                    drop.constraint_name_ref().and_then(|rule| named(&rule).or_else(|| Some(plain(rule.syntax()))))
                {
                    let dropped = table.rules.remove(&rule);
                    if dropped.is_some_and(|rule| matches!(rule, Rule::Key(columns) if columns == table.primary_key)) {
                        table.primary_key.clear();
                    }
                }
            }
            AlterTableAction::ValidateConstraint(validate) => {
                let rule = validate.constraint_name_ref().and_then(|rule| named(&rule));
                if let Some(Rule::Check { is_valid, .. }) = rule.and_then(|rule| table.rules.get_mut(&rule)) {
                    *is_valid = true;
                }
            }
            AlterTableAction::AlterColumn(alter) => alter_column(table, alter),
            AlterTableAction::RenameColumn(rename) => {
                let from = rename.column_name_ref().map(|from| ast::normalize_name_node(from.syntax()));
                let to = rename.column_name().map(|to| to.text());
                if let (Some(from), Some(to)) = (from, to) {
                    renamed(table, &from, &to);
                }
            }
            _ => {}
        }
    }

    fn rename(&mut self, from: &str, to: String) {
        if let Some(table) = self.tables.remove(from) {
            self.tables.insert(to.clone(), table);
        }
        self.indexes.values_mut().filter(|on| *on == from).for_each(|on| on.clone_from(&to));
        for table in self.tables.values_mut() {
            for rule in table.rules.values_mut() {
                if let Rule::Foreign { parent, .. } = rule
                    && parent == from
                {
                    parent.clone_from(&to);
                }
            }
        }
    }
}

/// The columns of an index that holds columns alone.
fn plain_columns(create: &ast::CreateIndex) -> Option<Vec<String>> {
    let column = |item: ast::PartitionItem| {
        let name = plain(item.expr()?.syntax()).trim_matches('"').to_owned();
        (!name.contains(['(', ' ', '"'])).then_some(name)
    };
    create.partition_item_list()?.partition_items().map(column).collect()
}

/// A column that is called otherwise, wherever it is named.
fn renamed(table: &mut Table, from: &str, to: &str) {
    if let Some(ty) = table.columns.remove(from) {
        table.columns.insert(to.to_owned(), ty);
    }
    if table.not_null.remove(from) {
        table.not_null.insert(to.to_owned());
    }
    let lists = table.rules.values_mut().filter_map(|rule| match rule {
        Rule::Foreign { columns, .. } | Rule::Key(columns) => Some(columns),
        Rule::Check { .. } => None,
    });
    for column in lists.flatten().chain(&mut table.primary_key) {
        if column == from {
            to.clone_into(column);
        }
    }
}

fn alter_column(table: &mut Table, alter: &ast::AlterColumn) {
    let Some(column) = alter.column_name_ref().map(|column| ast::normalize_name_node(column.syntax())) else { return };
    match alter.option() {
        Some(AlterColumnOption::SetType(to)) => {
            table.columns.insert(column, to.ty().map(|ty| plain(ty.syntax())).unwrap_or_default());
        }
        Some(AlterColumnOption::SetNotNull(_)) => {
            table.not_null.insert(column);
        }
        Some(AlterColumnOption::DropNotNull(_)) => {
            table.not_null.remove(&column);
        }
        _ => {}
    }
}

/// The column that a check keeps from being null, when it says just that.
pub(super) fn not_null_of(check: &ast::CheckConstraint) -> Option<String> {
    let text = plain(check.expr()?.syntax());
    let column = text.trim_start_matches('(').trim_end_matches(')').trim().strip_suffix("is not null")?.trim();
    let is_name = !column.is_empty() && !column.contains([' ', '(']);
    is_name.then(|| column.trim_matches('"').to_owned())
}

fn column_rule(name: &str, table: &mut Table, column: &str, constraint: &ColumnConstraint) {
    let given = Constraint::cast(constraint.syntax().clone()).and_then(|one| one.constraint_name());
    let given = given.map(|name| ast::normalize_name_node(name.syntax()));
    let called = |suffix: &str| given.clone().unwrap_or_else(|| format!("{}_{column}_{suffix}", bare(name)));
    match constraint {
        ColumnConstraint::NotNullConstraint(_) => {
            table.not_null.insert(column.to_owned());
        }
        ColumnConstraint::PrimaryKeyConstraint(_) => {
            table.not_null.insert(column.to_owned());
            table.primary_key = vec![column.to_owned()];
            let key = given.unwrap_or_else(|| format!("{}_pkey", bare(name)));
            table.rules.insert(key, Rule::Key(vec![column.to_owned()]));
        }
        ColumnConstraint::UniqueConstraint(_) => {
            table.rules.insert(called("key"), Rule::Key(vec![column.to_owned()]));
        }
        ColumnConstraint::ReferencesConstraint(references) => {
            if let Some(parent) = references.table().and_then(|parent| named(&parent)) {
                table.rules.insert(called("fkey"), Rule::Foreign { parent, columns: vec![column.to_owned()] });
            }
        }
        ColumnConstraint::CheckConstraint(check) => {
            table.rules.insert(called("check"), Rule::Check { not_null: not_null_of(check), is_valid: true });
            table.computed.insert(column.to_owned());
        }
        _ => {}
    }
}

fn table_rule(name: &str, table: &mut Table, constraint: &Constraint) {
    let given = constraint.constraint_name().map(|name| ast::normalize_name_node(name.syntax()));
    let listed = columns(constraint.syntax());
    let called = |columns: &[String], suffix: &str| {
        given.clone().unwrap_or_else(|| format!("{}_{}_{suffix}", bare(name), columns.join("_")))
    };
    match constraint {
        Constraint::ForeignKeyConstraint(foreign) => {
            let own = foreign.from_columns().map(|list| columns(list.syntax())).unwrap_or_default();
            if let Some(parent) = foreign.table_name_ref().and_then(|parent| named(&parent)) {
                table.rules.insert(called(&own, "fkey"), Rule::Foreign { parent, columns: own });
            }
        }
        Constraint::CheckConstraint(check) => {
            let rule = Rule::Check { not_null: not_null_of(check), is_valid: !constraint.is_not_valid() };
            table.rules.insert(given.unwrap_or_else(|| format!("{}_check", bare(name))), rule);
            table.computed.extend(listed.into_iter().filter(|one| table.columns.contains_key(one)));
        }
        Constraint::PrimaryKeyConstraint(_) => {
            table.not_null.extend(listed.iter().cloned());
            table.primary_key.clone_from(&listed);
            table.rules.insert(given.unwrap_or_else(|| format!("{}_pkey", bare(name))), Rule::Key(listed));
        }
        Constraint::UniqueConstraint(_) | Constraint::ExcludeConstraint(_) => {
            table.rules.insert(called(&listed, "key"), Rule::Key(listed.clone()));
        }
        _ => {}
    }
}
