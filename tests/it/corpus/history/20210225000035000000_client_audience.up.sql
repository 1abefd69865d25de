ALTER TABLE shop_client ADD COLUMN audience TEXT NOT NULL DEFAULT '', ADD COLUMN contacts TEXT, /* lists */ ADD COLUMN skip_consent BOOL NOT NULL DEFAULT false;
