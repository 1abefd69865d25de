//! Finds PostgreSQL's programs and the account they may run under.
//!
//! Reads folders and `/etc/passwd`; never the environment, which belongs to `cli`.

use super::ServerError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with `initdb` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: String,
}

impl Binaries {
    /// Looks in `explicit` when it is given and nowhere else; otherwise asks `pg_config`, then takes the newest of the usual folders.
    ///
    /// # Errors
    /// When no folder holds a working `initdb` and `postgres`.
    pub fn find(explicit: Option<&Path>) -> Result<Self, ServerError> {
        let candidates = match explicit {
            Some(folder) => vec![folder.to_owned()],
            None => pg_config().into_iter().chain(usual_folders()).collect(),
        };
        candidates.iter().find_map(|folder| Self::in_folder(folder)).ok_or(ServerError::NoBinaries { candidates })
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !version.is_empty()).then(|| Self { folder: folder.to_owned(), version })
    }

    /// Path of one program, such as `postgres` or `pg_dump`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What `postgres --version` says.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The folders of distributions, newest major version first.
fn usual_folders() -> Vec<PathBuf> {
    let mut found = versioned("/usr/lib/postgresql", "bin");
    found.extend(versioned("/opt/homebrew/opt", "bin"));
    found.extend(["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    found
}

fn versioned(root: &str, inner: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let digits: String = entry.file_name().to_string_lossy().chars().filter(char::is_ascii_digit).collect();
            Some((digits.parse().ok()?, entry.path().join(inner)))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The account a server runs under, when we are root and must not run it as ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Account {
    /// `None` when this process is not root; otherwise `postgres` or, failing that, `nobody`.
    ///
    /// # Errors
    /// When this process is root and neither account exists.
    pub fn for_servers() -> Result<Option<Self>, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(&accounts, name))
            .map(Some)
            .ok_or(ServerError::NoAccount)
    }

    fn named(accounts: &str, name: &str) -> Option<Self> {
        let mut fields = accounts.lines().map(|line| line.split(':')).find_map(|mut fields| {
            let found = fields.next() == Some(name);
            found.then_some(fields)
        })?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { uid, gid })
    }
}
