ALTER TABLE shop_refresh
  ADD CONSTRAINT shop_refresh_challenge_fk FOREIGN KEY (challenge_id) REFERENCES shop_consent (challenge) ON DELETE CASCADE;
