CREATE INDEX shop_code_request_id_idx ON shop_code (request_id);
