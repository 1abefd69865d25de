CREATE INDEX shop_access_request_id_idx ON shop_access (request_id);
