-- 2.x: the same, from the flow.
select consent_challenge_id, client_id, granted_scope, consent_handled_at
  from hydra_oauth2_flow
 where subject = $1 and ($2::text is null or client_id = $2) and not consent_skip and state in (5, 6) and consent_error = '{}'
   and nid = (select id from networks)
   and (consent_remember_for = 0 or not consent_remember
        or consent_handled_at + make_interval(secs => consent_remember_for) > now() at time zone 'utc')
 order by consent_handled_at desc
