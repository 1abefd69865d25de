CREATE INDEX shop_refresh_expires_at_idx ON shop_refresh (expires_at);
