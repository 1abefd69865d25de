CREATE INDEX shop_refresh_request_id_idx ON shop_refresh (request_id);
