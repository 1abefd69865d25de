//! Whether two servers print alike, so that equal values have equal hashes; and the hash that both share.
//!
//! Settings are pinned in every session of ours, whatever a role or a database has set; what cannot be pinned is looked at.

use super::DiffError;
use super::sql::Hash;
use tokio_postgres::Client;

/// Settings by which values print, and the database's own encoding.
const PRINTS: &str = "select s.name, pg_catalog.current_setting(s.name, true) from unnest(array['server_encoding', 'client_encoding', 'TimeZone',
  'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output', 'lc_monetary', 'search_path', 'row_security']) as s(name)
union all select 'a float', 0.1::float8::text || 1e300::float8::text
union all select 'a time', '2026-07-01 12:00:00+02'::timestamptz::text order by 1";
/// Values of every kind that is hashed as it is: both sides must agree on them before a hash is believed.
const SAMPLES: [&str; 4] = [
    "null::text, ''::text collate \"C\", 'a'::text collate \"C\", 'grüße, 世界'::text collate \"C\", repeat('0123456789', 20) collate \"C\"",
    "1::smallint, 2::integer, pg_catalog.int8send(3), pg_catalog.int8send(-3), true, 4::oid, '2026-07-01'::date",
    "pg_catalog.timestamptz_send('2026-07-01 12:00:00+02'), pg_catalog.timestamp_send('2026-07-01 12:00:00')",
    "'3b241101-e2bb-4255-8caf-4136c566a962'::uuid, '\\xdeadbeef'::bytea",
];

/// The hash that both servers give alike.
pub(super) async fn require(blue: &Client, green: &Client) -> Result<Hash, DiffError> {
    let failed = DiffError::server("ask how values are printed on", "both sides");
    let (theirs, ours) = tokio::try_join!(blue.query(PRINTS, &[]), green.query(PRINTS, &[])).map_err(&failed)?;
    for (blue, green) in theirs.iter().zip(&ours) {
        let name: &str = blue.get(0);
        let (on_blue, on_green): (Option<&str>, Option<&str>) = (blue.get(1), green.get(1));
        if on_blue != on_green {
            let why = format!(
                "{name} is {} on blue and {} on green",
                on_blue.unwrap_or("not set"),
                on_green.unwrap_or("not set")
            );
            return Err(DiffError::Unlike { why: format!("{why}; make both alike and run the same command again") });
        }
    }
    let texts: Vec<String> = SAMPLES.iter().map(|sample| Hash::Own.of_values(sample, "7")).collect();
    let question = format!("select array[{}]", texts.join(", "));
    let (theirs, ours) =
        tokio::try_join!(blue.query_one(&question, &[]), green.query_one(&question, &[])).map_err(&failed)?;
    let is_shared = theirs.get::<_, Vec<i64>>(0) == ours.get::<_, Vec<i64>>(0);
    Ok(if is_shared { Hash::Own } else { Hash::Md5 })
}
