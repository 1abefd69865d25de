//! Who owns what and who may do what on blue, and the statements that say the same on green.
//!
//! Roles are known by their names, with two exceptions that the plan makes: the application's role, and our own login. What belongs to a
//! role that green does not have stays ours, and a grant to one is left out.

use super::SchemaError;
use crate::database::inventory::{Kind, Object};
use crate::database::sql::ident;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;

/// What each object, and each column with grants of its own, says of its owner and its grants. An access list that was never changed is
/// null, and means the same on green.
const RIGHTS: &str = "
with o as (
  select case c.relkind when 'p' then 'r' else c.relkind::text end as kind, n.nspname::text as schema, c.relname::text as name, null::text as arguments,
         null::text as column_name, c.relowner as owner, c.relacl as acl,
         c.relkind = 'S' and exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                                       and d.deptype in ('i', 'a') and d.refobjsubid > 0) as is_linked
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  union all
  select c.relkind::text, n.nspname, c.relname, null, a.attname, c.relowner, a.attacl, true
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
   where a.attacl is not null and not a.attisdropped
  union all
  select 'routine', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), null, p.proowner, p.proacl, false
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
   where not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype in ('e', 'i'))
  union all
  select 'type', n.nspname, t.typname, null, null, t.typowner, t.typacl, false
    from pg_type t join pg_namespace n on n.oid = t.typnamespace left join pg_class c on c.oid = t.typrelid
   where (t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and c.relkind = 'c')
     and not exists (select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
  union all
  select 'statistics', n.nspname, s.stxname, null, null, s.stxowner, null, false
    from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace
  union all
  select 'collation', n.nspname, c.collname, null, null, c.collowner, null, false
    from pg_collation c join pg_namespace n on n.oid = c.collnamespace
   where not exists (select from pg_depend d where d.classid = 'pg_collation'::regclass and d.objid = c.oid and d.deptype = 'e')
  union all
  select 'schema', n.nspname, n.nspname, null, null, n.nspowner, n.nspacl, n.nspname = 'public'
    from pg_namespace n
   where not exists (select from pg_depend d where d.classid = 'pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')
)
select o.kind, o.schema, o.name, o.arguments, o.column_name, w.rolname::text, o.is_linked, o.acl is not null,
       case when a.grantee = 0 then 'public' else r.rolname::text end, a.grantee = 0, a.privilege_type, a.is_grantable
  from o join pg_roles w on w.oid = o.owner
  left join lateral aclexplode(o.acl) a on true
  left join pg_roles r on r.oid = a.grantee
 where o.schema not in ('cutover', 'information_schema') and o.schema not like 'pg\\_%'
 order by o.kind = 'schema' desc, o.kind, o.schema, o.name, o.arguments nulls first, o.column_name nulls first";
const ROLES: &str = "select rolname::text from pg_roles";

/// Which role of green stands for a role of blue.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    /// Roles that have another name on green.
    pub(super) renamed: BTreeMap<String, String>,
    /// The roles that green has.
    pub(super) there: BTreeSet<String>,
}

impl Roles {
    /// The application's roles by the plan, our logins by the servers.
    pub(super) async fn of(
        application: (&str, &str),
        blue: &impl GenericClient,
        green: &impl GenericClient,
    ) -> Result<Self, SchemaError> {
        let failed = || SchemaError::server("compare the roles of both sides");
        let login = "select session_user::text";
        let ours: String = blue.query_one(login, &[]).await.map_err(failed())?.get(0);
        let theirs: String = green.query_one(login, &[]).await.map_err(failed())?.get(0);
        let there = green.query(ROLES, &[]).await.map_err(failed())?.iter().map(|row| row.get(0)).collect();
        let renamed = [(ours, theirs), (application.0.to_owned(), application.1.to_owned())].into();
        Ok(Self { renamed, there })
    }

    fn green(&self, blue: &str) -> Option<&str> {
        let name = self.renamed.get(blue).map_or(blue, String::as_str);
        self.there.get(name).map(String::as_str)
    }
}

/// One line of the catalog: an object or a column, its owner, and one grant at most.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    object: Object,
    column: Option<String>,
    owner: String,
    /// Whether its owner is another object's affair.
    is_linked: bool,
    has_list: bool,
    grant: Option<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// None for everybody.
    role: Option<String>,
    privilege: String,
    is_grantable: bool,
}

/// The statements that give green's objects the owners and grants of blue's, schemas first.
pub(super) async fn statements(blue: &impl GenericClient, roles: &Roles) -> Result<Vec<String>, SchemaError> {
    let rows = blue.query(RIGHTS, &[]).await.map_err(SchemaError::server("read who may do what on blue"))?;
    let lines: Vec<Line> = rows.iter().filter_map(line).collect();
    Ok(said(&lines, roles))
}

