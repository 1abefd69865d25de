CREATE UNIQUE INDEX shop_flow_consent_idx ON shop_flow (consent_challenge_id);
CREATE INDEX shop_flow_multi_idx ON shop_flow (state, subject, nid);
