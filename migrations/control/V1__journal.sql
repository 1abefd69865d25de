-- The journal and the lease. cutover.term is created by database::term, alike in control, blue and green.

create table cutover.run (
  id uuid primary key,
  plan text not null,
  digest text not null,
  -- json, not jsonb: the hash chain starts from this text, byte for byte
  header json not null,
  started_at timestamptz not null,
  finished_at timestamptz
);

create unique index run_unfinished on cutover.run (plan) where finished_at is null;

create table cutover.record (
  run uuid not null references cutover.run,
  seq bigint not null check (seq > 0),
  at timestamptz not null,
  term bigint not null,
  kind text not null,
  step text,
  -- json, not jsonb: the hash is over this text, byte for byte
  body json not null,
  hash bytea not null check (octet_length(hash) = 32),
  primary key (run, seq)
);

create table cutover.lease (
  singleton boolean primary key default true check (singleton),
  id uuid not null,
  plan text not null,
  holder text not null,
  term bigint,
  nonce uuid,
  ttl_ms bigint not null,
  acquired_at timestamptz not null,
  renewed_at timestamptz not null,
  released_at timestamptz
);

-- A lease that nobody holds, so that taking it is always an update of one locked row.
insert into cutover.lease (id, plan, holder, ttl_ms, acquired_at, renewed_at, released_at)
values (gen_random_uuid(), '', '', 0, now(), now(), now());
