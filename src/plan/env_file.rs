//! The text of an `--env-file`: `KEY=VALUE` lines. Owns their syntax; never shows a value, since most are secret.

use super::problem::Problem;
use super::references::is_name;
use std::collections::BTreeMap;

/// Reads the lines of an environment file: empty lines and `#` comments are skipped, `export ` may precede a name, a value may stand in
/// single quotes (as it is) or double quotes (with `\n`, `\t`, `\"`, `\\`, `\$`); ` #` ends a value without quotes. Nothing is
/// expanded.
///
/// # Errors
/// Every line that is not understood, or that sets a name again.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let mut variables = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        match assignment(line) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                if variables.insert(name.clone(), value).is_some() {
                    let hint = "keep one of the lines";
                    problems.push(Problem::of_line(index + 1, 1, format!("{name} is set twice"), hint));
                }
            }
            Err((column, message, hint)) => problems.push(Problem::of_line(index + 1, column, message, hint)),
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(problems) }
}

type Refusal = (usize, String, &'static str);

fn assignment(line: &str) -> Result<Option<(String, String)>, Refusal> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(None);
    }
    let trimmed = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
    let Some((name, value)) = trimmed.split_once('=') else {
        return Err((1, "this is not NAME=VALUE".to_owned(), "one variable a line; begin a comment with #"));
    };
    if !is_name(name) {
        let hint = "letters, digits and underscores, no space before the =";
        return Err((1, "what stands before the = is not the name of a variable".to_owned(), hint));
    }
    let column = line.chars().count() - line.trim_start().chars().count()
        + line.trim_start().chars().take_while(|c| *c != '=').count()
        + 2;
    value_of(value.trim())
        .map(|value| Some((name.to_owned(), value)))
        .map_err(|(message, hint)| (column, message.to_owned(), hint))
}

fn value_of(typed: &str) -> Result<String, (&'static str, &'static str)> {
    let Some(quote) = typed.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
        let end = typed.find(" #").unwrap_or(typed.len());
        return Ok(typed[..end].trim_end().to_owned());
    };
    let mut value = String::new();
    let mut letters = typed[1..].chars();
    while let Some(letter) = letters.next() {
        match letter {
            _ if letter == quote => {
                let rest = letters.as_str().trim();
                let is_over = rest.is_empty() || rest.starts_with('#');
                return if is_over {
                    Ok(value)
                } else {
                    Err(("something follows the closing quote", "quote the whole value"))
                };
            }
            '\\' if quote == '"' => value.push(match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(c @ ('"' | '\\' | '$')) => c,
                _ => return Err(("a backslash stands before a letter that needs none", "double the backslash")),
            }),
            _ => value.push(letter),
        }
    }
    Err(("the quote is never closed", "values are on one line; write \\n in double quotes for a new line"))
}
