-- Version 2: the network that every row belongs to. Its number sorts before all of version 1: what is missing is found by
-- set difference, never by "greater than the highest". The id is random in each database.
create table networks (
    id          uuid primary key,
    created_at  timestamp not null default (now() at time zone 'utc'),
    updated_at  timestamp not null default (now() at time zone 'utc')
);
insert into networks (id) values (gen_random_uuid());
