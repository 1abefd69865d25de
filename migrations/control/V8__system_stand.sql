-- Where systems stand that keep no memory of their own (those moved by commands, HAProxy, nginx): the highest epoch accepted for each, and
-- what is being done to it. An act that nobody ended is outwaited by this server's clock.
create table cutover.system_stand (
  plan text not null,
  system text not null,
  epoch bigint not null default 0,
  nonce uuid not null default '00000000-0000-0000-0000-000000000000',
  side text not null default 'blue' check (side in ('blue', 'green')),
  state text not null default 'serving' check (state in ('serving', 'prepared', 'holding', 'switched', 'refusing')),
  act uuid,
  act_until timestamptz,
  primary key (plan, system)
);
