//! The folder of one sandbox: its files, its variables, its ports.
//!
//! Owns names and layout. Secrets are written for their owner alone.

use super::servers::{ServerError, free_port};
use crate::plan::{Secret, Side, env_file};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the sandbox's folder cannot be used.
#[derive(Debug, Error)]
pub enum EnvironmentError {
    /// A file or folder.
    #[error("{act} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create`.
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder is in use.
    #[error("create {}: it exists and is not empty; choose another folder, or end what runs there with `cutover sandbox down --dir {}`", .0.display(), .0.display())]
    NotEmpty(PathBuf),
    /// No sandbox lives there.
    #[error("read {}: no sandbox was started in this folder", .0.display())]
    NoSandbox(PathBuf),
    /// The variables lack one.
    #[error("read {}: the variable {name} is missing or wrong", path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// The variable.
        name: String,
    },
    /// No port was free.
    #[error(transparent)]
    Port(#[from] ServerError),
}

/// Where everything of a sandbox lies.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout of the folder `dir`, which must be an absolute path.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The plan's variables.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.dir.join("plan.yaml")
    }

    /// Process ids by part.
    #[must_use]
    pub fn pids(&self) -> PathBuf {
        self.dir.join("pids.json")
    }

    /// The log of a part.
    #[must_use]
    pub fn log(&self, part: &str) -> PathBuf {
        self.dir.join("log").join(format!("{part}.log"))
    }

    /// A state file of a part.
    #[must_use]
    pub fn state(&self, part: &str) -> PathBuf {
        self.dir.join("state").join(format!("{part}.json"))
    }

    /// A wrapper of the engine's program.
    #[must_use]
    pub fn bin(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// The folder of a server.
    #[must_use]
    pub fn server(&self, name: &str) -> PathBuf {
        self.dir.join("servers").join(name)
    }

    /// The prober's folder.
    #[must_use]
    pub fn prober(&self) -> PathBuf {
        self.dir.join("prober")
    }

    /// Creates the folder, which must not exist or be empty, and what goes into it.
    ///
    /// # Errors
    /// When it is in use or cannot be created.
    pub fn create(&self) -> Result<(), EnvironmentError> {
        if std::fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(EnvironmentError::NotEmpty(self.dir.clone()));
        }
        for folder in ["", "log", "state", "bin", "servers", "prober"] {
            let path = self.dir.join(folder);
            std::fs::create_dir_all(&path).map_err(|source| EnvironmentError::File { act: "create", path, source })?;
        }
        Ok(())
    }

    /// Writes a file; `mode` such as `0o600`.
    pub(crate) fn write(&self, path: &Path, mode: u32, text: &str) -> Result<(), EnvironmentError> {
        let fail = |source| EnvironmentError::File { act: "write", path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(mode).open(path).map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)
    }
}

/// The variables of a sandbox.
#[derive(Debug, Clone)]
pub struct Variables {
    path: PathBuf,
    values: BTreeMap<String, Secret>,
}

impl Variables {
    /// Starts an empty set for `layout`.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { path: layout.env_file(), values: BTreeMap::new() }
    }

    /// Reads them back.
    ///
    /// # Errors
    /// When there is no sandbox or the file was damaged.
    pub fn read(layout: &Layout) -> Result<Self, EnvironmentError> {
        let path = layout.env_file();
        let text = std::fs::read_to_string(&path).map_err(|_| EnvironmentError::NoSandbox(layout.dir().to_owned()))?;
        let parsed = env_file::parse(&text);
        let values = parsed.map_err(|_| EnvironmentError::Variable { path: path.clone(), name: "(any)".to_owned() })?;
        let values = values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        Ok(Self { path, values })
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), Secret::new(value));
    }

    /// One variable.
    ///
    /// # Errors
    /// When it is not set.
    pub fn get(&self, name: &str) -> Result<&str, EnvironmentError> {
        let missing = || EnvironmentError::Variable { path: self.path.clone(), name: name.to_owned() };
        self.values.get(name).map(Secret::expose).ok_or_else(missing)
    }

    /// One variable of a side: `BLUE_…` or `GREEN_…`.
    ///
    /// # Errors
    /// When it is not set.
    pub fn of(&self, side: Side, name: &str) -> Result<&str, EnvironmentError> {
        self.get(&format!("{}_{name}", side.as_str().to_uppercase()))
    }

    /// The address `host:port` in a variable that holds a base URL.
    pub(crate) fn address(&self, name: &str) -> Result<String, EnvironmentError> {
        let url = url::Url::parse(self.get(name)?).ok();
        let address = url.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        address.ok_or_else(|| EnvironmentError::Variable { path: self.path.clone(), name: name.to_owned() })
    }

    pub(crate) fn write(&self, layout: &Layout) -> Result<(), EnvironmentError> {
        let mut text = String::from("# The variables of this sandbox's plan; holds passwords.\n");
        for (name, value) in &self.values {
            text.push_str(&format!("{name}='{}'\n", value.expose()));
        }
        layout.write(&self.path, 0o600, &text)
    }

    /// Gives each of `names` a base URL on a free port of 127.0.0.1.
    pub(crate) fn set_urls(&mut self, names: &[&str]) -> Result<(), EnvironmentError> {
        let mut taken = BTreeSet::new();
        for name in names {
            let mut port = free_port()?;
            while !taken.insert(port) {
                port = free_port()?;
            }
            self.set(name, format!("http://127.0.0.1:{port}"));
        }
        Ok(())
    }
}
