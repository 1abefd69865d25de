ALTER TABLE shop_pkce
  ADD CONSTRAINT shop_pkce_challenge_fk FOREIGN KEY (challenge_id) REFERENCES shop_consent (challenge) ON DELETE CASCADE;
