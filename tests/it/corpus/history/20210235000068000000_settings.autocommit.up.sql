ALTER TABLE shop_flow SET (fillfactor = 80);
-- cutover: ignore update-all because the table has few rows
UPDATE shop_network SET updated_at = NOW();
