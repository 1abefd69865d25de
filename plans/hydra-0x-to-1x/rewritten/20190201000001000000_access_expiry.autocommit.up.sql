-- The column comes empty, which is quick; new rows get the default, old ones are filled in pieces.
alter table hydra_oauth2_access add column if not exists expires_at timestamp;
alter table hydra_oauth2_access alter column expires_at
    set default (clock_timestamp() at time zone 'utc' + interval '1 hour');
-- cutover: batch key=signature rows=5000
update hydra_oauth2_access set expires_at = default where expires_at is null;
-- A check that is valid already spares `set not null` its scan under an exclusive lock.
alter table hydra_oauth2_access add constraint hydra_oauth2_access_expires_at_set check (expires_at is not null) not valid;
alter table hydra_oauth2_access validate constraint hydra_oauth2_access_expires_at_set;
alter table hydra_oauth2_access alter column expires_at set not null;
alter table hydra_oauth2_access drop constraint hydra_oauth2_access_expires_at_set;
create index concurrently hydra_oauth2_access_expires_at_idx on hydra_oauth2_access (expires_at);
