-- An answer's error is never null, a success holds '{}': the engine's merge took every answered login for a failed one (128).
update hydra_oauth2_flow
   set state = case when consent_error is not null and consent_error not in ('', '{}') then 129 -- the consent was refused
                    when consent_was_used then 6                                                 -- a live grant
                    when consent_error is not null then 5                                        -- consent answered, browser not back
                    when consent_challenge_id is not null then 4                                 -- consent asked
                    when login_was_used then 3                                                   -- login used, no consent asked
                    else 2 end                                                                   -- login answered, browser not back
 where state = 128 and login_error in ('', '{}');
