//! Green's settings for a load, on a server of its own: set, seen to be taken over, and given back without touching what others changed.

use crate::harness::{Place, server};
use cutover::database::load_settings::{self, SettingsError};
use cutover::database::term::{self, Term};
use cutover::plan::{LoadSettings, TableName};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const TABLES: &str = "
create table plain (id int primary key);
create table told (id int primary key) with (autovacuum_enabled = true, fillfactor = 70);
create table parted (id int) partition by range (id);
create table parted_1 partition of parted for values from (0) to (9);";
const OPTIONS: &str =
    "select string_agg(format('%s:%s', relname, (select coalesce(string_agg(o, ' ' order by o), '') from unnest(reloptions) o)), ', ' order by relname)
from pg_class where relname in ('plain', 'told', 'parted', 'parted_1')";
const SYSTEM: &str = "select string_agg(format('%s=%s', name, setting), ' ' order by name) from pg_file_settings where sourcefile like '%auto.conf'";

fn table(name: &str) -> TableName {
    TableName { schema: "public".to_owned(), name: name.to_owned() }
}

#[tokio::test]
async fn settings_of_a_load_are_taken_over_and_given_back() {
    let green = Place::fresh(Arc::new(server("green").await), "hydra").await;
    green.execute(TABLES).await;
    green
        .client()
        .await
        .batch_execute("alter system set checkpoint_timeout = '7min'")
        .await
        .expect("a setting of others");
    let before: String = green.ask(OPTIONS).await;
    let term = Term { term: 1, nonce: Uuid::new_v4() };
    term::install(&green.client().await, &term).await.expect("green takes our term");
    let load = LoadSettings {
        index_memory_bytes: 64 << 20,
        max_wal_size_bytes: Some(3 << 30),
        checkpoint_timeout: Some(Duration::from_secs(1800)),
    };
    let tables = [table("plain"), table("told"), table("parted")];
    let (url, client) = (green.url(), green.client().await);
    let stood = load_settings::read(&client, &tables, &load).await.expect("the settings");
    assert!(!load_settings::is_set(&stood, &load));

    let zombie = Term { term: 1, nonce: Uuid::new_v4() };
    let refused = load_settings::set(&url, &zombie, &stood, &load).await.expect_err("another term stands");
    assert!(matches!(refused, SettingsError::Term(_)), "{refused}");

    for _ in 0..2 {
        load_settings::set(&url, &term, &stood, &load).await.expect("the settings are set");
        let now = load_settings::read(&client, &tables, &load).await.expect("the settings");
        assert!(load_settings::is_set(&now, &load) && !load_settings::is_given_back(&now, &stood, &load), "{now:?}");
    }
    assert_eq!(green.ask::<String>("show max_wal_size").await, "3GB");
    assert_eq!(green.ask::<String>("show checkpoint_timeout").await, "30min");

    green.execute("alter table plain set (autovacuum_enabled = true)").await;
    for _ in 0..2 {
        load_settings::give_back(&url, &term, &stood, &tables, &load).await.expect("the settings are given back");
        let now = load_settings::read(&client, &tables, &load).await.expect("the settings");
        assert!(load_settings::is_given_back(&now, &stood, &load), "{now:?}");
    }
    let after: String = green.ask(OPTIONS).await;
    assert_eq!(after, before.replace("plain:", "plain:autovacuum_enabled=true"), "only what others changed stays");
    assert_eq!(green.ask::<String>("show checkpoint_timeout").await, "7min");
    assert_eq!(green.ask::<String>(SYSTEM).await, "checkpoint_timeout=7min");
}
