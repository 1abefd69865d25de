ALTER TABLE shop_session ADD COLUMN remember BOOL NOT NULL DEFAULT false;
