CREATE TABLE shop_flow (
  login_challenge VARCHAR(40) NOT NULL PRIMARY KEY,
  subject VARCHAR(255) NOT NULL,
  state INTEGER NOT NULL,
  consent_challenge_id VARCHAR(40) NULL,
  nid UUID NOT NULL REFERENCES shop_network (id),
  requested_at TIMESTAMP NOT NULL DEFAULT NOW(),
  CONSTRAINT shop_flow_state_check CHECK (state IN (1, 2, 3, 4, 5, 6, 128, 129))
);
INSERT INTO shop_flow (login_challenge, subject, state, nid)
SELECT l.challenge, l.subject, CASE WHEN l.remember THEN 6 ELSE 3 END, l.nid FROM shop_login l;
CREATE INDEX shop_flow_sub_idx ON shop_flow (subject);
