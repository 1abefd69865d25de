//! One server: started, spoken to, broken on purpose, ended.
//!
//! Every wait has a bound; the server's record (`server.json`) lets another process find a detached one again.

use super::binaries::{Account, Binaries};
use super::guard::Guard;
use super::{ServerError, ServerOptions, folder, port, process};
use crate::database::client;
use crate::database::sql;
use crate::plan::Secret;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const UP_WITHIN: Duration = Duration::from_secs(60);
const DOWN_WITHIN: Duration = Duration::from_secs(30);
const START_TRIES: u32 = 5;
const LOG_TAIL_BYTES: usize = 2000;

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the log.
    Immediate,
}

/// What another process needs to find the server again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    name: String,
    folder: PathBuf,
    postgres: PathBuf,
    port: u16,
    passwords: BTreeMap<String, String>,
}

/// A throw-away server.
#[derive(Debug)]
pub struct Server {
    record: Mutex<Record>,
    account: Option<Account>,
    child: Mutex<Option<Child>>,
    guard: Option<Guard>,
    owned: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Makes a fresh cluster in `options.folder`, starts it and gives our login (`cutover`, a superuser) a password of its own.
    ///
    /// # Errors
    /// When the folder cannot be prepared or the server does not answer within a minute.
    pub async fn start(binaries: &Binaries, options: &ServerOptions) -> Result<Self, ServerError> {
        let account = Account::for_servers()?;
        folder::make(&options.folder, account)?;
        let first = folder::fresh_data(binaries, options, account)?;
        let server = Self {
            record: Mutex::new(Record {
                name: options.name.clone(),
                folder: options.folder.clone(),
                postgres: binaries.program("postgres"),
                port: 0,
                passwords: BTreeMap::from([(folder::LOGIN.to_owned(), first.expose().to_owned())]),
            }),
            account,
            child: Mutex::new(None),
            guard: if options.detached { None } else { Some(Guard::over(&options.folder, account)?) },
            owned: !options.detached,
        };
        server.first_start(options).await?;
        server.set_password(folder::LOGIN, &fresh_password()).await?;
        Ok(server)
    }

    /// Takes another port when somebody else was given ours between the choice and the start.
    async fn first_start(&self, options: &ServerOptions) -> Result<(), ServerError> {
        let mut tries = 1;
        loop {
            let port = port::free_port()?;
            folder::write_settings(options, port, self.account)?;
            lock(&self.record).port = port;
            match self.start_again().await {
                Err(ServerError::NotUp { log, .. })
                    if tries < START_TRIES && log.contains("Address already in use") =>
                {
                    tries += 1
                }
                outcome => return outcome,
            }
        }
    }

    /// Finds a detached server again by its folder, running or not.
    ///
    /// # Errors
    /// When the folder holds no readable record.
    pub fn open(folder: &Path) -> Result<Self, ServerError> {
        let path = folder.join("server.json");
        let text =
            std::fs::read_to_string(&path).map_err(|source| ServerError::Folder { path: path.clone(), source })?;
        let record: Record = serde_json::from_str(&text).map_err(|source| ServerError::Record { path, source })?;
        let account = Account::for_servers()?;
        Ok(Self { record: Mutex::new(record), account, child: Mutex::new(None), guard: None, owned: false })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        lock(&self.record).name.clone()
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        lock(&self.record).port
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        lock(&self.record).folder.clone()
    }

