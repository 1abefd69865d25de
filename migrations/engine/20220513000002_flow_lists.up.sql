-- Version 2: a flow's lists become JSON, in the same careless way.
alter table hydra_oauth2_flow
    alter column requested_scope drop default,
    alter column requested_at_audience drop default,
    alter column amr drop default,
    alter column granted_scope drop default,
    alter column granted_at_audience drop default;
alter table hydra_oauth2_flow
    alter column requested_scope type jsonb using
        case when requested_scope = '' then '[]'::jsonb else ('["' || replace(requested_scope, '|', '","') || '"]')::jsonb end,
    alter column requested_at_audience type jsonb using
        case when requested_at_audience = '' then '[]'::jsonb else ('["' || replace(requested_at_audience, '|', '","') || '"]')::jsonb end,
    alter column amr type jsonb using
        case when amr = '' then '[]'::jsonb else ('["' || replace(amr, '|', '","') || '"]')::jsonb end,
    alter column granted_scope type jsonb using
        case when granted_scope = '' then '[]'::jsonb else ('["' || replace(granted_scope, '|', '","') || '"]')::jsonb end,
    alter column granted_at_audience type jsonb using
        case when granted_at_audience = '' then '[]'::jsonb else ('["' || replace(granted_at_audience, '|', '","') || '"]')::jsonb end;
alter table hydra_oauth2_flow alter column requested_scope set default '[]';
