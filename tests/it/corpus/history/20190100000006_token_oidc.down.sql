DROP TABLE shop_oidc;
