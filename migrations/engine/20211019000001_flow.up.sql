-- Version 2: one flow takes the place of login request, login answer, consent request and consent answer.
--
-- This file holds two DELIBERATE FAULTS of the stand-in, of the kind that real engines have had:
--   * `state`: an answer's error is never null, so every answered login becomes 128 (login error) and 129 is as wrong;
--   * `subject`: taken from the login request alone, which is empty for every fresh login.
-- A plan that carries rows through a mapping of its own never runs this over filled tables.
create table hydra_oauth2_flow (
    login_challenge                varchar(40) primary key,
    login_verifier                 varchar(40) not null,
    login_csrf                     varchar(40) not null,
    subject                        varchar(255) not null,
    request_url                    text not null,
    login_skip                     boolean not null,
    client_id                      varchar(255) not null,
    requested_at                   timestamp not null default (now() at time zone 'utc'),
    login_initialized_at           timestamp,
    oidc_context                   jsonb not null default '{}',
    login_session_id               varchar(40),
    state                          integer not null,
    login_remember                 boolean not null default false,
    login_remember_for             integer not null default 0,
    login_error                    text,
    acr                            text not null default '',
    login_authenticated_at         timestamp,
    login_was_used                 boolean not null default false,
    login_extend_session_lifespan  boolean not null default false,
    forced_subject_identifier      varchar(255) not null default '',
    context                        jsonb not null default '{}',
    consent_challenge_id           varchar(40),
    consent_skip                   boolean not null default false,
    consent_verifier               varchar(40),
    consent_csrf                   varchar(40),
    consent_remember               boolean not null default false,
    consent_remember_for           integer,
    consent_handled_at             timestamp,
    consent_error                  text,
    session_access_token           jsonb not null default '{}',
    session_id_token               jsonb not null default '{}',
    consent_was_used               boolean not null default false,
    identity_provider_session_id   varchar(40),
    requested_scope                text not null,
    requested_at_audience          text default '',
    amr                            text default '',
    granted_scope                  text,
    granted_at_audience            text default ''
);

insert into hydra_oauth2_flow (
    login_challenge, login_verifier, login_csrf, subject, request_url, login_skip, client_id, requested_at,
    login_initialized_at, oidc_context, login_session_id, state, login_remember, login_remember_for, login_error, acr,
    login_authenticated_at, login_was_used, forced_subject_identifier, context, consent_challenge_id, consent_skip,
    consent_verifier, consent_csrf, consent_remember, consent_remember_for, consent_handled_at, consent_error,
    session_access_token, session_id_token, consent_was_used, requested_scope, requested_at_audience, amr,
    granted_scope, granted_at_audience)
select l.challenge, l.verifier, l.csrf, l.subject, l.request_url, l.skip, l.client_id, l.requested_at,
       l.authenticated_at, l.oidc_context::jsonb, l.login_session_id,
       case when a.error is not null then 128
            when g.error is not null then 129
            when g.was_used then 6
            when g.challenge is not null then 5
            when c.challenge is not null then 4
            when a.was_used then 3
            when a.challenge is not null then 2
            else 1 end,
       coalesce(a.remember, false), coalesce(a.remember_for, 0), a.error, coalesce(a.acr, ''),
       a.authenticated_at, coalesce(a.was_used, false), coalesce(a.forced_subject_identifier, ''),
       coalesce(a.context, '{}')::jsonb, c.challenge, coalesce(c.skip, false),
       c.verifier, c.csrf, coalesce(g.remember, false), g.remember_for, g.handled_at, g.error,
       coalesce(g.session_access_token, '{}')::jsonb, coalesce(g.session_id_token, '{}')::jsonb,
       coalesce(g.was_used, false), l.requested_scope, l.requested_at_audience, a.amr,
       g.granted_scope, g.granted_at_audience
  from hydra_oauth2_authentication_request l
  left join hydra_oauth2_authentication_request_handled a on a.challenge = l.challenge
  left join hydra_oauth2_consent_request c on c.login_challenge = l.challenge
  left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge;
