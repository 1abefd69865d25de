-- Version 2: what a flow must hold in each state. 1 login started, 2 login answered, 3 login consumed, 4 consent started,
-- 5 consent answered, 6 consent consumed, 128 login error, 129 consent error; 1, 128 and 129 are free.
alter table hydra_oauth2_flow add constraint hydra_oauth2_flow_check check (
    state in (1, 128, 129)
    or (state in (2, 3) and login_error is not null and (state = 2 or login_was_used))
    or (state = 4 and login_error is not null and login_was_used
        and consent_challenge_id is not null and consent_verifier is not null and consent_csrf is not null)
    or (state in (5, 6) and login_error is not null and login_was_used
        and consent_challenge_id is not null and consent_verifier is not null and consent_csrf is not null
        and granted_scope is not null and consent_remember_for is not null and consent_error is not null
        and (state = 5 or consent_was_used))
);
