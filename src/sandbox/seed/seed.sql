-- Fills a version 1 database with the rows of a busy year. Sizes come from settings of the session; every value is a function of
-- the seed, the kind of row and its number. Foreign keys are kept by construction, and checked by whoever builds them on green.
create function pg_temp.size(name text) returns integer language sql stable as
    $$ select current_setting('cutover_seed.' || name)::integer $$;
create function pg_temp.name(kind text, number integer) returns text language sql stable as
    $$ select md5(current_setting('cutover_seed.seed') || kind || number) $$;
create function pg_temp.signature(kind text, number integer) returns text language sql stable as
    $$ select translate(encode(sha256((current_setting('cutover_seed.seed') || kind || number)::bytea), 'base64'), '+/=', '-_') $$;
create function pg_temp.moment(number integer, spread_s integer) returns timestamp language sql stable as
    $$ select current_setting('cutover_seed.at')::timestamp - make_interval(secs => (number::bigint * 7919) % spread_s) $$;
create function pg_temp.app(number integer) returns text language sql stable as
    $$ select 'app-' || lpad((number % current_setting('cutover_seed.clients')::integer)::text, 4, '0') $$;
create function pg_temp.person(number integer) returns text language sql stable as
    $$ select 'user-' || lpad((number % current_setting('cutover_seed.people')::integer)::text, 7, '0') $$;
