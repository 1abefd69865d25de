//! A small shell that outlives us by a moment: when our end of its pipe closes, however we end, it ends the server we own.
//!
//! The server's pid is read when it is needed, since a restart changes it.

use super::ServerError;
use super::binaries::Account;
use std::path::Path;
use std::process::{Child, Stdio};

const SCRIPT: &str = r#"
read -r _
data="$1/data"
if [ -f "$data/postmaster.pid" ]; then
  read -r pid < "$data/postmaster.pid"
  kill -CONT "$pid"; kill -QUIT "$pid"
  i=0; while kill -0 "$pid" && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
fi
[ "$2" = keep ] || rm -rf "$1/data"
"#;

/// The shell and our end of its pipe.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    pub(super) fn over(folder: &Path, account: Option<Account>) -> Result<Self, ServerError> {
        let mut command = super::folder::command(Path::new("/bin/sh"), folder, account);
        command.args(["-c", SCRIPT, "guard"]).arg(folder).arg("remove");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|source| ServerError::Run { what: "sh".into(), source })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // The script's own loop bounds this wait.
        let _ = self.0.wait();
    }
}
