DROP TABLE shop_session;
