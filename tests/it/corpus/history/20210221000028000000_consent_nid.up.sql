ALTER TABLE shop_consent ADD COLUMN nid UUID;
ALTER TABLE shop_consent ADD CONSTRAINT shop_consent_nid_fk FOREIGN KEY (nid) REFERENCES shop_network (id) ON UPDATE RESTRICT ON DELETE CASCADE;
UPDATE shop_consent SET nid = (SELECT id FROM shop_network LIMIT 1);
ALTER TABLE shop_consent ALTER COLUMN nid SET NOT NULL;
