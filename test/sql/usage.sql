-- Usage of keys on a server that does not preload the library: everything else
-- works, what is not counted is NULL or a clear error, never a wrong answer.
-- And what needs no counting: apikey_expiring() under row-level security, and
-- who may look at what. Counting itself takes a server of its own: test/t/01*.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- Runs a query; returns its result or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE query INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

SELECT current_setting('shared_preload_libraries') !~ 'apikeys' AS not_preloaded;

CREATE ROLE regress_usage_app;
CREATE ROLE regress_usage_ann;
CREATE ROLE regress_usage_bob;
CREATE ROLE regress_usage_eve;
CREATE ROLE regress_usage_nobody;
CREATE ROLE regress_usage_monitor;
CREATE ROLE regress_usage_bypass BYPASSRLS;
GRANT pg_monitor TO regress_usage_monitor;
SELECT apikey_grant_application('regress_usage_app'),
	apikey_save_org('usage-a', 'A', 'enterprise'),
	apikey_save_org('usage-b', 'B'),
	apikey_save_member('usage-a', 'ann', 'ann@example.com', 'admin', 'regress_usage_ann'),
	apikey_save_member('usage-a', 'bob', 'bob@example.com', 'standard', 'regress_usage_bob'),
	apikey_save_member('usage-b', 'eve', 'eve@example.com', 'admin', 'regress_usage_eve'),
	apikey_import_legacy('usage-a', 'usage-legacy-key') \gset

SET SESSION AUTHORIZATION regress_usage_bob;
SELECT apikey_create('bob, an hour', 'standard', now() + interval '1 hour') AS bob \gset
SELECT apikey_create('bob, 10 days', 'standard', now() + interval '10 days') \gset bob2_
SELECT apikey_create('bob, for ever') \gset bob3_
SELECT apikey_create('bob, expired', 'standard', clock_timestamp() + interval '10 ms') \gset bob4_
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT apikey_create('ann, a day', 'admin', now() + interval '1 day') AS ann \gset
SET SESSION AUTHORIZATION regress_usage_eve;
SELECT apikey_create('eve, an hour', 'standard', now() + interval '1 hour') AS eve \gset
SELECT pg_sleep(0.02) \gset

--
-- Verification works, and nothing is counted
--
SET SESSION AUTHORIZATION regress_usage_app;
SELECT apikey_check_level(:'bob', 'standard') AS check_level,
	(SELECT user_id FROM apikey_verify(:'ann')) AS verify,
	apikey_me('usage-legacy-key') IS NOT NULL AS me,
	apikey_check_level(:'bob', 'admin') AS too_low,
	apikey_check_level('nonsense', 'standard') AS malformed;
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT kind, name, last_used_at, uses FROM apikeys ORDER BY kind, name COLLATE "C";
SELECT DISTINCT last_used_at, uses FROM apikeys_mine;
SELECT last_used_at, uses FROM apikeys_legacy;
-- The function that the views ask is not for all to name; who can, because a DBA
-- let it, learns no more.
SELECT apikeys_private.apikey_usage_of('usage-a', apikey_suffix(:'bob'));
RESET SESSION AUTHORIZATION;
GRANT USAGE ON SCHEMA apikeys_private TO regress_usage_ann, regress_usage_app;
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT what, u.* FROM (VALUES
	(1, 'a colleague''s', 'usage-a', 'bob', apikey_suffix(:'bob')), (2, 'the legacy key', 'usage-a', NULL, NULL),
	(3, 'elsewhere', 'usage-b', 'eve', apikey_suffix(:'eve')), (4, 'no organization', NULL, 'bob', apikey_suffix(:'bob')),
	(5, 'nobody''s', 'usage-a', 'bob', '0000000')) AS v (n, what, org_id, owner_id, suffix),
	apikeys_private.apikey_usage_of(org_id, suffix) AS u ORDER BY n;
RESET SESSION AUTHORIZATION;
SELECT DISTINCT last_used_at, uses FROM apikeys;

-- "Unused" is what cannot be said: no empty list, nor one of all keys.
SELECT * FROM apikey_unused('0');
SELECT apikey_usage_flush();
SELECT apikey_unused(NULL);
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT pg_temp.try('SELECT count(*) FROM apikey_unused(''90 days'')') AS unused,
	pg_temp.try('SELECT count(*) FROM apikey_unused(NULL)') AS unused_null,
	pg_temp.try('SELECT apikey_usage_flush()') AS flush;
-- the same for whom there is no key to be seen
SET SESSION AUTHORIZATION regress_usage_nobody;
SELECT pg_temp.try('SELECT count(*) FROM apikey_unused(''90 days'')') AS unused,
	pg_temp.try('SELECT count(*) FROM apikey_unused(NULL)') AS unused_null,
	pg_temp.try('SELECT apikey_usage_flush()') AS flush;
RESET SESSION AUTHORIZATION;

