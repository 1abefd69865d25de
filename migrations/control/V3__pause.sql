-- Who asked the process that holds the lease to park, and when. It belongs to this lease alone: taking the lease clears it.
alter table cutover.lease
  add column pause_asked_at timestamptz,
  add column pause_asked_by text;
