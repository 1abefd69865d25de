-- Version 2: hydra_oauth2_refresh gets a network; whole-table update, indexes built again.
alter table hydra_oauth2_refresh add column nid uuid;
update hydra_oauth2_refresh set nid = (select id from networks);
alter table hydra_oauth2_refresh alter column nid set not null;
alter table hydra_oauth2_refresh add constraint hydra_oauth2_refresh_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
drop index hydra_oauth2_refresh_request_id_idx;
create index hydra_oauth2_refresh_request_id_idx on hydra_oauth2_refresh (request_id, nid);
drop index hydra_oauth2_refresh_client_id_subject_idx;
create index hydra_oauth2_refresh_client_id_subject_idx on hydra_oauth2_refresh (client_id, subject, nid);
drop index hydra_oauth2_refresh_requested_at_idx;
create index hydra_oauth2_refresh_requested_at_idx on hydra_oauth2_refresh (requested_at, nid);
alter table hydra_oauth2_refresh add constraint hydra_oauth2_refresh_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
