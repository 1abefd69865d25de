-- Version 1: login sessions, and four tables for the two questions (login, consent) and their answers.
create table hydra_oauth2_authentication_session (
    id                varchar(40) primary key,
    authenticated_at  timestamp not null default (now() at time zone 'utc'),
    subject           varchar(255) not null,
    remember          boolean not null default false
);
create index hydra_oauth2_authentication_session_sub_idx on hydra_oauth2_authentication_session (subject);

create table hydra_oauth2_authentication_request (
    challenge              varchar(40) primary key,
    verifier               varchar(40) not null,
    csrf                   varchar(40) not null,
    requested_scope        text not null,
    requested_at_audience  text default '',
    subject                varchar(255) not null,
    request_url            text not null,
    skip                   boolean not null,
    client_id              varchar(255) not null references hydra_client (id) on delete cascade,
    requested_at           timestamp not null default (now() at time zone 'utc'),
    authenticated_at       timestamp,
    oidc_context           text not null,
    login_session_id       varchar(40) references hydra_oauth2_authentication_session (id) on delete cascade
);
create unique index hydra_oauth2_authentication_request_veri_idx on hydra_oauth2_authentication_request (verifier);
create index hydra_oauth2_authentication_request_cid_idx on hydra_oauth2_authentication_request (client_id);
create index hydra_oauth2_authentication_request_sub_idx on hydra_oauth2_authentication_request (subject);
create index hydra_oauth2_authentication_request_login_session_id_idx
    on hydra_oauth2_authentication_request (login_session_id);

-- A success keeps the string `{}` in `error`; a real error is a JSON object with members.
create table hydra_oauth2_authentication_request_handled (
    challenge                  varchar(40) primary key
        references hydra_oauth2_authentication_request (challenge) on delete cascade,
    subject                    varchar(255) not null,
    remember                   boolean not null,
    remember_for               integer not null,
    error                      text not null,
    acr                        text not null,
    amr                        text not null default '',
    context                    text not null default '{}',
    was_used                   boolean not null,
    forced_subject_identifier  varchar(255) default '',
    requested_at               timestamp not null default (now() at time zone 'utc'),
    authenticated_at           timestamp
);

create table hydra_oauth2_consent_request (
    challenge                  varchar(40) primary key,
    verifier                   varchar(40) not null,
    csrf                       varchar(40) not null,
    client_id                  varchar(255) not null references hydra_client (id) on delete cascade,
    subject                    varchar(255) not null,
    request_url                text not null,
    skip                       boolean not null,
    requested_scope            text not null,
    requested_at_audience      text default '',
    oidc_context               text not null,
    context                    text not null default '{}',
    acr                        text not null default '',
    amr                        text not null default '',
    forced_subject_identifier  varchar(255) default '',
    requested_at               timestamp not null default (now() at time zone 'utc'),
    authenticated_at           timestamp,
    login_session_id           varchar(40) references hydra_oauth2_authentication_session (id) on delete set null,
    login_challenge            varchar(40) references hydra_oauth2_authentication_request (challenge) on delete set null
);
create unique index hydra_oauth2_consent_request_veri_idx on hydra_oauth2_consent_request (verifier);
create index hydra_oauth2_consent_request_cid_idx on hydra_oauth2_consent_request (client_id);
create index hydra_oauth2_consent_request_sub_idx on hydra_oauth2_consent_request (subject);
create index hydra_oauth2_consent_request_login_session_id_idx on hydra_oauth2_consent_request (login_session_id);
create index hydra_oauth2_consent_request_login_challenge_idx on hydra_oauth2_consent_request (login_challenge);
create index hydra_oauth2_consent_request_client_id_subject_idx on hydra_oauth2_consent_request (client_id, subject);

create table hydra_oauth2_consent_request_handled (
    challenge             varchar(40) primary key
        references hydra_oauth2_consent_request (challenge) on delete cascade,
    granted_scope         text not null,
    granted_at_audience   text default '',
    remember              boolean not null,
    remember_for          integer not null,
    error                 text not null,
    session_access_token  text not null,
    session_id_token      text not null,
    was_used              boolean not null,
    requested_at          timestamp not null default (now() at time zone 'utc'),
    authenticated_at      timestamp,
    handled_at            timestamp
);

create table hydra_oauth2_obfuscated_authentication_session (
    subject             varchar(255) not null,
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    subject_obfuscated  varchar(255) not null,
    primary key (subject, client_id)
);
create unique index hydra_oauth2_obfuscated_authentication_session_so_idx
    on hydra_oauth2_obfuscated_authentication_session (client_id, subject_obfuscated);

create table hydra_oauth2_logout_request (
    challenge     varchar(36) primary key,
    verifier      varchar(36) not null,
    subject       varchar(255) not null,
    sid           varchar(36) not null,
    client_id     varchar(255) references hydra_client (id) on delete cascade,
    request_url   text not null,
    redir_url     text not null,
    was_used      boolean not null default false,
    accepted      boolean not null default false,
    rejected      boolean not null default false,
    rp_initiated  boolean not null default false
);
create unique index hydra_oauth2_logout_request_veri_idx on hydra_oauth2_logout_request (verifier);
create index hydra_oauth2_logout_request_client_id_idx on hydra_oauth2_logout_request (client_id);
