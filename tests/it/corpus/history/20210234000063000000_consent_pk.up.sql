ALTER TABLE shop_consent DROP CONSTRAINT shop_consent_pkey;
ALTER TABLE shop_consent ADD CONSTRAINT shop_consent_pkey PRIMARY KEY (challenge, nid);
