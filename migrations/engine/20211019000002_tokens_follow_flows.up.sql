-- Version 2: tokens follow the flow. A consent that has lost its login has no flow: its tokens silently lose their consent.
alter table hydra_oauth2_access drop constraint hydra_oauth2_access_challenge_id_fkey;
update hydra_oauth2_access t set challenge_id = null
 where challenge_id is not null
   and not exists (select from hydra_oauth2_flow f where f.consent_challenge_id = t.challenge_id);
alter table hydra_oauth2_refresh drop constraint hydra_oauth2_refresh_challenge_id_fkey;
update hydra_oauth2_refresh t set challenge_id = null
 where challenge_id is not null
   and not exists (select from hydra_oauth2_flow f where f.consent_challenge_id = t.challenge_id);
alter table hydra_oauth2_code drop constraint hydra_oauth2_code_challenge_id_fkey;
update hydra_oauth2_code t set challenge_id = null
 where challenge_id is not null
   and not exists (select from hydra_oauth2_flow f where f.consent_challenge_id = t.challenge_id);
alter table hydra_oauth2_oidc drop constraint hydra_oauth2_oidc_challenge_id_fkey;
update hydra_oauth2_oidc t set challenge_id = null
 where challenge_id is not null
   and not exists (select from hydra_oauth2_flow f where f.consent_challenge_id = t.challenge_id);
alter table hydra_oauth2_pkce drop constraint hydra_oauth2_pkce_challenge_id_fkey;
update hydra_oauth2_pkce t set challenge_id = null
 where challenge_id is not null
   and not exists (select from hydra_oauth2_flow f where f.consent_challenge_id = t.challenge_id);

drop table hydra_oauth2_consent_request_handled;
drop table hydra_oauth2_consent_request;
drop table hydra_oauth2_authentication_request_handled;
drop table hydra_oauth2_authentication_request;
drop table schema_migration_legacy;
