-- 1.x: a login's question with its answer, if there is one.
select l.challenge, l.verifier, l.client_id, coalesce(nullif(l.subject, ''), a.subject, ''), l.request_url, l.skip, a.was_used, a.error
  from hydra_oauth2_authentication_request l
  left join hydra_oauth2_authentication_request_handled a on a.challenge = l.challenge
 where l.challenge = $1
