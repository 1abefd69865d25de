ALTER TABLE shop_code ADD CONSTRAINT shop_code_request_key UNIQUE (request_id, nid, signature);
