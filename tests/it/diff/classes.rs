//! Each class of difference, planted and named; and what is no difference, whatever a database has set.

use super::{GRANTS, Stage, said};
use cutover::database::diff::{Class, DiffError};

/// What is done to a side, and what is to be said of it: the table, the key, the class, the columns.
const PLANTED: [(&str, &str, &str, Class, &[&str]); 17] = [
    ("delete from grants where id = 'g10'", "grants", "g10", Class::Missing, &[]),
    (
        "insert into grants select 'mine', account_id, subject, state, active, asked_at from grants where id = 'g11'",
        "grants",
        "mine",
        Class::Extra,
        &[],
    ),
    ("update grants set account_id = 'a77' where id = 'g12'", "grants", "g12", Class::Changed, &["account_id"]),
    ("update grants set state = 5 where id = 'g13'", "grants", "g13", Class::Changed, &["state"]),
    ("update grants set subject = '' where id = 'g14'", "grants", "g14", Class::Changed, &["subject"]),
    ("update grants set active = true where id = 'g15'", "grants", "g15", Class::Changed, &["active"]),
    (
        "update grants set asked_at = asked_at + interval '1 hour' where id = 'g16'",
        "grants",
        "g16",
        Class::Changed,
        &["asked_at"],
    ),
    ("update grants set note = null where id = 'g17'", "grants", "g17", Class::Changed, &["note"]),
    ("update grants set note = '' where id = 'g20'", "grants", "g20", Class::Changed, &["note"]),
    (
        "update grants set body = '{\"a\": [1, 2], \"b\": 1}' where id = 'g21'",
        "grants",
        "g21",
        Class::Changed,
        &["body"],
    ),
    ("update grants set amount = 4.00, price = price where id = 'g28'", "grants", "g28", Class::Changed, &["amount"]),
    (
        "update grants set weight = weight * (1 + 2e-16::float8) where id = 'g29'",
        "grants",
        "g29",
        Class::Changed,
        &["weight"],
    ),
    // The same in its lower half, once the sign has been taken for a digit.
    ("update grants set remember_for = -1 where id = 'g31'", "grants", "g31", Class::Changed, &["remember_for"]),
    // The same elements in another order, as far apart as a number of 64 bits turns round.
    (
        "update grants set meta = (select jsonb_agg(case k when 1 then 65 when 65 then 1 else k end) from generate_series(1, 70) k) where id = 'g32'",
        "grants",
        "g32",
        Class::Changed,
        &["meta"],
    ),
    // 71 minutes and some: one bit in either half of a time's number.
    (
        "update grants set asked_at = '2000-01-01 00:00:00+00'::timestamptz
          + ((extract(epoch from asked_at - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint # 4294967297) * interval '1 microsecond' where id = 'g33'",
        "grants",
        "g33",
        Class::Changed,
        &["asked_at"],
    ),
    (
        "update grants set meta = '{\"a\": [1.0, 2], \"b\": 1}' where id = 'g34'",
        "grants",
        "g34",
        Class::Changed,
        &["meta"],
    ),
    (
        "alter table grants drop constraint grants_pkey; insert into grants select * from grants where id = 'g30'",
        "grants",
        "g30",
        Class::Duplicate,
        &[],
    ),
];

#[tokio::test]
async fn every_planted_difference_is_named_and_nothing_else() {
    let stage = Stage::filled().await;
    let found = stage.diff().await.expect("the sides are compared");
    assert_eq!((found.differences(), found.rows), (0, u64::from(GRANTS) + 500), "{found:?}");
    assert_eq!(found.expected.into_iter().collect::<Vec<_>>(), [("old-grants".to_owned(), 7)]);

    for (sql, ..) in PLANTED {
        stage.pair.green.execute(sql).await;
    }
    // A grant whose account is gone, and the account: one is lost on green, the other hangs on nothing there.
    stage.pair.green.execute("set session_replication_role = replica; delete from account where id = 'a9'").await;
    let found = stage.diff().await.expect("the sides are compared");
    let mut wanted: Vec<_> = PLANTED
        .iter()
        .map(|(_, table, key, class, columns)| {
            (
                (*table).to_owned(),
                (*key).to_owned(),
                *class,
                columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(),
            )
        })
        .chain([("account".to_owned(), "a9".to_owned(), Class::Missing, Vec::new())])
        .collect();
    wanted.sort();
    let mut told: Vec<_> = found.listed.iter().map(said).collect();
    told.sort();
    assert_eq!(told, wanted);
    assert_eq!((found.missing, found.extra, found.changed), (2, 2, 14));
}

/// Nothing is lost and nothing new is there, and sums that only add up cannot see it: a token that is dead and one that lives have changed places.
#[tokio::test]
async fn values_that_two_rows_have_exchanged_are_told() {
    let stage = Stage::filled().await;
    for (one, other) in [("a1", "a2"), ("a3", "a4"), ("a5", "a6"), ("a7", "a8")] {
        let exchange = format!(
            "update account set email = (select o.email from account o where o.id = case account.id when '{one}' then '{other}' else '{one}' end)
             where id in ('{one}', '{other}')"
        );
        stage.pair.green.execute(&exchange).await;
        let found = stage.diff().await.expect("the sides are compared");
        let mut told: Vec<_> = found.listed.iter().map(said).collect();
        told.sort();
        let changed = |key: &str| ("account".to_owned(), key.to_owned(), Class::Changed, vec!["email".to_owned()]);
        assert_eq!(told, [changed(one), changed(other)]);
        stage.pair.green.execute(&exchange).await;
    }
    assert_eq!(stage.diff().await.expect("the sides are compared").differences(), 0);
}

#[tokio::test]
async fn what_blue_has_and_a_rule_leaves_behind_is_expected_and_extra_when_green_has_it() {
    let stage = Stage::filled().await;
    stage
        .pair
        .green
        .execute("insert into grants (id, account_id, state, active, asked_at) values ('old3', 'a1', 1, false, now())")
        .await;
    let found = stage.diff().await.expect("the sides are compared");
    assert_eq!(
        found.listed.iter().map(said).collect::<Vec<_>>(),
        [("grants".into(), "old3".into(), Class::Extra, vec![])]
    );
    assert_eq!(found.expected_rows(), 7);
}

#[tokio::test]
async fn what_only_looks_different_is_none() {
    let stage = Stage::filled().await;
    // What a database, or its statistics of order, would say by itself.
    for setting in [
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German, DMY'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = -5",
        "bytea_output = 'escape'",
    ] {
        stage.pair.green.execute(&format!("alter database {} set {setting}", stage.pair.green.database)).await;
    }
    let other = "alter table grants alter column id type text collate \"en-x-icu\", alter column subject type text collate \"en-x-icu\"";
    stage.pair.green.execute(other).await;
    // The order of keys is no part of a jsonb; nor are the order of rows on disk, and a column of green's own.
    stage
        .pair
        .green
        .execute("update grants set meta = '{\"a\": [1, 2],   \"b\": 1}', made_at = null where id <> 'g32'")
        .await;
    let found = stage.diff().await.expect("the sides are compared");
    assert_eq!(found.listed.iter().map(said).collect::<Vec<_>>(), []);
    assert_eq!(found.differences(), 0);
}

#[tokio::test]
async fn an_encoding_in_which_equal_texts_differ_is_refused() {
    let mut stage = Stage::filled().await;
    let name = format!("{}_latin", stage.pair.green.database);
    let create =
        format!("create database {name} owner hydra encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0");
    stage.pair.control.client().await.batch_execute(&create).await.expect("a database in another encoding");
    stage.pair.green.database = name;
    let refused = stage.diff().await.expect_err("it is refused");
    assert!(
        matches!(&refused, DiffError::Unlike { why } if why.contains("server_encoding is UTF8 on blue and LATIN1 on green")),
        "{refused}"
    );
    assert!(refused.is_refused());
}
