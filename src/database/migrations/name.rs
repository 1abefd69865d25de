//! What the name of a migration's file says: its version, its words, and for the engine's files dialect, autocommit and direction.

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// The digits, as written.
    pub(super) version: String,
    /// The words behind the version.
    pub(super) title: String,
    /// The dialect, when the file is for one.
    pub(super) dialect: Option<String>,
    /// Whether the file runs outside a transaction by its name.
    pub(super) is_autocommit: bool,
    /// Whether it takes a version back.
    pub(super) is_down: bool,
}

/// Dialects that name PostgreSQL.
const OURS: [&str; 3] = ["postgres", "postgresql", "pg"];
const OTHERS: [&str; 7] = ["cockroach", "cockroachdb", "mysql", "mariadb", "sqlite", "sqlite3", "mssql"];

impl Name {
    /// Whether the file is for PostgreSQL: without a dialect, or with its own.
    pub(super) fn is_ours(&self) -> bool {
        self.dialect.as_deref().is_none_or(|dialect| OURS.contains(&dialect))
    }

    /// `<digits>_<name>[.dialect][.autocommit].{up,down}.sql`; answers what does not fit.
    pub(super) fn engine(file: &str) -> Result<Self, String> {
        const FORM: &str = "name it `<digits>_<name>[.dialect][.autocommit].{up,down}.sql`";
        let mut parts = file.split('.').rev();
        if parts.next() != Some("sql") {
            return Err(format!("it does not end in `.sql`; {FORM}"));
        }
        let is_down = match parts.next() {
            Some("up") => false,
            Some("down") => true,
            _ => return Err(format!("it does not say `.up` or `.down`; {FORM}")),
        };
        let rest: Vec<&str> = parts.collect();
        let (first, marks) = rest.split_last().ok_or_else(|| FORM.to_owned())?;
        let (version, title) =
            first.split_once('_').ok_or_else(|| format!("it has no `_` behind its digits; {FORM}"))?;
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("it does not begin with digits; {FORM}"));
        }
        if title.is_empty() {
            return Err(format!("it has no name behind its digits; {FORM}"));
        }
        let (is_autocommit, dialects) = match marks {
            ["autocommit", dialects @ ..] => (true, dialects),
            dialects => (false, dialects),
        };
        let dialect = match dialects {
            [] => None,
            [dialect] if OURS.contains(dialect) || OTHERS.contains(dialect) => Some((*dialect).to_owned()),
            [other] => {
                return Err(format!(
                    "`{other}` is no dialect that is known ({}, {}); {FORM}",
                    OURS.join(", "),
                    OTHERS.join(", ")
                ));
            }
            _ => return Err(format!("it says more than one dialect; {FORM}")),
        };
        Ok(Self { version: version.to_owned(), title: title.to_owned(), dialect, is_autocommit, is_down })
    }

    /// `V<number>__<words>.sql`, as refinery takes it; answers what does not fit.
    pub(super) fn refinery(file: &str) -> Result<Self, String> {
        const FORM: &str = "it would be skipped silently; name it `V<number>__<words>.sql`";
        let parts = file.strip_suffix(".sql").and_then(|stem| stem.split_once("__"));
        let (version, title) = parts.ok_or(FORM)?;
        let digits = version.strip_prefix(['V', 'U']).ok_or(FORM)?;
        let is_number = digits.parse::<i64>().is_ok() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = !title.is_empty() && title.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_number || !is_name {
            return Err(FORM.to_owned());
        }
        let (version, title) = (digits.to_owned(), title.to_owned());
        Ok(Self { version, title, dialect: None, is_autocommit: false, is_down: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_engine_s_names() {
        let name = Name::engine("20220210000001000000_nid.postgres.autocommit.up.sql").expect("a name");
        assert_eq!((name.version.as_str(), name.title.as_str()), ("20220210000001000000", "nid"));
        assert_eq!((name.dialect.as_deref(), name.is_autocommit, name.is_down), (Some("postgres"), true, false));
        assert!(!Name::engine("1_a.mysql.down.sql").expect("a name").is_ours());
        assert!(Name::engine("1_a.autocommit.up.sql").expect("a name").is_autocommit);
        for (wrong, why) in [
            ("1_a.sql", "`.up`"),
            ("a_1.up.sql", "digits"),
            ("1a.up.sql", "`_`"),
            ("1_.up.sql", "no name"),
            ("1_a.oracle.up.sql", "`oracle`"),
            ("1_a.autocommit.postgres.up.sql", "more than one"),
            ("1_a.up.fizz", "`.sql`"),
            ("_a.up.sql", "digits"),
        ] {
            let said = Name::engine(wrong).expect_err(wrong);
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn reads_refinery_s_names() {
        assert_eq!(Name::refinery("V12__add_column.sql").expect("a name").version, "12");
        for wrong in ["V1_a.sql", "001_a.sql", "V1__a-b.sql", "V1.1__a.sql", "V1__.sql", "v1__a.sql", "V1__a.rs"] {
            assert!(Name::refinery(wrong).is_err(), "{wrong}");
        }
    }
}
