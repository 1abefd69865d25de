-- Lists of a user's grants.
CREATE INDEX shop_refresh_client_sub_idx ON shop_refresh (client_id, subject);
CREATE INDEX ON shop_refresh (requested_at);
