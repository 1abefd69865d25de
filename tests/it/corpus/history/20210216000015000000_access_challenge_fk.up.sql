ALTER TABLE shop_access
  ADD CONSTRAINT shop_access_challenge_fk FOREIGN KEY (challenge_id) REFERENCES shop_consent (challenge) ON DELETE CASCADE;
