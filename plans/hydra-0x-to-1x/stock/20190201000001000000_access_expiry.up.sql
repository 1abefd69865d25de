-- The default is another for each row, so the whole table is written anew while nobody may read it.
alter table hydra_oauth2_access add column expires_at timestamp not null
    default (clock_timestamp() at time zone 'utc' + interval '1 hour');
-- Writers wait until the index is built.
create index hydra_oauth2_access_expires_at_idx on hydra_oauth2_access (expires_at);
