CREATE INDEX CONCURRENTLY shop_flow_acr_idx ON shop_flow (acr);
