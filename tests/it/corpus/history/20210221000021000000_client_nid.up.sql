ALTER TABLE shop_client ADD COLUMN nid UUID;
ALTER TABLE shop_client ADD CONSTRAINT shop_client_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_client SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_client ALTER COLUMN nid SET NOT NULL;
