CREATE INDEX shop_access_expires_at_idx ON shop_access (expires_at);
