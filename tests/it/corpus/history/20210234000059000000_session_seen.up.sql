ALTER TABLE shop_session ADD COLUMN seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
