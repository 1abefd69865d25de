ALTER TABLE shop_code
  ADD CONSTRAINT shop_code_challenge_fk FOREIGN KEY (challenge_id) REFERENCES shop_consent (challenge) ON DELETE CASCADE;
