-- How far each gateway has the revocations in its memory, by the number of the last arrival that it denies. Written a few times a second at
-- most; a row that is not fresh says nothing.
create table cutover.overlay_seen (
    plan text not null,
    gateway text not null,
    incarnation uuid not null,
    up_to bigint not null,
    entries bigint not null,
    at timestamptz not null default clock_timestamp(),
    primary key (plan, gateway)
);
