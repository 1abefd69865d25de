DROP TABLE shop_pkce;
