-- A constant is kept once for all rows: nothing is written.
alter table hydra_client add column metadata_note text not null default '';
