-- Version 2: hydra_oauth2_access gets a network; whole-table update, indexes built again.
alter table hydra_oauth2_access add column nid uuid;
update hydra_oauth2_access set nid = (select id from networks);
alter table hydra_oauth2_access alter column nid set not null;
alter table hydra_oauth2_access add constraint hydra_oauth2_access_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
drop index hydra_oauth2_access_request_id_idx;
create index hydra_oauth2_access_request_id_idx on hydra_oauth2_access (request_id, nid);
drop index hydra_oauth2_access_client_id_subject_idx;
create index hydra_oauth2_access_client_id_subject_idx on hydra_oauth2_access (client_id, subject, nid);
drop index hydra_oauth2_access_requested_at_idx;
create index hydra_oauth2_access_requested_at_idx on hydra_oauth2_access (requested_at, nid);
alter table hydra_oauth2_access add constraint hydra_oauth2_access_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
