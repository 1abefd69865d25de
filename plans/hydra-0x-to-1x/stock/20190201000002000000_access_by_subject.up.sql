create index hydra_oauth2_access_subject_idx on hydra_oauth2_access (subject, requested_at);