fn line(row: &tokio_postgres::Row) -> Option<Line> {
    let kind = Kind::of(row.get(0))?;
    let object = Object { kind, schema: row.get(1), name: row.get(2), arguments: row.get(3) };
    let privilege: Option<String> = row.get(10);
    let is_public = row.get::<_, Option<bool>>(9).unwrap_or(false);
    let role: Option<String> = if is_public { None } else { row.get(8) };
    let grant = privilege.filter(|_| is_public || role.is_some()).map(|privilege| Grant {
        role,
        privilege,
        is_grantable: row.get::<_, Option<bool>>(11).unwrap_or(false),
    });
    Some(Line { object, column: row.get(4), owner: row.get(5), is_linked: row.get(6), has_list: row.get(7), grant })
}

fn said(lines: &[Line], roles: &Roles) -> Vec<String> {
    let mut said = Vec::new();
    let mut before: Option<&Line> = None;
    for line in lines {
        if before.is_none_or(|before| (&before.object, &before.column) != (&line.object, &line.column)) {
            said.extend(owner(line, roles));
        }
        said.extend(line.grant.as_ref().and_then(|grant| granted(line, grant, roles)));
        before = Some(line);
    }
    said
}

/// Its owner, and an empty list of grants where blue has changed it. What everybody may do in `public` is the server's affair.
fn owner(line: &Line, roles: &Roles) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(role) = roles.green(&line.owner).filter(|_| !line.is_linked) {
        said.push(format!("alter {} owner to {}", line.object.sql(), ident(role)));
    }
    if line.has_list && line.column.is_none() && !(line.object.kind == Kind::Schema && line.is_linked) {
        said.push(format!("revoke all on {} from public", target(&line.object)));
        said.extend(
            roles.green(&line.owner).map(|role| format!("revoke all on {} from {}", target(&line.object), ident(role))),
        );
    }
    said
}

fn granted(line: &Line, grant: &Grant, roles: &Roles) -> Option<String> {
    let role = match &grant.role {
        None => "public".to_owned(),
        Some(role) => ident(roles.green(role)?),
    };
    let column = line.column.as_ref().map(|column| format!(" ({})", ident(column))).unwrap_or_default();
    let option = if grant.is_grantable { " with grant option" } else { "" };
    Some(format!("grant {}{column} on {} to {role}{option}", grant.privilege, target(&line.object)))
}

/// As `grant` names it: every relation but a sequence is a table there.
fn target(object: &Object) -> String {
    match object.kind {
        Kind::View | Kind::MaterializedView | Kind::ForeignTable => {
            Object { kind: Kind::Table, ..object.clone() }.sql()
        }
        _ => object.sql(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind, owner: &str, grant: Option<(&str, &str)>) -> Line {
        let object = Object { kind, schema: "public".to_owned(), name: "x".to_owned(), arguments: None };
        let grant = grant.map(|(role, privilege)| Grant {
            role: (role != "public").then(|| role.to_owned()),
            privilege: privilege.to_owned(),
            is_grantable: false,
        });
        Line { object, column: None, owner: owner.to_owned(), is_linked: false, has_list: grant.is_some(), grant }
    }

    fn roles() -> Roles {
        let renamed = [("app".to_owned(), "app_green".to_owned())].into();
        Roles { renamed, there: ["app_green", "reader"].map(str::to_owned).into() }
    }

    #[test]
    fn the_application_s_role_has_green_s_name_and_others_their_own() {
        let mut of_column = line(Kind::Table, "app", Some(("reader", "UPDATE")));
        of_column.column = Some("c".to_owned());
        let lines = [
            line(Kind::Table, "app", Some(("app", "SELECT"))),
            line(Kind::Table, "app", Some(("reader", "SELECT"))),
            line(Kind::Table, "app", Some(("gone", "SELECT"))),
            line(Kind::Table, "app", Some(("public", "SELECT"))),
            of_column,
        ];
        let table = "table \"public\".\"x\"";
        assert_eq!(
            said(&lines[..4], &roles()),
            [
                format!("alter {table} owner to \"app_green\""),
                format!("revoke all on {table} from public"),
                format!("revoke all on {table} from \"app_green\""),
                format!("grant SELECT on {table} to \"app_green\""),
                format!("grant SELECT on {table} to \"reader\""),
                format!("grant SELECT on {table} to public"),
            ]
        );
        assert!(said(&lines[4..], &roles()).contains(&format!("grant UPDATE (\"c\") on {table} to \"reader\"")));
    }

    #[test]
    fn what_belongs_to_nobody_green_knows_stays_ours_and_a_list_never_changed_is_left() {
        assert!(said(&[line(Kind::View, "somebody", None)], &roles()).is_empty());
        let said = said(&[line(Kind::View, "somebody", Some(("reader", "SELECT")))], &roles());
        assert_eq!(
            said,
            [
                "revoke all on table \"public\".\"x\" from public",
                "grant SELECT on table \"public\".\"x\" to \"reader\""
            ]
        );
    }
}
