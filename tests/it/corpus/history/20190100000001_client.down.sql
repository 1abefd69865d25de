DROP TABLE shop_client;
