ALTER TABLE shop_consent RENAME TO shop_consent_old;
