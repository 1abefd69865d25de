//! The file of a map: read, and changed for some keys only, with its comments and its other lines as they are.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The entries of a file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    Ok(text(path)?.lines().filter_map(entry).collect())
}

/// Sets entries, atomically: a reload reads all of the old file or all of the new one.
pub(super) fn write(path: &Path, entries: &[(String, String)]) -> Result<(), String> {
    let before = text(path)?;
    let after = changed(&before, entries);
    if after == before {
        return Ok(());
    }
    let failed = |error: io::Error| format!("write the map's file {}: {error}", path.display());
    replace(path, &after).map_err(failed)
}

fn text(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("read the map's file {}: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(format!("the map's file {} is larger than {MAX_BYTES} bytes", path.display()));
    }
    fs::read_to_string(path).map_err(failed)
}

/// A line is a key, white space, and a value; `#` begins a comment.
fn entry(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line.split_once(char::is_whitespace)?;
    (!line.starts_with('#')).then(|| (key.to_owned(), value.trim().to_owned()))
}

fn changed(before: &str, entries: &[(String, String)]) -> String {
    let mut missing: Vec<&(String, String)> = entries.iter().collect();
    let mut lines: Vec<String> = Vec::new();
    for line in before.lines() {
        let ours = entry(line).and_then(|(key, _)| entries.iter().find(|(wanted, _)| *wanted == key));
        lines.push(ours.map_or_else(|| line.to_owned(), |(key, value)| format!("{key} {value}")));
        missing.retain(|wanted| Some(*wanted) != ours);
    }
    lines.extend(missing.into_iter().map(|(key, value)| format!("{key} {value}")));
    lines.push(String::new());
    lines.join("\n")
}

/// Beside the old one, flushed, with its rights, moved over it, and the folder flushed.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = path.with_extension("cutover-new");
    let mut file = File::create(&beside)?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_our_keys_change() {
        let before = "# who goes where\nother  be_other\napi be_blue\n\n#api be_old\n";
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let after = changed(before, &[set("api", "be_green"), set("admin", "be_green")]);
        assert_eq!(after, "# who goes where\nother  be_other\napi be_green\n\n#api be_old\nadmin be_green\n");
        assert_eq!(changed(&after, &[set("api", "be_green")]), after, "nothing to do");
    }
}
