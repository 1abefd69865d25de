-- Lists become JSON; the old columns go with the next release.
ALTER TABLE shop_client ADD COLUMN redirect_uris_json JSONB NOT NULL DEFAULT '[]';
UPDATE shop_client SET redirect_uris_json = to_jsonb(string_to_array(redirect_uris, '|')) WHERE redirect_uris <> '';
