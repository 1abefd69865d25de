DELETE FROM shop_refresh WHERE client_id NOT IN (SELECT id FROM shop_client);
