CREATE INDEX IF NOT EXISTS shop_session_sub_idx ON shop_session USING btree (subject) WHERE subject <> '';
