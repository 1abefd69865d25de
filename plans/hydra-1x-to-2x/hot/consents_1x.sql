-- 1.x: consents of a subject that were given by hand and still stand, newest first.
select c.challenge, c.client_id, g.granted_scope, g.handled_at
  from hydra_oauth2_consent_request c
  left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge
 where c.subject = $1 and ($2::text is null or c.client_id = $2) and not c.skip and g.error = '{}'
   and (g.remember_for = 0 or not g.remember or g.handled_at + make_interval(secs => g.remember_for) > now() at time zone 'utc')
 order by g.handled_at desc
