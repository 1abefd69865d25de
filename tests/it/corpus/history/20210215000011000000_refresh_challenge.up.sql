ALTER TABLE shop_refresh ADD COLUMN challenge_id VARCHAR(40) NULL;
ALTER TABLE shop_refresh ADD COLUMN granted_scope TEXT NOT NULL DEFAULT '';
