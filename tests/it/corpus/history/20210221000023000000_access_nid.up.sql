ALTER TABLE shop_access ADD COLUMN nid UUID;
ALTER TABLE shop_access ADD CONSTRAINT shop_access_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_access SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_access ALTER COLUMN nid SET NOT NULL;
