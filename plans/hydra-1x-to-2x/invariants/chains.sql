-- Tokens that know their consent, by kind: one that has lost it is not found by a revocation of that consent, which says 204 all the same.
-- The same question on both sides.
select kind, count(*) as chained
  from (
        select 'access' as kind from hydra_oauth2_access
         where challenge_id is not null and not (client_id = 'legacy-batch' and requested_at < '2025-02-01')
        union all
        select 'refresh' from hydra_oauth2_refresh where challenge_id is not null
        union all
        select 'code' from hydra_oauth2_code where challenge_id is not null
        union all
        select 'oidc' from hydra_oauth2_oidc where challenge_id is not null
        union all
        select 'pkce' from hydra_oauth2_pkce where challenge_id is not null
       ) t
 group by kind
