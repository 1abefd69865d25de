-- Version 2: the flow's indexes and references.
create unique index hydra_oauth2_flow_login_verifier_idx on hydra_oauth2_flow (login_verifier);
create unique index hydra_oauth2_flow_consent_challenge_idx on hydra_oauth2_flow (consent_challenge_id);
create unique index hydra_oauth2_flow_consent_verifier_idx on hydra_oauth2_flow (consent_verifier);
create index hydra_oauth2_flow_login_session_id_idx on hydra_oauth2_flow (login_session_id);
create index hydra_oauth2_flow_subject_idx on hydra_oauth2_flow (subject);
create index hydra_oauth2_flow_client_id_subject_idx on hydra_oauth2_flow (client_id, subject);
alter table hydra_oauth2_flow add constraint hydra_oauth2_flow_login_session_id_fk
    foreign key (login_session_id) references hydra_oauth2_authentication_session (id) on delete set null;
alter table hydra_oauth2_access add constraint hydra_oauth2_access_challenge_id_fk
    foreign key (challenge_id) references hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table hydra_oauth2_refresh add constraint hydra_oauth2_refresh_challenge_id_fk
    foreign key (challenge_id) references hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table hydra_oauth2_code add constraint hydra_oauth2_code_challenge_id_fk
    foreign key (challenge_id) references hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table hydra_oauth2_oidc add constraint hydra_oauth2_oidc_challenge_id_fk
    foreign key (challenge_id) references hydra_oauth2_flow (consent_challenge_id) on delete cascade;
alter table hydra_oauth2_pkce add constraint hydra_oauth2_pkce_challenge_id_fk
    foreign key (challenge_id) references hydra_oauth2_flow (consent_challenge_id) on delete cascade;
