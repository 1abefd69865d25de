CREATE FUNCTION shop_touch() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  -- the time; not the user
  NEW.requested_at := now();
  RETURN NEW;
END;
$body$;
CREATE TRIGGER shop_flow_touch BEFORE UPDATE ON shop_flow FOR EACH ROW EXECUTE FUNCTION shop_touch();
