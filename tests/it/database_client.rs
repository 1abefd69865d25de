//! Connections: who is believed to be the server, what a session says, who is given up.

use crate::harness::{self, Place, eventually};
use cutover::database::client::{ConnectError, connect};
use cutover::plan::Secret;
use cutover::sandbox::servers::Server;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// An authority and a certificate for 127.0.0.1 alone, made for this test.
fn certificates(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let openssl = |arguments: &str| {
        let run = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("openssl is installed");
        assert!(run.status.success(), "{arguments}: {}", String::from_utf8_lossy(&run.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").expect("a file");
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=root -keyout root.key -out root.pem");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr");
    openssl(
        "x509 -req -in server.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile san -out server.pem",
    );
}

/// Hands a file to the server, which writes it as its own account.
async fn hand_over(place: &Place, from: &Path, to: &Path) {
    let text = std::fs::read_to_string(from).expect("a file");
    let lines = format!("copy (select regexp_split_to_table($f${}$f$, '\\n')) to '{}'", text.trim_end(), to.display());
    place.execute(&lines).await;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600)).expect("the file is ours to close");
}

async fn encrypted() -> (Place, PathBuf) {
    let server: Server = harness::server("tls").await;
    let place = Place::fresh(Arc::new(server), "tls").await;
    let folder = harness::fresh_folder("certificates");
    certificates(&folder);
    let data = PathBuf::from(place.ask::<String>("show data_directory").await);
    for name in ["server.pem", "server.key"] {
        hand_over(&place, &folder.join(name), &data.join(name)).await;
    }
    for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
        place.execute(&format!("alter system set {setting}")).await;
    }
    place.execute("select pg_reload_conf()").await;
    (place, folder)
}

async fn is_encrypted(url: &str) -> Result<bool, ConnectError> {
    let client = connect(&Secret::new(url), "blue").await?;
    let row =
        client.query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await.expect("an answer");
    Ok(row.get(0))
}

#[tokio::test]
async fn client_believes_only_a_server_that_proves_itself() {
    let (place, folder) = encrypted().await;
    let url = place.url().expose().to_owned();
    let named = url.replace("127.0.0.1", "localhost");
    let root = folder.join("root.pem").display().to_string();
    harness::eventually(std::time::Duration::from_secs(10), "the server offers encryption", || async {
        is_encrypted(&format!("{url}?sslmode=require")).await.ok()
    })
    .await;
    for (url, expected) in [
        (url.clone(), false),
        (format!("{url}?sslmode=disable"), false),
        (format!("{url}?sslmode=prefer"), true),
        (format!("{url}?sslmode=require"), true),
        (format!("{url}?sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{url}?sslrootcert={root}"), true),
        (format!("{url}?sslmode=verify-full&sslrootcert={root}"), true),
        (format!("{named}?sslmode=verify-ca&sslrootcert={root}"), true),
    ] {
        let said = is_encrypted(&url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        assert_eq!(said, expected, "{url}");
    }
    let strange = folder.join("strange");
    certificates(&strange);
    let strange = strange.join("root.pem").display().to_string();
    for url in [
        format!("{named}?sslmode=verify-full&sslrootcert={root}"),
        format!("{url}?sslmode=verify-full&sslrootcert={strange}"),
        format!("{url}?sslmode=verify-ca&sslrootcert={strange}"),
        format!("{url}?sslmode=require&sslrootcert={strange}"),
    ] {
        let refused = is_encrypted(&url).await;
        assert!(matches!(refused, Err(ConnectError::Refused { .. })), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn client_sessions_say_the_same_whatever_the_role_has_set() {
    let place = Place::shared("session").await;
    let login: String = place.ask("select quote_ident(current_user)").await;
    let database = &place.database;
    for setting in
        ["TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "statement_timeout = '1s'", "search_path = nowhere"]
    {
        place.execute(&format!("alter role {login} in database {database} set {setting}")).await;
    }
    let said: String = place
        .ask("select current_setting('statement_timeout') || current_schema || timestamptz '2020-01-02 03:04:05+00'::text")
        .await;
    assert_eq!(said, "0public2020-01-02 03:04:05+00");
}

#[tokio::test]
async fn client_gives_up_a_server_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = Secret::new(format!("postgres://login:pass-word@127.0.0.1:{port}/d"));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    let error = connect(&silent, "blue").await.expect_err("nobody answers");
    assert!(matches!(error, ConnectError::Silent { .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains("pass-word"));
}

#[tokio::test]
async fn what_a_dead_process_left_under_way_ends_by_itself() {
    let place = Place::shared("left").await;
    let url = place.url();
    let process = std::thread::spawn(move || {
        // Its end closes the socket without a word, as the end of a killed process does.
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let client = connect(&url, "left").await.expect("our login connects");
            let slow = client.batch_execute("select pg_sleep(60)");
            assert!(tokio::time::timeout(Duration::from_millis(300), slow).await.is_err());
        });
    });
    process.join().expect("it ends");
    let left = "select count(*) from pg_stat_activity where datname = current_database() and query like '%pg_sleep%' and pid <> pg_backend_pid()";
    eventually(Duration::from_secs(5), "the server ends what nobody waits for", || async {
        (place.ask::<i64>(left).await == 0).then_some(())
    })
    .await;
}
