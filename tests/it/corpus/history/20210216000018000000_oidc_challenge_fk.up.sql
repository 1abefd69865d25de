ALTER TABLE shop_oidc
  ADD CONSTRAINT shop_oidc_challenge_fk FOREIGN KEY (challenge_id) REFERENCES shop_consent (challenge) ON DELETE CASCADE;
