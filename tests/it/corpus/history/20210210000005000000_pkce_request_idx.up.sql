CREATE INDEX shop_pkce_request_id_idx ON shop_pkce (request_id);
