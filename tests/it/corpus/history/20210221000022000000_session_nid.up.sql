ALTER TABLE shop_session ADD COLUMN nid UUID;
ALTER TABLE shop_session ADD CONSTRAINT shop_session_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_session SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_session ALTER COLUMN nid SET NOT NULL;
