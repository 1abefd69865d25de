CREATE TABLE shop_consent (
  challenge VARCHAR(40) NOT NULL PRIMARY KEY,
  verifier VARCHAR(40) NOT NULL,
  client_id VARCHAR(255) NOT NULL,
  subject VARCHAR(255) NOT NULL,
  handled BOOL NOT NULL DEFAULT FALSE,
  state INT
);
CREATE TABLE shop_login (challenge VARCHAR(40) NOT NULL PRIMARY KEY, subject VARCHAR(255) NOT NULL, remember BOOL);
