-- Version 2: a client's lists become JSON. The text is not escaped: a quote or a backslash in it stops this file (as it has elsewhere).
alter table hydra_client
    alter column redirect_uris drop default,
    alter column grant_types drop default,
    alter column response_types drop default,
    alter column contacts drop default,
    alter column request_uris drop default,
    alter column allowed_cors_origins drop default,
    alter column audience drop default,
    alter column post_logout_redirect_uris drop default;
alter table hydra_client
    alter column redirect_uris type jsonb using
        case when redirect_uris = '' then '[]'::jsonb else ('["' || replace(redirect_uris, '|', '","') || '"]')::jsonb end,
    alter column grant_types type jsonb using
        case when grant_types = '' then '[]'::jsonb else ('["' || replace(grant_types, '|', '","') || '"]')::jsonb end,
    alter column response_types type jsonb using
        case when response_types = '' then '[]'::jsonb else ('["' || replace(response_types, '|', '","') || '"]')::jsonb end,
    alter column contacts type jsonb using
        case when contacts = '' then '[]'::jsonb else ('["' || replace(contacts, '|', '","') || '"]')::jsonb end,
    alter column request_uris type jsonb using
        case when request_uris = '' then '[]'::jsonb else ('["' || replace(request_uris, '|', '","') || '"]')::jsonb end,
    alter column allowed_cors_origins type jsonb using
        case when allowed_cors_origins = '' then '[]'::jsonb else ('["' || replace(allowed_cors_origins, '|', '","') || '"]')::jsonb end,
    alter column audience type jsonb using
        case when audience = '' then '[]'::jsonb else ('["' || replace(audience, '|', '","') || '"]')::jsonb end,
    alter column post_logout_redirect_uris type jsonb using
        case when post_logout_redirect_uris = '' then '[]'::jsonb else ('["' || replace(post_logout_redirect_uris, '|', '","') || '"]')::jsonb end;
alter table hydra_client
    alter column redirect_uris set default '[]',
    alter column grant_types set default '[]',
    alter column response_types set default '[]',
    alter column contacts set default '[]',
    alter column request_uris set default '[]',
    alter column allowed_cors_origins set default '[]',
    alter column audience set default '[]',
    alter column post_logout_redirect_uris set default '[]';
