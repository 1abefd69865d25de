-- Version 1: OAuth clients and signing keys. Lists are joined by `|`.
create table hydra_client (
    pk                                    serial primary key,
    id                                    varchar(255) not null unique,
    client_name                           text not null default '',
    client_secret                         text not null default '',
    owner                                 text not null default '',
    policy_uri                            text not null default '',
    tos_uri                               text not null default '',
    client_uri                            text not null default '',
    logo_uri                              text not null default '',
    sector_identifier_uri                 text not null default '',
    jwks                                  text not null default '',
    jwks_uri                              text not null default '',
    metadata                              text not null default '{}',
    scope                                 text not null default '',
    redirect_uris                         text not null default '',
    grant_types                           text not null default '',
    response_types                        text not null default '',
    contacts                              text not null default '',
    request_uris                          text not null default '',
    allowed_cors_origins                  text not null default '',
    audience                              text not null default '',
    post_logout_redirect_uris             text not null default '',
    client_secret_expires_at              integer not null default 0,
    token_endpoint_auth_method            varchar(25) not null default 'client_secret_basic',
    token_endpoint_auth_signing_alg       varchar(10) not null default '',
    request_object_signing_alg            varchar(10) not null default '',
    userinfo_signed_response_alg          varchar(10) not null default 'none',
    subject_type                          varchar(15) not null default 'public',
    frontchannel_logout_uri               text not null default '',
    frontchannel_logout_session_required  boolean not null default false,
    backchannel_logout_uri                text not null default '',
    backchannel_logout_session_required   boolean not null default false,
    registration_access_token_signature   varchar(128) not null default '',
    created_at                            timestamp not null default (now() at time zone 'utc'),
    updated_at                            timestamp not null default (now() at time zone 'utc'),
    client_credentials_grant_access_token_lifespan   bigint,
    authorization_code_grant_access_token_lifespan   bigint,
    authorization_code_grant_refresh_token_lifespan  bigint,
    authorization_code_grant_id_token_lifespan       bigint,
    refresh_token_grant_access_token_lifespan        bigint,
    refresh_token_grant_refresh_token_lifespan       bigint,
    refresh_token_grant_id_token_lifespan            bigint,
    implicit_grant_access_token_lifespan             bigint,
    implicit_grant_id_token_lifespan                 bigint,
    jwt_bearer_grant_access_token_lifespan           bigint,
    password_grant_access_token_lifespan             bigint,
    password_grant_refresh_token_lifespan            bigint
);
create index hydra_client_owner_idx on hydra_client (owner);

create table hydra_jwk (
    pk          serial primary key,
    sid         varchar(255) not null,
    kid         varchar(255) not null,
    version     integer not null default 0,
    keydata     text not null,
    created_at  timestamp not null default (now() at time zone 'utc'),
    unique (sid, kid)
);

create table hydra_oauth2_trusted_jwt_bearer_issuer (
    id                 uuid primary key,
    issuer             varchar(255) not null,
    subject            varchar(255) not null,
    scope              text not null,
    key_set            varchar(255) not null,
    key_id             varchar(255) not null,
    allow_any_subject  boolean not null default false,
    created_at         timestamp not null default (now() at time zone 'utc'),
    expires_at         timestamp not null default (now() at time zone 'utc'),
    constraint hydra_oauth2_trusted_jwt_bearer_issuer_unique unique (issuer, subject, key_id),
    constraint hydra_oauth2_trusted_jwt_bearer_issuer_key_fk
        foreign key (key_set, key_id) references hydra_jwk (sid, kid) on delete cascade
);

-- What an older runner kept before `schema_migration`; nobody reads it any more.
create table schema_migration_legacy (
    id          varchar(48) primary key,
    applied_at  timestamp not null default (now() at time zone 'utc')
);
insert into schema_migration_legacy (id) values ('client-1'), ('client-2'), ('jwk-1'), ('oauth2-1');
