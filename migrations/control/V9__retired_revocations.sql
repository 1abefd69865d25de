-- Revocations that no gateway need deny any more: found dead in the tables of the side that served, and answered for by nobody. A gateway
-- that starts passes over them; the side to come proves them all the same before it opens.
alter table cutover.revocation add column retired_at timestamptz;

create index revocation_denied on cutover.revocation (plan, arrived) where retired_at is null;
