DROP TABLE shop_access;
