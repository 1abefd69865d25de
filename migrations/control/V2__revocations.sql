-- Revocations: who captures them, what was captured, and how far each producer had come when the hold was complete.
create schema if not exists cutover;

-- One row per incarnation of a gateway. Sequences start anew with each; a later incarnation of the same gateway ends the earlier.
create table cutover.producer (
    incarnation uuid primary key,
    plan text not null,
    gateway text not null,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);

create index producer_plan on cutover.producer (plan, gateway);

create table cutover.revocation (
    id uuid primary key,
    plan text not null,
    incarnation uuid not null references cutover.producer (incarnation),
    seq bigint not null check (seq > 0),
    captured_at timestamptz not null default clock_timestamp(),
    live text not null check (live in ('blue', 'green')),
    epoch bigint not null,
    door text not null,
    chain jsonb not null,
    blue_seen text not null,
    green_seen text not null,
    outcome text not null default 'captured' check (outcome in ('captured', 'executed', 'refused')),
    status int,
    replayed_at timestamptz,
    proved_at timestamptz,
    attempts int not null default 0,
    last_error text,
    dead_at timestamptz,
    unique (incarnation, seq)
);

create index revocation_open on cutover.revocation (plan) where outcome <> 'refused' and proved_at is null;

create table cutover.barrier (
    plan text not null,
    epoch bigint not null,
    incarnation uuid not null references cutover.producer (incarnation),
    last_seq bigint not null,
    at timestamptz not null default clock_timestamp(),
    primary key (plan, epoch, incarnation)
);
