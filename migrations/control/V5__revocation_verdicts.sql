-- What people said of single revocations. Nothing here refers to the event: one may still be on its way from an outside queue.

-- A named person answers for a revocation that could not be replayed or proved; it stops no move any more, and is shown for ever.
create table cutover.revocation_verdict (
    event uuid primary key,
    plan text not null,
    said_by text not null,
    because text not null check (because <> ''),
    said_at timestamptz not null default clock_timestamp()
);

create index revocation_verdict_plan on cutover.revocation_verdict (plan);

-- Who asked for a revocation that came in by no door of the engine, and why.
create table cutover.revocation_asked (
    event uuid primary key,
    plan text not null,
    actor text not null,
    because text not null,
    asked_at timestamptz not null default clock_timestamp()
);

-- Chains that batches found dead although nobody had revoked them through a door: reuse of a refresh token, of a code, direct SQL.
create table cutover.revocation_unasked (
    plan text not null,
    side text not null check (side in ('blue', 'green')),
    request text not null,
    client text not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (plan, side, request)
);
