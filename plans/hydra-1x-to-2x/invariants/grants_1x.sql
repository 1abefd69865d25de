-- Every consent that a user gave and that stands: blue's answer without an error ('{}' is a success), not one that was skipped.
select c.challenge  as consent_challenge,
       c.subject    as subject,
       c.client_id  as client,
       true         as stands
  from hydra_oauth2_consent_request c
  join hydra_oauth2_consent_request_handled h on h.challenge = c.challenge
 where h.error in ('', '{}') and not c.skip
