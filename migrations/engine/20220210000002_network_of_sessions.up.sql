-- Version 2: sessions, flows and requests get a network; whole-table updates, indexes built again.
alter table hydra_oauth2_authentication_session add column nid uuid;
update hydra_oauth2_authentication_session set nid = (select id from networks);
alter table hydra_oauth2_authentication_session alter column nid set not null;
alter table hydra_oauth2_authentication_session add constraint hydra_oauth2_authentication_session_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_oauth2_flow add column nid uuid;
update hydra_oauth2_flow set nid = (select id from networks);
alter table hydra_oauth2_flow alter column nid set not null;
alter table hydra_oauth2_flow add constraint hydra_oauth2_flow_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_oauth2_logout_request add column nid uuid;
update hydra_oauth2_logout_request set nid = (select id from networks);
alter table hydra_oauth2_logout_request alter column nid set not null;
alter table hydra_oauth2_logout_request add constraint hydra_oauth2_logout_request_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_oauth2_obfuscated_authentication_session add column nid uuid;
update hydra_oauth2_obfuscated_authentication_session set nid = (select id from networks);
alter table hydra_oauth2_obfuscated_authentication_session alter column nid set not null;
alter table hydra_oauth2_obfuscated_authentication_session add constraint hydra_oauth2_obfuscated_authentication_session_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_oauth2_jti_blacklist add column nid uuid;
update hydra_oauth2_jti_blacklist set nid = (select id from networks);
alter table hydra_oauth2_jti_blacklist alter column nid set not null;
alter table hydra_oauth2_jti_blacklist add constraint hydra_oauth2_jti_blacklist_nid_fk
    foreign key (nid) references networks (id) on update restrict on delete cascade;
alter table hydra_oauth2_authentication_session add column identity_provider_session_id varchar(40);
drop index hydra_oauth2_authentication_session_sub_idx;
create index hydra_oauth2_authentication_session_sub_idx on hydra_oauth2_authentication_session (subject, nid);
alter table hydra_oauth2_jti_blacklist drop constraint hydra_oauth2_jti_blacklist_pkey;
alter table hydra_oauth2_jti_blacklist add constraint hydra_oauth2_jti_blacklist_pkey primary key (signature, nid);
alter table hydra_oauth2_obfuscated_authentication_session drop constraint hydra_oauth2_obfuscated_authentication_session_pkey;
alter table hydra_oauth2_obfuscated_authentication_session
    add constraint hydra_oauth2_obfuscated_authentication_session_pkey primary key (subject, client_id, nid);
drop index hydra_oauth2_obfuscated_authentication_session_so_idx;
create unique index hydra_oauth2_obfuscated_authentication_session_so_idx
    on hydra_oauth2_obfuscated_authentication_session (client_id, subject_obfuscated, nid);
alter table hydra_oauth2_flow add constraint hydra_oauth2_flow_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
alter table hydra_oauth2_obfuscated_authentication_session add constraint hydra_oauth2_obfuscated_authentication_session_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
alter table hydra_oauth2_logout_request add constraint hydra_oauth2_logout_request_client_id_fk
    foreign key (client_id, nid) references hydra_client (id, nid) on delete cascade;
