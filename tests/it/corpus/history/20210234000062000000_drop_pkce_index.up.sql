DROP INDEX IF EXISTS shop_pkce_request_id_idx, shop_oidc_request_id_idx;