create function pg_temp.session_json(subject text, at timestamp, number integer) returns text language sql stable as
    $$ select json_build_object(
        'subject', subject,
        'expires_at', json_build_object('access_token', to_char(at + interval '30 days', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                                        'refresh_token', to_char(at + interval '90 days', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
        'id_token_claims', json_build_object('iss', 'http://127.0.0.1:4444', 'sub', subject, 'auth_time', at, 'acr', '0',
                                             'nonce', pg_temp.name('nonce', number), 'rat', at),
        'headers', json_build_object('extra', json_build_object('kid', 'public:' || pg_temp.name('kid', 1))),
        'extra', json_build_object('account', pg_temp.name('account', number), 'tier', number % 4))::text $$;
create function pg_temp.form(number integer) returns text language sql stable as
    $$ select 'client_id=' || pg_temp.app(number) || '&redirect_uri=https%3A%2F%2F' || pg_temp.app(number)
        || '.example%2Fcallback&response_type=code&scope=openid+offline_access+read&state=' || pg_temp.name('state', number) $$;

insert into hydra_client (id, client_name, client_secret, owner, client_uri, policy_uri, metadata, scope, redirect_uris, grant_types,
    response_types, contacts, audience, token_endpoint_auth_method, created_at, updated_at)
select pg_temp.app(n), 'Application ' || n, 'sha256$00$' || pg_temp.name('secret', n), 'owner-' || n % 17,
    'https://' || pg_temp.app(n) || '.example', 'https://' || pg_temp.app(n) || '.example/privacy',
    json_build_object('verified', n % 3 = 0, 'region', (array['eu', 'us', 'ap'])[1 + n % 3])::text, 'openid offline_access read write',
    'https://' || pg_temp.app(n) || '.example/callback' || case when n % 2 = 0 then '|http://127.0.0.1:' || 9000 + n % 100 else '' end,
    'authorization_code|refresh_token', 'code', case when n % 4 = 0 then 'ops@example.com|dev@example.com' else '' end,
    case when n % 5 = 0 then 'https://api.example' else '' end, case when n % 7 = 0 then 'none' else 'client_secret_basic' end,
    pg_temp.moment(n, 31536000), pg_temp.moment(n, 31536000)
from generate_series(0, pg_temp.size('clients') - 1) n;
insert into hydra_client (id, client_name, client_secret, owner, scope, grant_types, response_types, token_endpoint_auth_method,
    created_at, updated_at)
select 'service-' || lpad(n::text, 3, '0'), 'Service ' || n, 'sha256$00$' || pg_temp.name('service', n), 'platform', 'read write',
    'client_credentials', 'token', 'client_secret_basic', pg_temp.moment(n, 31536000), pg_temp.moment(n, 31536000)
from generate_series(0, 19) n;
insert into hydra_client (id, client_name, client_secret, owner, scope, grant_types, response_types, token_endpoint_auth_method,
    created_at, updated_at)
values ('legacy-batch', 'Nightly batch, switched off in 2025', 'sha256$00$none', 'platform', 'read', 'client_credentials', 'token',
    'client_secret_basic', '2021-03-01', '2025-01-31');

insert into hydra_jwk (sid, kid, version, keydata, created_at)
select s.sid, s.use || ':' || pg_temp.name('kid', 1), 0,
    json_build_object('use', 'sig', 'kty', 'EC', 'crv', 'P-256', 'alg', 'ES256', 'kid', s.use || ':' || pg_temp.name('kid', 1),
        'x', pg_temp.signature('x' || s.sid, 1), 'y', pg_temp.signature('y' || s.sid, 1))::text, pg_temp.moment(1, 86400)
from (values ('hydra.openid.id-token', 'public'), ('hydra.jwt.access-token', 'public'), ('partner', 'issuer')) s(sid, use);
insert into hydra_oauth2_trusted_jwt_bearer_issuer (id, issuer, subject, scope, key_set, key_id, created_at, expires_at)
select md5(current_setting('cutover_seed.seed') || 'issuer')::uuid, 'https://partner.example', 'partner', 'read', sid, kid, created_at,
    created_at + interval '1 year'
from hydra_jwk where sid = 'partner';

-- Every second login session carries two chains. The sessions of lost logins (below) are gone.
insert into hydra_oauth2_authentication_session (id, authenticated_at, subject, remember)
select md5(current_setting('cutover_seed.seed') || 'session' || n)::uuid::text, pg_temp.moment(n * 2, 1728000), pg_temp.person(n * 2),
    n % 3 = 0
from generate_series(0, (pg_temp.size('chains') - 1) / 2) n where n % 33 <> 5;

create temporary table chain on commit drop as
select n, pg_temp.name('login', n) as login, pg_temp.name('consent', n) as consent, pg_temp.app(n) as client,
    pg_temp.person(n - n % 2) as subject, pg_temp.moment(n, 1728000) as at, (n / 2) % 33 = 5 as lost,
    md5(current_setting('cutover_seed.seed') || 'session' || n / 2)::uuid::text as session,
    -- Where the flow stands: most are whole, one in sixteen stopped on the way.
    case when n % 16 <> 3 then 6 else (array[1, 2, 3, 4, 5, 128, 129])[1 + (n / 16) % 7] end as state,
    'http://127.0.0.1:4444/oauth2/auth?' || pg_temp.form(n) as url
from generate_series(0, pg_temp.size('chains') - 1) n;

-- Three of four logins are fresh: their request has no subject. A logout has taken the logins of lost chains with their session.
insert into hydra_oauth2_authentication_request (challenge, verifier, csrf, requested_scope, requested_at_audience, subject, request_url,
    skip, client_id, requested_at, authenticated_at, oidc_context, login_session_id)
select login, pg_temp.name('login-verifier', n), pg_temp.name('login-csrf', n), 'openid|offline_access|read', '',
    case when n % 4 = 0 then subject else '' end, url, n % 4 = 0, client, at, case when state <> 1 then at + interval '5 seconds' end,
    '{"ui_locales":["en"]}', session
from chain where not lost;
insert into hydra_oauth2_authentication_request_handled (challenge, subject, remember, remember_for, error, acr, amr, context, was_used,
    forced_subject_identifier, requested_at, authenticated_at)
select login, case when state = 128 then '' else subject end, n % 3 = 0, case when n % 3 = 0 then 86400 else 0 end,
    case when state = 128 then '{"error":"access_denied","error_description":"the user turned back"}' else '{}' end, '0',
    case when n % 2 = 0 then 'pwd|otp' else 'pwd' end, '{"device":"browser"}', state not in (2, 128), '', at, at + interval '5 seconds'
from chain where not lost and state <> 1;

insert into hydra_oauth2_consent_request (challenge, verifier, csrf, client_id, subject, request_url, skip, requested_scope,
    requested_at_audience, oidc_context, context, acr, amr, forced_subject_identifier, requested_at, authenticated_at,
    login_session_id, login_challenge)
select consent, pg_temp.name('consent-verifier', n), pg_temp.name('consent-csrf', n), client, subject, url, n % 10 = 9,
    'openid|offline_access|read', case when n % 5 = 0 then 'https://api.example' else '' end, '{"ui_locales":["en"]}',
    '{"device":"browser"}', '0', case when n % 2 = 0 then 'pwd|otp' else 'pwd' end, '', at + interval '6 seconds',
    at + interval '5 seconds', case when not lost then session end, case when not lost then login end
from chain where state in (4, 5, 6, 129);
insert into hydra_oauth2_consent_request_handled (challenge, granted_scope, granted_at_audience, remember, remember_for, error,
    session_access_token, session_id_token, was_used, requested_at, authenticated_at, handled_at)
select consent, case when state = 129 then '' else 'openid|offline_access|read' end,
    case when n % 5 = 0 then 'https://api.example' else '' end, n % 2 = 0, 0,
    case when state = 129 then '{"error":"consent_denied","error_description":"the user said no"}' else '{}' end,
    json_build_object('account', pg_temp.name('account', n))::text, '{}', state in (6, 129), at, at + interval '5 seconds',
    at + interval '9 seconds'
from chain where state in (5, 6, 129);

create temporary table grown on commit drop as
select n, consent, client, subject, at, pg_temp.session_json(subject, at, n) as session_data, pg_temp.form(n) as form
from chain where state = 6;

insert into hydra_oauth2_access (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select pg_temp.signature('access' || copy, n), consent, at + interval '10 seconds' * copy, client, 'openid|offline_access|read',
    'openid|offline_access|read', form, session_data, subject, true, '', case when n % 5 = 0 then 'https://api.example' else '' end, consent
from grown, generate_series(1, 2) copy where copy = 1 or n % 2 = 0;
insert into hydra_oauth2_refresh (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select pg_temp.signature('refresh' || copy, n), consent, at + interval '10 seconds' * copy, client, 'openid|offline_access|read',
    'openid|offline_access|read', form, session_data, subject, copy = 1, '', case when n % 5 = 0 then 'https://api.example' else '' end,
    consent
from grown, generate_series(1, 2) copy where copy = 1 or n % 5 < 3;
-- Used codes stay as marks; codes in flight have their PKCE and OpenID rows.
insert into hydra_oauth2_code (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select pg_temp.signature('code', n), consent, at + interval '10 seconds', client, 'openid|offline_access|read',
    'openid|offline_access|read', form, session_data, subject, n % 100 = 7, '', '', consent
from grown where n % 10 = 7;
insert into hydra_oauth2_pkce (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, true, '', '', challenge_id
from hydra_oauth2_code where active;
insert into hydra_oauth2_oidc (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, true, '', '', challenge_id
from hydra_oauth2_code where active;

-- Machines have no chain, no refresh token and no consent.
insert into hydra_oauth2_access (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select pg_temp.signature('machine', n), pg_temp.name('machine-request', n), pg_temp.moment(n, 3600), 'service-' || lpad((n % 20)::text, 3, '0'),
    'read', 'read', 'grant_type=client_credentials&scope=read',
    pg_temp.session_json('service-' || lpad((n % 20)::text, 3, '0'), pg_temp.moment(n, 3600), n),
    'service-' || lpad((n % 20)::text, 3, '0'), true, '', '', null
from generate_series(1, pg_temp.size('machines')) n;
-- Dirt: tokens of a batch job that was switched off, expired long ago and never flushed.
insert into hydra_oauth2_access (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
    active, requested_audience, granted_audience, challenge_id)
select pg_temp.signature('legacy', n), pg_temp.name('legacy-request', n), timestamp '2025-01-31' - make_interval(mins => n), 'legacy-batch',
    'read', 'read', 'grant_type=client_credentials&scope=read',
    pg_temp.session_json('legacy-batch', timestamp '2024-12-01' - make_interval(mins => n), n), 'legacy-batch', true, '', '', null
from generate_series(1, pg_temp.size('legacy')) n;

insert into hydra_oauth2_jti_blacklist (signature, expires_at)
select encode(sha256((current_setting('cutover_seed.seed') || 'jti' || n)::bytea), 'hex'), pg_temp.moment(n, 86400) + interval '2 days'
from generate_series(1, pg_temp.size('assertions')) n;
-- Dirt: every fourth logout was begun and never finished.
insert into hydra_oauth2_logout_request (challenge, verifier, subject, sid, client_id, request_url, redir_url, was_used, accepted,
    rejected, rp_initiated)
select pg_temp.name('logout', n), pg_temp.name('logout-verifier', n), pg_temp.person(n),
    md5(current_setting('cutover_seed.seed') || 'session' || n)::uuid::text, case when n % 2 = 0 then pg_temp.app(n) end,
    'http://127.0.0.1:4444/oauth2/sessions/logout', 'https://example.com/bye', n % 4 <> 1, n % 4 <> 1, false, n % 2 = 0
from generate_series(1, pg_temp.size('logouts')) n;
insert into hydra_oauth2_obfuscated_authentication_session (subject, client_id, subject_obfuscated)
select pg_temp.person(n), pg_temp.app(n), pg_temp.name('pairwise', n)
from generate_series(0, pg_temp.size('pairwise') - 1) n on conflict do nothing;
