-- 2.x: an answered login is used once.
update hydra_oauth2_flow
   set login_was_used = true, login_session_id = $2, login_initialized_at = now() at time zone 'utc', state = 3
 where login_challenge = $1 and state = 2 and nid = (select id from networks)
