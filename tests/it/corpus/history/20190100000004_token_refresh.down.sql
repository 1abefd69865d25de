DROP TABLE shop_refresh;
