-- The dashboard's list of connected apps asks for the live grants of one subject. Built without locking out writers, so it runs outside
-- a transaction; on a filled table, since it is not part of the engine's own schema.
create index concurrently hydra_oauth2_refresh_subject_idx on hydra_oauth2_refresh (subject, nid) where active;
