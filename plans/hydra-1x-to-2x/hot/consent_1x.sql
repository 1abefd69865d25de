-- 1.x: a consent's question with its answer, if there is one.
select c.challenge, c.verifier, c.client_id, c.subject, c.login_challenge, g.granted_scope, g.was_used, g.error
  from hydra_oauth2_consent_request c
  left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge
 where c.challenge = $1
