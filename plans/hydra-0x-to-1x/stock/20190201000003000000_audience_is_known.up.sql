-- A whole table in one transaction, and then a scan under an exclusive lock.
update hydra_oauth2_access set requested_audience = '' where requested_audience is null;
alter table hydra_oauth2_access alter column requested_audience set not null;
alter table hydra_oauth2_access add constraint hydra_oauth2_access_scope_check check (length(scope) < 4096);
