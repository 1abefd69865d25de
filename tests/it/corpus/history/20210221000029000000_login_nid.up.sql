ALTER TABLE shop_login ADD COLUMN nid UUID;
ALTER TABLE shop_login ADD CONSTRAINT shop_login_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_login SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_login ALTER COLUMN nid SET NOT NULL;
