-- What the engine's merge of the four request tables would get wrong or lose, put right on the copy. Blue is not touched.
--
-- A fresh login's request has no subject; its answer has. Without it a revocation by subject would no longer find the flow.
update hydra_oauth2_authentication_request l
   set subject = a.subject
  from hydra_oauth2_authentication_request_handled a
 where a.challenge = l.challenge and l.subject = '';

-- A consent whose login is gone would be dropped, and its tokens would lose their consent: it gets a login of its own, under its own
-- challenge, exactly as the flow's mapping makes one for consents that are touched later.
insert into hydra_oauth2_authentication_request (challenge, verifier, csrf, requested_scope, requested_at_audience, subject, request_url,
    skip, client_id, requested_at, authenticated_at, oidc_context, login_session_id)
select challenge, md5('login' || verifier), csrf, requested_scope, requested_at_audience, subject, request_url,
    true, client_id, requested_at, authenticated_at, oidc_context, login_session_id
  from hydra_oauth2_consent_request
 where login_challenge is null;
insert into hydra_oauth2_authentication_request_handled (challenge, subject, remember, remember_for, error, acr, amr, context, was_used,
    requested_at, authenticated_at)
select challenge, subject, false, 0, '{}', acr, amr, context, true, requested_at, authenticated_at
  from hydra_oauth2_consent_request
 where login_challenge is null;
update hydra_oauth2_consent_request set login_challenge = challenge where login_challenge is null;
