ALTER TABLE shop_access ADD COLUMN challenge_id VARCHAR(40) NULL;
ALTER TABLE shop_access ADD COLUMN granted_scope TEXT NOT NULL DEFAULT '';
