DROP TABLE shop_network;
