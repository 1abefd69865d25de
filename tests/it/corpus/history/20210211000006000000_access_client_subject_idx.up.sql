-- Lists of a user's grants.
CREATE INDEX shop_access_client_sub_idx ON shop_access (client_id, subject);
CREATE INDEX ON shop_access (requested_at);
