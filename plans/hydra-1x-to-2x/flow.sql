-- One flow of version 2 out of four tables of version 1: the login's question and answer, the consent's question and answer.
--
-- The engine's own merge of these tables gets two things wrong, which this select does right:
--   * an answer's `error` is never null, a success holds '{}': the merge takes every answered login for a failed one (state 128);
--   * a fresh login's request has no subject: the merge leaves it empty, and a revocation by subject no longer finds the flow.
-- And one thing it does silently: a consent whose login is gone (a logout took it) is dropped, and its tokens lose their consent. Here
-- such a consent gets a login of its own, under the consent's challenge.
--
-- A function of blue's rows alone: it is asked again for every touched key. Two consents of one login would give one key twice; the copy
-- stops there, and they are settled on blue first.
select f.login_challenge,
       f.login_verifier,
       f.login_csrf,
       f.subject,
       f.request_url,
       f.login_skip,
       f.client_id,
       f.requested_at,
       f.login_initialized_at,
       coalesce(nullif(f.oidc_context, ''), '{}')::jsonb                              as oidc_context,
       f.login_session_id,
       case when f.login_error <> '{}' and f.login_error <> '' then 128               -- the login was refused
            when g.error <> '{}' and g.error <> '' then 129                           -- the consent was refused
            when g.was_used then 6                                                    -- a live grant
            when g.challenge is not null then 5                                       -- consent answered, browser not back
            when f.consent_challenge_id is not null then 4                            -- consent asked
            when f.login_was_used then 3                                              -- login used, no consent asked
            when f.login_error is not null then 2                                     -- login answered, browser not back
            else 1 end                                                                as state,
       f.login_remember,
       f.login_remember_for,
       f.login_error,
       f.acr,
       f.login_authenticated_at,
       f.login_was_used,
       false                                                                          as login_extend_session_lifespan,
       f.forced_subject_identifier,
       coalesce(nullif(f.context, ''), '{}')::jsonb                                   as context,
       f.consent_challenge_id,
       f.consent_skip,
       f.consent_verifier,
       f.consent_csrf,
       coalesce(g.remember, false)                                                    as consent_remember,
       g.remember_for                                                                 as consent_remember_for,
       g.handled_at                                                                   as consent_handled_at,
       g.error                                                                        as consent_error,
       coalesce(nullif(g.session_access_token, ''), '{}')::jsonb                      as session_access_token,
       coalesce(nullif(g.session_id_token, ''), '{}')::jsonb                          as session_id_token,
       coalesce(g.was_used, false)                                                    as consent_was_used,
       null                                                                           as identity_provider_session_id,
       to_jsonb(string_to_array(f.requested_scope, '|'))                              as requested_scope,
       to_jsonb(string_to_array(f.requested_at_audience, '|'))                        as requested_at_audience,
       to_jsonb(string_to_array(f.amr, '|'))                                          as amr,
       to_jsonb(string_to_array(g.granted_scope, '|'))                                as granted_scope,
       to_jsonb(string_to_array(g.granted_at_audience, '|'))                          as granted_at_audience,
       $network                                                                       as nid
  from (
        -- Every login, with its consent when it has come that far.
        select l.challenge                                                            as login_challenge,
               l.verifier                                                             as login_verifier,
               l.csrf                                                                 as login_csrf,
               coalesce(nullif(c.subject, ''), nullif(a.subject, ''), l.subject)      as subject,
               l.request_url,
               l.skip                                                                 as login_skip,
               l.client_id,
               l.requested_at,
               l.authenticated_at                                                     as login_initialized_at,
               l.oidc_context,
               l.login_session_id,
               coalesce(a.remember, false)                                            as login_remember,
               coalesce(a.remember_for, 0)                                            as login_remember_for,
               coalesce(a.error, case when c.challenge is not null then '{}' end)     as login_error,
               coalesce(a.acr, '')                                                    as acr,
               a.authenticated_at                                                     as login_authenticated_at,
               coalesce(a.was_used, false) or c.challenge is not null                 as login_was_used,
               coalesce(a.forced_subject_identifier, '')                              as forced_subject_identifier,
               a.context,
               c.challenge                                                            as consent_challenge_id,
               coalesce(c.skip, false)                                                as consent_skip,
               c.verifier                                                             as consent_verifier,
               c.csrf                                                                 as consent_csrf,
               l.requested_scope,
               l.requested_at_audience,
               a.amr
          from hydra_oauth2_authentication_request l
          left join hydra_oauth2_authentication_request_handled a on a.challenge = l.challenge
          left join hydra_oauth2_consent_request c on c.login_challenge = l.challenge
        union all
        -- Every consent whose login is gone, with a login made from it: under the consent's own challenge, which is as random as a
        -- login's and which blue has an index on.
        select c.challenge                                                            as login_challenge,
               md5('login' || c.verifier)::varchar(40)                                as login_verifier,
               c.csrf                                                                 as login_csrf,
               c.subject,
               c.request_url,
               true                                                                   as login_skip,
               c.client_id,
               c.requested_at,
               c.authenticated_at                                                     as login_initialized_at,
               c.oidc_context,
               c.login_session_id,
               false                                                                  as login_remember,
               0                                                                      as login_remember_for,
               '{}'                                                                   as login_error,
               c.acr,
               c.authenticated_at                                                     as login_authenticated_at,
               true                                                                   as login_was_used,
               coalesce(c.forced_subject_identifier, '')                              as forced_subject_identifier,
               c.context,
               c.challenge                                                            as consent_challenge_id,
               c.skip                                                                 as consent_skip,
               c.verifier                                                             as consent_verifier,
               c.csrf                                                                 as consent_csrf,
               c.requested_scope,
               c.requested_at_audience,
               c.amr
          from hydra_oauth2_consent_request c
         where c.login_challenge is null
       ) f
  left join hydra_oauth2_consent_request_handled g on g.challenge = f.consent_challenge_id
