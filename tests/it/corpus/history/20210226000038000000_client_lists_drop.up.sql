ALTER TABLE shop_client DROP COLUMN redirect_uris;
ALTER TABLE shop_client RENAME COLUMN redirect_uris_json TO redirect_uris;
