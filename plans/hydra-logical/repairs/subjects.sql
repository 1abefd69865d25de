-- The engine's merge takes a flow's subject from the login's request, which is empty for every fresh login. Tokens and sessions of the flow
-- kept theirs. What finds none stays empty, the invariant then does not hold, and nothing of this stands.
update hydra_oauth2_flow f
   set subject = coalesce(
           (select t.subject from hydra_oauth2_refresh t where t.challenge_id = f.consent_challenge_id and t.subject <> '' limit 1),
           (select t.subject from hydra_oauth2_access t where t.challenge_id = f.consent_challenge_id and t.subject <> '' limit 1),
           (select s.subject from hydra_oauth2_authentication_session s where s.id = f.login_session_id),
           f.subject)
 where f.subject = '' and f.consent_challenge_id is not null
