DROP TABLE shop_code;
