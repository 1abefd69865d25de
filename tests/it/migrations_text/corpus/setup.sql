create schema side;
create domain short_text as text check (length(value) < 200);
create type mood as enum ('calm', 'busy');
create type pair as (a int, b int);
create sequence ticket;
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create function half(n int) returns int language sql immutable as $$ select n / 2 $$;
create table account (
  id bigint primary key,
  name varchar(40) not null,
  note text,
  label short_text,
  balance numeric(10, 2) not null default 0,
  level int,
  made_at timestamp not null default now(),
  feeling mood not null default 'calm'
);
create unique index account_name on account (name);
create index account_level on account (level);
create table grant_made (
  id bigint primary key,
  account_id bigint not null,
  parent_id bigint,
  scope text not null,
  active boolean not null default true,
  constraint grant_made_account foreign key (account_id) references account (id) on delete cascade
);
create index grant_made_scope on grant_made (scope);
create table token (
  signature varchar(255) primary key,
  grant_id bigint,
  body jsonb,
  used_at timestamptz,
  constraint token_grant foreign key (grant_id) references grant_made (id)
);
alter table token add constraint token_body check (body is not null) not valid;
create table event (id bigint not null, at date not null, what text) partition by range (at);
create table event_1 partition of event for values from ('2026-01-01') to ('2026-02-01');
create table event_2 partition of event for values from ('2026-02-01') to ('2026-03-01');
create table event_3 (id bigint not null, at date not null, what text);
create index event_what on event (what);
create table base (id bigint, what text);
create table derived (more text) inherits (base);
create table loose (id bigint, what text);
create table side.box (id int primary key, size int);
create materialized view by_scope as select scope, count(*) as number from grant_made group by scope;
create unique index by_scope_key on by_scope (scope);
create view busy as select id, what from base where id > 0;
create trigger grant_touch before update on grant_made for each row execute function touch();
create rule loose_quiet as on delete to loose do also select 1;
create policy account_all on account using (true);
create publication told for table token;
create statistics account_stats on level, balance from account;
create table log (id bigint not null, at date not null) partition by range (at);
create table log_1 partition of log for values from ('2026-01-01') to ('2026-02-01');
create table log_rest partition of log default;
create table log_2 (id bigint not null, at date not null);
create domain short_word as varchar(20) not null;
create domain any_word as varchar(20);
create table word (id bigint primary key, plain varchar(10), part varchar(10), low varchar(10), checked varchar(10) check (checked <> 'no'));
create index word_plain on word (plain);
create index word_part on word (id) where part is not null;
create index word_low on word (lower(low));
insert into account (id, name, level) select n, 'name ' || n, n % 7 from generate_series(1, 200) n;
insert into grant_made (id, account_id, parent_id, scope) select n, n, 1, 'scope ' || n % 5 from generate_series(1, 200) n;
insert into token (signature, grant_id, body) select 's' || n, n, '{}' from generate_series(1, 200) n;
insert into word select n, 'p' || n from generate_series(1, 200) n;
insert into event select n, date '2026-01-01' + n % 50, 'e' from generate_series(1, 200) n;
refresh materialized view by_scope;
