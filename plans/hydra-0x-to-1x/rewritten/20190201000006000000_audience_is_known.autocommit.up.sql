alter table hydra_oauth2_access add constraint hydra_oauth2_access_audience_set check (requested_audience is not null) not valid;
alter table hydra_oauth2_access validate constraint hydra_oauth2_access_audience_set;
alter table hydra_oauth2_access alter column requested_audience set not null;
alter table hydra_oauth2_access drop constraint hydra_oauth2_access_audience_set;
alter table hydra_oauth2_access add constraint hydra_oauth2_access_scope_check check (length(scope) < 4096) not valid;
alter table hydra_oauth2_access validate constraint hydra_oauth2_access_scope_check;
