CREATE TABLE shop_pkce (
  signature VARCHAR(255) NOT NULL PRIMARY KEY,
  request_id VARCHAR(40) NOT NULL,
  requested_at TIMESTAMP NOT NULL DEFAULT NOW(),
  client_id VARCHAR(255) NOT NULL,
  scope TEXT NOT NULL,
  session_data TEXT NOT NULL,
  subject VARCHAR(255),
  active BOOL NOT NULL DEFAULT TRUE
);
