ALTER TABLE shop_refresh ADD COLUMN nid UUID;
ALTER TABLE shop_refresh ADD CONSTRAINT shop_refresh_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_refresh SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_refresh ALTER COLUMN nid SET NOT NULL;
