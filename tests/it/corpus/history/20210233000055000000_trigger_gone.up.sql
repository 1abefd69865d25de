DROP TRIGGER shop_flow_touch ON shop_flow;
DROP FUNCTION shop_touch();
