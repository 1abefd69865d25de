-- The whole table in one transaction: every row of it stays locked until the end.
update hydra_oauth2_access set requested_audience = '' where requested_audience is null;
