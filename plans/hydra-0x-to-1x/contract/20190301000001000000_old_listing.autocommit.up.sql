-- Only the older version lists tokens by when they were asked for.
drop index concurrently hydra_oauth2_access_requested_at_idx;
