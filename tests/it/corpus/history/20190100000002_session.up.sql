CREATE TABLE shop_session (
  id VARCHAR(40) PRIMARY KEY,
  subject VARCHAR(255) NOT NULL,
  authenticated_at TIMESTAMP NOT NULL DEFAULT NOW()
);
CREATE INDEX shop_session_sub_idx ON shop_session (subject);
