-- Version 2: clients and keys get a network and a key that means nothing (`pk`); a client is known by (id, network).
alter table hydra_oauth2_obfuscated_authentication_session drop constraint hydra_oauth2_obfuscated_authentication_session_client_id_fkey;
alter table hydra_oauth2_logout_request drop constraint hydra_oauth2_logout_request_client_id_fkey;
alter table hydra_oauth2_access drop constraint hydra_oauth2_access_client_id_fkey;
alter table hydra_oauth2_refresh drop constraint hydra_oauth2_refresh_client_id_fkey;
alter table hydra_oauth2_code drop constraint hydra_oauth2_code_client_id_fkey;
alter table hydra_oauth2_oidc drop constraint hydra_oauth2_oidc_client_id_fkey;
alter table hydra_oauth2_pkce drop constraint hydra_oauth2_pkce_client_id_fkey;
alter table hydra_client add column nid uuid;
update hydra_client set nid = (select id from networks);
alter table hydra_client alter column nid set not null;
alter table hydra_client add constraint hydra_client_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_client drop constraint hydra_client_pkey;
alter table hydra_client drop constraint hydra_client_id_key;
alter table hydra_client rename column pk to pk_deprecated;
alter table hydra_client add column pk uuid not null default gen_random_uuid();
alter table hydra_client add constraint hydra_client_pkey primary key (id, nid);
create unique index hydra_client_pk_key on hydra_client (pk);
create unique index hydra_client_pk_deprecated_key on hydra_client (pk_deprecated);
alter table hydra_client add column access_token_strategy varchar(10) not null default '';
alter table hydra_client add column skip_consent boolean not null default false;
alter table hydra_client add column skip_logout_consent boolean;

alter table hydra_oauth2_trusted_jwt_bearer_issuer drop constraint hydra_oauth2_trusted_jwt_bearer_issuer_key_fk;
alter table hydra_oauth2_trusted_jwt_bearer_issuer drop constraint hydra_oauth2_trusted_jwt_bearer_issuer_unique;
alter table hydra_jwk add column nid uuid;
update hydra_jwk set nid = (select id from networks);
alter table hydra_jwk alter column nid set not null;
alter table hydra_jwk add constraint hydra_jwk_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_jwk drop constraint hydra_jwk_pkey;
alter table hydra_jwk drop constraint hydra_jwk_sid_kid_key;
alter table hydra_jwk rename column pk to pk_deprecated;
alter table hydra_jwk add column pk uuid not null default gen_random_uuid();
alter table hydra_jwk add constraint hydra_jwk_pkey primary key (pk);
create unique index hydra_jwk_pk_deprecated_key on hydra_jwk (pk_deprecated);
create unique index hydra_jwk_sid_kid_nid_key on hydra_jwk (sid, kid, nid);
alter table hydra_oauth2_trusted_jwt_bearer_issuer add column nid uuid;
update hydra_oauth2_trusted_jwt_bearer_issuer set nid = (select id from networks);
alter table hydra_oauth2_trusted_jwt_bearer_issuer alter column nid set not null;
alter table hydra_oauth2_trusted_jwt_bearer_issuer add constraint hydra_oauth2_trusted_jwt_bearer_issuer_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
create unique index hydra_oauth2_trusted_jwt_bearer_issuer_key
    on hydra_oauth2_trusted_jwt_bearer_issuer (issuer, subject, key_id, nid);
alter table hydra_oauth2_trusted_jwt_bearer_issuer add constraint hydra_oauth2_trusted_jwt_bearer_issuer_key_fk
    foreign key (key_set, key_id, nid) references hydra_jwk (sid, kid, nid) on delete cascade;
