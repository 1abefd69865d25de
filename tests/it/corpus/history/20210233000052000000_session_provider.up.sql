ALTER TABLE shop_session ADD COLUMN provider_session_id VARCHAR(40);
ALTER TABLE shop_session ADD COLUMN nonce UUID DEFAULT gen_random_uuid();
