ALTER TABLE shop_client ADD CONSTRAINT shop_client_id_key UNIQUE (id, nid);
