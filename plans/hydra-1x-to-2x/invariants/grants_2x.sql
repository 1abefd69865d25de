-- The same on green, where it only stands in state 5 (answered) or 6 (used): in any other it is in no list, and no user can revoke it.
select consent_challenge_id  as consent_challenge,
       subject               as subject,
       client_id             as client,
       state in (5, 6)       as stands
  from hydra_oauth2_flow
 where consent_error in ('', '{}') and not consent_skip
