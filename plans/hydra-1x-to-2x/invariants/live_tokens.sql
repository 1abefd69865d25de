-- Tokens that are accepted, by kind and client; without what the cleanup rule leaves behind. The same question on both sides.
select kind, client, count(*) as live
  from (
        select 'access' as kind, client_id as client from hydra_oauth2_access
         where active and not (client_id = 'legacy-batch' and requested_at < '2025-02-01')
        union all
        select 'refresh', client_id from hydra_oauth2_refresh where active
        union all
        select 'code', client_id from hydra_oauth2_code where active
       ) t
 group by kind, client