--
-- What will expire: live keys, within the interval, those one may see
--
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT name FROM apikey_expiring('2 hours') ORDER BY expires_at;
SELECT name, owner_email, level FROM apikey_expiring('11 days') ORDER BY expires_at;
SELECT name FROM apikey_expiring('100 years') ORDER BY expires_at;
SELECT name FROM apikey_expiring('0');
SELECT name FROM apikey_expiring('-1 day');
SET SESSION AUTHORIZATION regress_usage_bob;
SELECT name FROM apikey_expiring('11 days') ORDER BY expires_at;
SET SESSION AUTHORIZATION regress_usage_eve;
SELECT name FROM apikey_expiring('11 days') ORDER BY expires_at;
SET SESSION AUTHORIZATION regress_usage_nobody;
SELECT name FROM apikey_expiring('11 days');
-- a presented key sees none, not even itself
SET SESSION AUTHORIZATION regress_usage_app;
BEGIN;
SELECT level FROM apikey_authenticate(:'ann');
SELECT name FROM apikey_expiring('11 days');
SELECT apikeys_private.apikey_usage_of('usage-a', apikey_suffix(:'ann'));
COMMIT;
-- a demoted member sees its own at the next statement
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT apikey_save_member('usage-a', 'ann', NULL, 'standard') \gset
SET ROLE regress_usage_ann;
SELECT name FROM apikey_expiring('11 days') ORDER BY expires_at;
ROLLBACK;
-- who is not subject to row-level security sees all
SELECT org_id, name FROM apikey_expiring('11 days') WHERE org_id LIKE 'usage-%' ORDER BY expires_at, 1;
SET SESSION AUTHORIZATION regress_usage_bypass;
SELECT org_id, name FROM apikey_expiring('11 days') WHERE org_id LIKE 'usage-%' ORDER BY expires_at, 1;
-- it can be filtered and joined like the view it is made of
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT e.name, a.name = e.name AS same
FROM apikey_expiring('11 days') e JOIN apikeys a USING (suffix)
WHERE e.owner_id = 'bob' ORDER BY e.expires_at;
-- NULL is an error, also for whom there is no key to be seen
SELECT apikey_expiring(NULL);
SET SESSION AUTHORIZATION regress_usage_nobody;
SELECT apikey_expiring(NULL);
SELECT pg_temp.try('SELECT count(*) FROM apikey_expiring(NULL)') AS from_clause;
RESET SESSION AUTHORIZATION;

--
-- apikey_stats: one row, for pg_monitor
--
SET SESSION AUTHORIZATION regress_usage_monitor;
SELECT count(*) FROM apikey_stats;
SELECT * FROM apikey_stats \gx
SELECT pg_temp.try('SELECT apikeys_private.apikey_stats_read()') AS function;
SET SESSION AUTHORIZATION regress_usage_app;
SELECT pg_temp.try('SELECT count(*) FROM apikey_stats') AS view,
	pg_temp.try('SELECT apikeys_private.apikey_stats_read()') AS function;
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT pg_temp.try('SELECT count(*) FROM apikey_stats') AS view,
	pg_temp.try('SELECT apikeys_private.apikey_stats_read()') AS function;
RESET SESSION AUTHORIZATION;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_usage_ann, regress_usage_app;

--
-- apikey_usage: nobody's but the owner's
--
INSERT INTO apikeys_private.apikey_usage VALUES (-1, now(), NULL, 1);
SELECT bool_or(has_table_privilege(role, 'apikeys_private.apikey_usage', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
	OR has_any_column_privilege(role, 'apikeys_private.apikey_usage', 'SELECT, INSERT, UPDATE')) AS granted
FROM unnest('{regress_usage_ann,regress_usage_app,regress_usage_monitor}'::name[]) role;
SELECT count(*) AS policies FROM pg_policy WHERE polrelid = 'apikeys_private.apikey_usage'::regclass;
-- and even if a DBA has granted too much, there is a second door
GRANT SELECT, UPDATE, DELETE ON apikeys_private.apikey_usage TO regress_usage_ann;
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT count(*) FROM apikeys_private.apikey_usage;
RESET SESSION AUTHORIZATION;
GRANT USAGE ON SCHEMA apikeys_private TO regress_usage_ann;
SET SESSION AUTHORIZATION regress_usage_ann;
SELECT count(*) FROM apikeys_private.apikey_usage;
DELETE FROM apikeys_private.apikey_usage;
RESET SESSION AUTHORIZATION;
DELETE FROM apikeys_private.apikey_usage WHERE key_id = -1 RETURNING uses;
-- Deleting a key waits for nothing here, as nothing refers to it; rows can be
-- rewritten where they are; and it is part of a dump.
SELECT count(*) FILTER (WHERE contype = 'f') AS foreign_keys,
	(SELECT reloptions FROM pg_class WHERE oid = 'apikeys_private.apikey_usage'::regclass),
	(SELECT count(*) FROM pg_index WHERE indrelid = 'apikeys_private.apikey_usage'::regclass) AS indexes,
	(SELECT 'apikeys_private.apikey_usage'::regclass = ANY (extconfig) FROM pg_extension WHERE extname = 'apikeys') AS dumped
FROM pg_constraint WHERE conrelid = 'apikeys_private.apikey_usage'::regclass OR confrelid = 'apikeys_private.apikey_usage'::regclass;

--
-- Settings: no session's to change
--
SHOW apikeys.usage_max_keys;
SHOW apikeys.usage_flush_interval;
SET apikeys.usage_max_keys = 1;
SET apikeys.usage_flush_interval = 1;
SELECT name, unit, min_val, max_val FROM pg_settings WHERE name LIKE 'apikeys.usage%' ORDER BY 1;

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'usage-%' \g /dev/null
DROP OWNED BY regress_usage_app, regress_usage_ann;
DROP ROLE regress_usage_app, regress_usage_ann, regress_usage_bob, regress_usage_eve,
	regress_usage_nobody, regress_usage_monitor, regress_usage_bypass;
