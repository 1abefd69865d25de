-- Two scans under an exclusive lock.
alter table hydra_oauth2_access alter column requested_audience set not null;
alter table hydra_oauth2_access add constraint hydra_oauth2_access_scope_check check (length(scope) < 4096);