    /// The process id of the running server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        process::postmaster(&self.folder().join("data"))
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.folder().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// The URL with which `role` reaches `database`; a role that was not made here gets no password.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> Secret {
        let record = lock(&self.record);
        let password = record.passwords.get(role).map(|password| format!(":{password}")).unwrap_or_default();
        Secret::new(format!("postgres://{role}{password}@127.0.0.1:{}/{database}", record.port))
    }

    /// The URL of our own login.
    #[must_use]
    pub fn login_url(&self, database: &str) -> Secret {
        self.url(folder::LOGIN, database)
    }

    /// Starts a server that is down, on its old port, and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within a minute.
    pub async fn start_again(&self) -> Result<(), ServerError> {
        let deadline = Instant::now() + UP_WITHIN;
        self.save()?;
        self.spawn()?;
        while !self.answers().await {
            if Instant::now() > deadline || !self.launching() {
                return Err(ServerError::NotUp { name: self.name(), log: self.log_tail() });
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }

    /// Stops with `stop` and starts again.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start_again`].
    pub async fn restart(&self, stop: Stop) -> Result<(), ServerError> {
        self.stop(stop).await?;
        self.start_again().await
    }

    /// Ends the server in order; a server that is down is no error.
    ///
    /// # Errors
    /// When it is still running after the bound.
    pub async fn stop(&self, stop: Stop) -> Result<(), ServerError> {
        if let Some(pid) = self.pid() {
            process::thaw(pid);
            process::send(pid, if stop == Stop::Fast { Signal::INT } else { Signal::QUIT });
        }
        self.gone(&[]).await
    }

    /// Kills the server and its backends as a power cut would; a server that is down is no error.
    ///
    /// # Errors
    /// When it is still there after the bound.
    pub async fn kill(&self) -> Result<(), ServerError> {
        let killed = self.pid().map(process::destroy).unwrap_or_default();
        self.gone(&killed).await?;
        // Where nobody fetches what is left of a dead process for a while, the next start takes it for one at work.
        let path = self.folder().join("data/postmaster.pid");
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(ServerError::Folder { path, source }),
            _ => Ok(()),
        }
    }

    /// Freezes the server with its backends; connections stay open and silent until [`Self::resume`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<(), ServerError> {
        process::freeze(self.running()?);
        Ok(())
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> Result<(), ServerError> {
        process::thaw(self.running()?);
        Ok(())
    }

    /// Whether the server is frozen.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pid().is_some_and(process::stopped)
    }

    /// Creates a login role with a password of its own; `options` is raw SQL such as `superuser`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_role(&self, role: &str, options: &str) -> Result<(), ServerError> {
        let password = fresh_password();
        let text = format!("create role {} login {options} password {}", sql::ident(role), sql::literal(&password));
        self.execute("postgres", &text).await?;
        self.remember(role, password)
    }

    /// Creates a database owned by `owner`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(&self, database: &str, owner: &str) -> Result<(), ServerError> {
        self.execute("postgres", &format!("create database {} owner {}", sql::ident(database), sql::ident(owner))).await
    }

    /// Runs statements as our login.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn execute(&self, database: &str, statements: &str) -> Result<(), ServerError> {
        let fail = |source| ServerError::Sql { name: self.name(), source };
        let client = client::connect(&self.login_url(database), &self.name()).await.map_err(|error| match error {
            client::ConnectError::Refused { source, .. } | client::ConnectError::Url { source, .. } => fail(source),
            source => ServerError::Connect { name: self.name(), source },
        })?;
        client.batch_execute(statements).await.map_err(fail)
    }

    /// Ends the server and removes its folder.
    ///
    /// # Errors
    /// When it is still running after the bound or its folder cannot be removed.
    pub async fn remove(mut self) -> Result<(), ServerError> {
        self.stop(Stop::Immediate).await?;
        self.guard = None;
        let path = self.folder();
        std::fs::remove_dir_all(&path).map_err(|source| ServerError::Folder { path, source })
    }

    async fn set_password(&self, role: &str, password: &str) -> Result<(), ServerError> {
        let text = format!("alter role {} password {}", sql::ident(role), sql::literal(password));
        self.execute("postgres", &text).await?;
        self.remember(role, password.to_owned())
    }

    fn remember(&self, role: &str, password: String) -> Result<(), ServerError> {
        lock(&self.record).passwords.insert(role.to_owned(), password);
        self.save()
    }

    fn save(&self) -> Result<(), ServerError> {
        let record = lock(&self.record).clone();
        let path = record.folder.join("server.json");
        let text = serde_json::to_string_pretty(&record)
            .map_err(|source| ServerError::Record { path: path.clone(), source })?;
        folder::write_private(&path, &text, None)
    }

    fn running(&self) -> Result<u32, ServerError> {
        self.pid().ok_or_else(|| ServerError::NotRunning { name: self.name() })
    }

    fn spawn(&self) -> Result<(), ServerError> {
        let record = lock(&self.record).clone();
        let path = record.folder.join("log");
        let fail = |source| ServerError::Folder { path: path.clone(), source };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        let mut command = folder::command(&record.postgres, &record.folder, self.account);
        command.arg("-D").arg(record.folder.join("data")).stdout(log.try_clone().map_err(fail)?).stderr(log);
        let child = command.spawn().map_err(|source| ServerError::Run { what: "postgres".into(), source })?;
        *lock(&self.child) = Some(child);
        Ok(())
    }

    /// Whether the process we have just started is still there.
    fn launching(&self) -> bool {
        lock(&self.child).as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    async fn answers(&self) -> bool {
        client::connect(&self.login_url("postgres"), "a starting server").await.is_ok()
    }

    /// Waits until the server and the `killed` processes are no more; what is left would hold its memory against the next start.
    async fn gone(&self, killed: &[u32]) -> Result<(), ServerError> {
        let deadline = Instant::now() + DOWN_WITHIN;
        while self.pid().is_some() || self.launching() || killed.iter().any(|pid| process::alive(*pid)) {
            if Instant::now() > deadline {
                return Err(ServerError::NotDown { name: self.name(), seconds: DOWN_WITHIN.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn fresh_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.owned || self.guard.is_none() {
            return;
        }
        if let Some(pid) = self.pid() {
            process::destroy(pid);
        }
        if let Some(mut child) = lock(&self.child).take() {
            // Killed above: this wait is short.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.guard = None;
        let _ = std::fs::remove_dir_all(self.folder());
    }
}
