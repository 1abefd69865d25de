-- What is asked for while clients are held, by what is left to do, however long the queue has grown.
create index revocation_unreplayed on cutover.revocation (plan, live, captured_at, incarnation, seq)
    where outcome <> 'refused' and replayed_at is null;
create index revocation_unsettled on cutover.revocation (plan) where outcome = 'captured';
create index revocation_dead on cutover.revocation (plan) where dead_at is not null;
