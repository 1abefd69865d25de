-- How many flows blue's four tables mean, by the state that version 2 has for each.
select f.state, count(*) as flows
  from (
        select case when a.error not in ('', '{}') then 128
                    when g.error not in ('', '{}') then 129
                    when g.was_used then 6
                    when g.challenge is not null then 5
                    when c.challenge is not null then 4
                    when a.was_used then 3
                    when a.challenge is not null then 2
                    else 1 end as state
          from hydra_oauth2_authentication_request l
          left join hydra_oauth2_authentication_request_handled a on a.challenge = l.challenge
          left join hydra_oauth2_consent_request c on c.login_challenge = l.challenge
          left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge
        union all
        -- A consent whose login is gone is a flow all the same.
        select case when g.error not in ('', '{}') then 129
                    when g.was_used then 6
                    when g.challenge is not null then 5
                    else 4 end
          from hydra_oauth2_consent_request c
          left join hydra_oauth2_consent_request_handled g on g.challenge = c.challenge
         where c.login_challenge is null
       ) f
 group by f.state
