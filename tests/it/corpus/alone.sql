-- Each statement runs by itself, outside a transaction, on the tables of setup.sql.
create index concurrently account_note on account (note);
create unique index concurrently if not exists token_grant_key on token (grant_id, signature);
drop index concurrently account_level;
reindex index concurrently grant_made_scope;
reindex table concurrently account;
alter table event detach partition event_2 concurrently;
vacuum account;
vacuum full loose;
vacuum (analyze) token;
cluster account using account_pkey;
