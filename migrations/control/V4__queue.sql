-- The default queue of messages between gateways and the tables of V2, and what is known of the messages that have arrived from any queue.

-- One row per message under way. A lease lasts until its time is over or the session that took it has ended, whichever is first.
create table cutover.message (
    place bigint generated always as identity primary key,
    plan text not null,
    id uuid not null,
    is_dead boolean not null default false,
    -- bytea, not json: what cannot be understood must be kept as well, byte for byte
    body bytea not null,
    published_at timestamptz not null default clock_timestamp(),
    attempts int not null default 0,
    lease uuid,
    leased_until timestamptz,
    holder int,
    holder_since timestamptz,
    unique (plan, is_dead, id)
);

-- Which numbers of an incarnation have arrived, of every kind of message; each number and each message once.
create table cutover.received (
    incarnation uuid not null references cutover.producer (incarnation),
    seq bigint not null check (seq > 0),
    id uuid not null unique,
    primary key (incarnation, seq)
);

insert into cutover.received (incarnation, seq, id) select incarnation, seq, id from cutover.revocation;

-- Outcomes that arrived before their event.
create table cutover.early_outcome (
    id uuid not null,
    plan text not null,
    gateway text not null,
    outcome text not null,
    status int,
    primary key (id, gateway)
);

-- Messages that cannot be understood or believed. Each blocks the flip until a person has looked at it.
create table cutover.dead_message (
    id uuid not null,
    plan text not null,
    queue text not null,
    body bytea not null,
    why text not null,
    found_at timestamptz not null default clock_timestamp(),
    waived_at timestamptz,
    waived_because text,
    primary key (plan, id)
);

-- The last number that an ended incarnation had confirmed; what it numbered above was never forwarded and is void.
alter table cutover.producer add column closed_seq bigint check (closed_seq >= 0);

-- An ended incarnation whose missing or unproved messages a person has answered for.
alter table cutover.producer add column waived_at timestamptz, add column waived_because text;

-- The producer's clock, which is compared with nobody's; and who asked, as the gateway saw it. Events do not arrive in the order of their
-- numbers; `arrived` is in the order of commits within a plan, because whoever takes messages in takes turns: it can be followed.
alter table cutover.revocation
  add column produced_at timestamptz,
  add column actor text,
  add column arrived bigint generated always as identity;

create index revocation_arrived on cutover.revocation (plan, arrived);
