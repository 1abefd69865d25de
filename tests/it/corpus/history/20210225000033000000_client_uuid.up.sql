ALTER TABLE shop_client RENAME COLUMN pk TO pk_deprecated;
ALTER TABLE shop_client ADD COLUMN pk UUID NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE shop_client DROP CONSTRAINT shop_client_pkey;
ALTER TABLE shop_client ADD PRIMARY KEY (pk);
