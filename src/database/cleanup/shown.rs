//! Keys and values of rows as a person may see them: enough to find a row again, and nothing that lets somebody in.

/// Words in the names of columns that hold what is secret, or leads to it.
const SECRET: [&str; 11] = [
    "signature",
    "secret",
    "token",
    "verifier",
    "challenge",
    "csrf",
    "password",
    "session_data",
    "form_data",
    "keydata",
    "jti",
];
/// Letters that are shown of a secret, and how long it must be for that.
const SHOWN: usize = 6;
const LONG: usize = 16;

/// A value of a column; of a secret only its beginning.
#[must_use]
pub fn shown(column: &str, value: &str) -> String {
    let name = column.to_lowercase();
    if !SECRET.iter().any(|word| name.contains(word)) {
        return value.to_owned();
    }
    let begins: String = value.chars().take(SHOWN).collect();
    if value.chars().count() < LONG { "***".to_owned() } else { format!("{begins}…") }
}

/// A row of columns with their values, as `column=value, …`.
pub(super) fn row(columns: &[(&str, Option<String>)]) -> String {
    let said = columns.iter().map(|(column, value)| match value {
        Some(value) => format!("{column}={}", shown(column, value)),
        None => format!("{column} is null"),
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_only_how_it_begins() {
        assert_eq!(shown("client_id", "app-one"), "app-one");
        assert_eq!(shown("signature", "0123456789abcdef"), "012345…");
        assert_eq!(shown("Refresh_Token", "short"), "***");
        let told = row(&[("id", Some("7".to_owned())), ("login_challenge", None)]);
        assert_eq!(told, "id=7, login_challenge is null");
    }
}
