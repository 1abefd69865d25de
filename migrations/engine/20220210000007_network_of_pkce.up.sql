-- Version 2: hydra_oauth2_pkce gets a network; whole-table update, indexes built again.
alter table hydra_oauth2_pkce add column nid uuid;
update hydra_oauth2_pkce set nid = (select id from networks);
alter table hydra_oauth2_pkce alter column nid set not null;
alter table hydra_oauth2_pkce add constraint hydra_oauth2_pkce_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
drop index hydra_oauth2_pkce_request_id_idx;
create index hydra_oauth2_pkce_request_id_idx on hydra_oauth2_pkce (request_id, nid);
drop index hydra_oauth2_pkce_client_id_subject_idx;
create index hydra_oauth2_pkce_client_id_subject_idx on hydra_oauth2_pkce (client_id, subject, nid);
alter table hydra_oauth2_pkce add constraint hydra_oauth2_pkce_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
