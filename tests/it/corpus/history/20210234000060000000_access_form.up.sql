ALTER TABLE shop_access ADD COLUMN form_data TEXT;
UPDATE shop_access SET form_data = '' WHERE form_data IS NULL; -- as the code reads it
ALTER TABLE shop_access ALTER COLUMN form_data SET NOT NULL;
