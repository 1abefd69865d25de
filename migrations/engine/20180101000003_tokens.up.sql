-- Version 1: five token tables of one shape, and the assertions that were used.

create table hydra_oauth2_access (
    signature           varchar(255) primary key,
    request_id          varchar(40) not null,
    requested_at        timestamp not null default (now() at time zone 'utc'),
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    scope               text not null,
    granted_scope       text not null,
    form_data           text not null,
    session_data        text not null,
    subject             varchar(255) not null default '',
    active              boolean not null default true,
    requested_audience  text default '',
    granted_audience    text default '',
    challenge_id        varchar(40) references hydra_oauth2_consent_request_handled (challenge) on delete cascade
);
create index hydra_oauth2_access_request_id_idx on hydra_oauth2_access (request_id);
create index hydra_oauth2_access_client_id_subject_idx on hydra_oauth2_access (client_id, subject);
create index hydra_oauth2_access_challenge_id_idx on hydra_oauth2_access (challenge_id);

create index hydra_oauth2_access_requested_at_idx on hydra_oauth2_access (requested_at);

create table hydra_oauth2_refresh (
    signature           varchar(255) primary key,
    request_id          varchar(40) not null,
    requested_at        timestamp not null default (now() at time zone 'utc'),
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    scope               text not null,
    granted_scope       text not null,
    form_data           text not null,
    session_data        text not null,
    subject             varchar(255) not null default '',
    active              boolean not null default true,
    requested_audience  text default '',
    granted_audience    text default '',
    challenge_id        varchar(40) references hydra_oauth2_consent_request_handled (challenge) on delete cascade
);
create index hydra_oauth2_refresh_request_id_idx on hydra_oauth2_refresh (request_id);
create index hydra_oauth2_refresh_client_id_subject_idx on hydra_oauth2_refresh (client_id, subject);
create index hydra_oauth2_refresh_challenge_id_idx on hydra_oauth2_refresh (challenge_id);

create index hydra_oauth2_refresh_requested_at_idx on hydra_oauth2_refresh (requested_at);

create table hydra_oauth2_code (
    signature           varchar(255) primary key,
    request_id          varchar(40) not null,
    requested_at        timestamp not null default (now() at time zone 'utc'),
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    scope               text not null,
    granted_scope       text not null,
    form_data           text not null,
    session_data        text not null,
    subject             varchar(255) not null default '',
    active              boolean not null default true,
    requested_audience  text default '',
    granted_audience    text default '',
    challenge_id        varchar(40) references hydra_oauth2_consent_request_handled (challenge) on delete cascade
);
create index hydra_oauth2_code_request_id_idx on hydra_oauth2_code (request_id);
create index hydra_oauth2_code_client_id_subject_idx on hydra_oauth2_code (client_id, subject);
create index hydra_oauth2_code_challenge_id_idx on hydra_oauth2_code (challenge_id);

create table hydra_oauth2_oidc (
    signature           varchar(255) primary key,
    request_id          varchar(40) not null,
    requested_at        timestamp not null default (now() at time zone 'utc'),
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    scope               text not null,
    granted_scope       text not null,
    form_data           text not null,
    session_data        text not null,
    subject             varchar(255) not null default '',
    active              boolean not null default true,
    requested_audience  text default '',
    granted_audience    text default '',
    challenge_id        varchar(40) references hydra_oauth2_consent_request_handled (challenge) on delete cascade
);
create index hydra_oauth2_oidc_request_id_idx on hydra_oauth2_oidc (request_id);
create index hydra_oauth2_oidc_client_id_subject_idx on hydra_oauth2_oidc (client_id, subject);
create index hydra_oauth2_oidc_challenge_id_idx on hydra_oauth2_oidc (challenge_id);

create table hydra_oauth2_pkce (
    signature           varchar(255) primary key,
    request_id          varchar(40) not null,
    requested_at        timestamp not null default (now() at time zone 'utc'),
    client_id           varchar(255) not null references hydra_client (id) on delete cascade,
    scope               text not null,
    granted_scope       text not null,
    form_data           text not null,
    session_data        text not null,
    subject             varchar(255) not null default '',
    active              boolean not null default true,
    requested_audience  text default '',
    granted_audience    text default '',
    challenge_id        varchar(40) references hydra_oauth2_consent_request_handled (challenge) on delete cascade
);
create index hydra_oauth2_pkce_request_id_idx on hydra_oauth2_pkce (request_id);
create index hydra_oauth2_pkce_client_id_subject_idx on hydra_oauth2_pkce (client_id, subject);
create index hydra_oauth2_pkce_challenge_id_idx on hydra_oauth2_pkce (challenge_id);

create table hydra_oauth2_jti_blacklist (
    signature   varchar(64) primary key,
    expires_at  timestamp not null default (now() at time zone 'utc')
);
create index hydra_oauth2_jti_blacklist_expires_at_idx on hydra_oauth2_jti_blacklist (expires_at);
