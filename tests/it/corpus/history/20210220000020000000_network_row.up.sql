-- There is one network.
INSERT INTO shop_network (id, created_at, updated_at)
SELECT '0f0e0d0c-0b0a-4908-8706-050403020100', NOW(), NOW() WHERE NOT EXISTS (SELECT 1 FROM shop_network);
