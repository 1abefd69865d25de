DROP TABLE shop_login;
