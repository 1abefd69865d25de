CREATE INDEX shop_oidc_request_id_idx ON shop_oidc (request_id);
