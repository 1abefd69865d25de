//! The folder of a throw-away server: who owns it, its fresh data directory, its settings.
//!
//! Runs `initdb` and `cp`; never starts a server.

use super::binaries::{Account, Binaries};
use super::{ServerError, ServerOptions};
use crate::plan::Secret;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the role that `initdb` creates: our own login, a superuser.
pub(super) const LOGIN: &str = "cutover";

/// Makes `path` and gives it to the account; says which parent the account cannot enter.
pub(super) fn make(path: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let fail = |source| ServerError::Folder { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(fail)?;
    if let Some(account) = account {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let mode = std::fs::metadata(parent).map_err(fail)?.mode();
            if mode & 0o001 == 0 {
                return Err(ServerError::Unreachable { path: parent.to_owned() });
            }
        }
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).map_err(fail)?;
    }
    Ok(())
}

/// Writes a file that only its owner reads.
pub(super) fn write_private(path: &Path, text: &str, account: Option<Account>) -> Result<(), ServerError> {
    let fail = |source| ServerError::Folder { path: path.to_owned(), source };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(fail)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(fail)?;
    if let Some(account) = account {
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).map_err(fail)?;
    }
    Ok(())
}

/// A command that runs under the server's account, away from our terminal's signals and working folder.
pub(super) fn command(program: &Path, folder: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).process_group(0).env("LC_ALL", "C").stdin(Stdio::null());
    for name in ["PGDATA", "PGPORT", "PGOPTIONS", "PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"] {
        command.env_remove(name);
    }
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn run(mut command: Command, what: &str) -> Result<(), ServerError> {
    let output = command.output().map_err(|source| ServerError::Run { what: what.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ServerError::Failed { what: what.to_owned(), said })
}

/// Gives `options.folder/data` a fresh cluster, copied from the template when there is one; returns the login's password.
pub(super) fn fresh_data(
    binaries: &Binaries,
    options: &ServerOptions,
    account: Option<Account>,
) -> Result<Secret, ServerError> {
    let Some(templates) = &options.templates else {
        return initdb(binaries, &options.folder, account);
    };
    let template = template(binaries, templates, account)?;
    let mut copy = command(Path::new("cp"), &options.folder, account);
    copy.arg("-a").arg(template.join("data")).arg(options.folder.join("data"));
    run(copy, "cp of the template cluster")?;
    read_password(&template)
}

/// The template for these binaries, made once and shared by everyone who finds it.
fn template(binaries: &Binaries, templates: &Path, account: Option<Account>) -> Result<PathBuf, ServerError> {
    let digest: String = binaries.version().chars().filter(char::is_ascii_alphanumeric).collect();
    let owner = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    let wanted = templates.join(format!("cutover-template-{digest}-{owner}"));
    if wanted.join("password").is_file() {
        return Ok(wanted);
    }
    let draft = templates.join(format!("cutover-template-draft-{}", uuid::Uuid::new_v4().simple()));
    make(&draft, account)?;
    initdb(binaries, &draft, account)?;
    if std::fs::rename(&draft, &wanted).is_err() {
        // Someone else was faster; theirs is as good as ours.
        let _ = std::fs::remove_dir_all(&draft);
    }
    Ok(wanted)
}

fn read_password(folder: &Path) -> Result<Secret, ServerError> {
    let path = folder.join("password");
    std::fs::read_to_string(&path)
        .map(|text| Secret::new(text.trim()))
        .map_err(|source| ServerError::Folder { path, source })
}

fn initdb(binaries: &Binaries, folder: &Path, account: Option<Account>) -> Result<Secret, ServerError> {
    let password = Secret::new(uuid::Uuid::new_v4().simple().to_string());
    write_private(&folder.join("password"), password.expose(), account)?;
    let mut initdb = command(&binaries.program("initdb"), folder, account);
    initdb.arg("-D").arg(folder.join("data")).args(["-U", LOGIN, "--auth=scram-sha-256", "--encoding=UTF8"]);
    initdb.args(["--locale=C", "--no-sync", "--no-instructions", "--pwfile=password"]);
    run(initdb, "initdb")?;
    Ok(password)
}

/// Appends our settings; the last of two settings of one name wins in PostgreSQL.
pub(super) fn write_settings(options: &ServerOptions, port: u16, account: Option<Account>) -> Result<(), ServerError> {
    let fsync = if options.fsync { "on" } else { "off" };
    let mut text = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nwal_level = logical\n\
         max_wal_senders = 20\nmax_replication_slots = 100\nmax_connections = 200\nmax_prepared_transactions = 10\n\
         shared_buffers = {}MB\nmax_wal_size = 2GB\nmaintenance_work_mem = 128MB\njit = off\nfsync = {fsync}\n\
         full_page_writes = {fsync}\npassword_encryption = scram-sha-256\nlog_line_prefix = '%m [%p] %q%u@%d '\n",
        options.shared_buffers_mb
    );
    for (name, value) in &options.settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    let data = options.folder.join("data");
    write_private(&data.join("cutover.conf"), &text, account)?;
    let path = data.join("postgresql.conf");
    let fail = |source| ServerError::Folder { path: path.clone(), source };
    let old = std::fs::read_to_string(&path).map_err(fail)?;
    if !old.contains("include = 'cutover.conf'") {
        std::fs::write(&path, format!("{old}\ninclude = 'cutover.conf'\n")).map_err(fail)?;
    }
    Ok(())
}
