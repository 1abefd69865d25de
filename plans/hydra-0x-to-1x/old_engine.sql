-- Statements as the older engine sends them. With columns written out, columns that come do not disturb it; `select *` would break, and so
-- would an insert that leaves out its columns.
select client_name, client_secret, scope, grant_types, redirect_uris from hydra_client where id = $1;
select request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, active
  from hydra_oauth2_access where signature = $1;
select signature from hydra_oauth2_access where subject = $1 and client_id = $2 order by requested_at desc limit $3;
insert into hydra_oauth2_access
       (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, active, requested_audience, granted_audience)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
update hydra_oauth2_access set active = false where request_id = $1;
delete from hydra_oauth2_access where signature = $1;
