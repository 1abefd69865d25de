CREATE VIEW shop_grants AS SELECT login_challenge, subject FROM shop_flow WHERE state IN (5, 6);
COMMENT ON VIEW shop_grants IS 'live grants; no more';
