-- Clients, as the first release knew them.
CREATE TABLE IF NOT EXISTS shop_client (
  pk SERIAL PRIMARY KEY,
  id VARCHAR(255) NOT NULL,
  client_name TEXT NOT NULL,
  redirect_uris TEXT NOT NULL,
  scope TEXT NOT NULL,
  owner TEXT NOT NULL
);
CREATE UNIQUE INDEX shop_client_id_idx ON shop_client (id);
