ALTER TABLE shop_client ADD CONSTRAINT shop_client_name_check CHECK (length(client_name) < 4000);
ALTER TABLE shop_client ADD CHECK (scope <> 'x');
ALTER TABLE shop_client ADD CHECK (length(owner) + length(scope) < 100000);
