-- The story of the product, told by psql: run by script/demo. It needs a
-- superuser and an empty database, and makes the roles app and sam.
--
-- Every answer comes from the server, and an error that the story does not
-- expect ends it. "\;\gset" ends a statement whose result goes into psql's
-- variables and is not shown.
\set QUIET on
\set ON_ERROR_STOP on
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset footer off
\pset null (null)
SET client_min_messages = warning;

\echo
\echo 'apikeys: API keys inside PostgreSQL'
\echo '==================================='
\echo
\echo 'Each SQL statement is followed by what the server answered.'
\echo
\echo
\echo '1. An organization and its members'
\echo '----------------------------------'
\echo
\echo 'The DBA creates the extension, and a role for the application.'
\echo
\set ECHO queries
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_install_capabilities();
CREATE ROLE app;
SELECT apikey_grant_application('app')\;\gset
SET apikeys.prefix = 'eu1';
\set ECHO none

\echo
\echo 'The application saves what it knows of organizations and members. One of them, sam, has a'
\echo 'database role too.'
\echo
\set ECHO queries
CREATE ROLE sam;
SET ROLE app;
SELECT apikey_save_org('acme', 'Acme Ltd', 'enterprise')\;\gset
SELECT apikey_save_member('acme', 'ann', 'ann@acme.example', 'admin')\;\gset
SELECT apikey_save_member('acme', 'art', 'art@acme.example', 'architect')\;\gset
SELECT apikey_save_member('acme', 'sam', 'sam@acme.example', 'standard', 'sam')\;\gset
SELECT apikey_save_member('acme', 'gus', 'gus@acme.example', 'guest')\;\gset
\set ECHO none

\echo
\echo
\echo '2. Who may create which level'
\echo '-----------------------------'
\echo
\echo 'Each of the four has tried to create a key of each level.'
\echo

-- One principal in a transaction, so each member has one.
CREATE TEMPORARY TABLE attempt (role apikey_role, level apikey_level, answer text);
CREATE FUNCTION pg_temp.attempt(org text, member text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	tried apikey_level;
	answer text;
BEGIN
	PERFORM apikey_act_as(org, member);
	FOREACH tried IN ARRAY enum_range(NULL::apikey_level) LOOP
		BEGIN
			PERFORM apikey_delete(apikey_suffix(apikey_create('trial', tried)));
			answer := 'yes';
		EXCEPTION WHEN insufficient_privilege OR object_not_in_prerequisite_state THEN
			answer := 'no';
		END;
		INSERT INTO attempt VALUES (apikey_current_role(), tried, answer);
	END LOOP;
END $$;
BEGIN;
SELECT pg_temp.attempt('acme', 'ann') \gset
COMMIT;
BEGIN;
SELECT pg_temp.attempt('acme', 'art') \gset
COMMIT;
BEGIN;
SELECT pg_temp.attempt('acme', 'sam') \gset
COMMIT;
BEGIN;
SELECT pg_temp.attempt('acme', 'gus') \gset
COMMIT;
SELECT role, 'level ' || level AS level, answer
FROM attempt ORDER BY role DESC, attempt.level \crosstabview

\echo 'A refusal says what would be allowed.'
\echo
\set ON_ERROR_STOP off
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'sam')\;\gset
SELECT apikey_create('nightly export', 'admin');
ROLLBACK;
\set ECHO none
\set ON_ERROR_STOP on

\echo
\echo
\echo '3. A value is shown once'
\echo '------------------------'
\echo
\echo 'The application has authenticated art, and acts for him until the transaction ends.'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT apikey_create('nightly export', 'architect') AS value\;\gset
\set ECHO none
SELECT :'value' AS value, apikey_suffix(:'value') AS suffix \gset
SELECT :'value' AS value;
\set ECHO queries
COMMIT;
\set ECHO none

\echo
\echo 'Its last seven characters are its suffix. By it people find a key again. It never expires,'
\echo 'so its expiry is NULL.'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT name, level, suffix, expires_at FROM apikeys WHERE suffix = :'suffix';
COMMIT;
\set ECHO none

\echo
\echo 'The value itself is in no table: a superuser finds its SHA-256.'
\echo
\set ECHO queries
RESET ROLE;
SELECT name, suffix, digest FROM apikeys_private.apikey_key;
SET ROLE app;
\set ECHO none

\echo
\echo
\echo '4. A request comes with the key'
\echo '-------------------------------'
\echo
\echo 'Whose is it, which levels does it reach, may it do what the endpoint does?'
\echo
\set ECHO queries
SELECT apikey_me(:'value');
SELECT level, apikey_check_level(:'value', level)
FROM unnest(enum_range(NULL::apikey_level)) AS level;
SELECT apikey_check(:'value', 'export_user_data');
\set ECHO none
SELECT overlay(:'value' PLACING CASE substr(:'value', 9, 1) WHEN '0' THEN 'O' ELSE '0' END
	FROM 9) AS mistyped \gset
\echo 'A mistyped value is told apart without looking into a table.'
\echo
\set ECHO queries
SELECT status FROM apikey_inspect(:'mistyped');
\set ECHO none

\echo
\echo '5. A new name, another level, the same value'
\echo '--------------------------------------------'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT apikey_update(:'suffix', name => 'weekly events', level => 'standard')\;\gset
SELECT name, level, suffix FROM apikeys_mine;
COMMIT;
SELECT apikey_me(:'value');
SELECT apikey_check(:'value', 'export_user_data');
\set ECHO none
\echo 'Back to what it was:'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT apikey_update(:'suffix', name => 'nightly export', level => 'architect')\;\gset
COMMIT;
SELECT apikey_me(:'value');
\set ECHO none

\echo
\echo '6. A legacy key, and what cannot be done to it'
\echo '----------------------------------------------'
\echo
\echo 'From before members had keys, an organization may have one key of its own. The DBA imports'
\echo 'it. It is nobody''s, and its level is admin.'
\echo
\set ECHO queries
RESET ROLE;
SELECT apikey_import_legacy('acme', '4f1d8e5b07c2429ba3')\;\gset
SET ROLE app;
SELECT apikey_me('4f1d8e5b07c2429ba3');
\set ECHO none
\echo 'It has no suffix to name it by, so there is no renaming and no lowering it. Only an admin may'
\echo 'delete it.'
\echo
\set ON_ERROR_STOP off
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT apikey_suffix('4f1d8e5b07c2429ba3');
SELECT apikey_update(apikey_suffix('4f1d8e5b07c2429ba3'), name => 'old server');
SELECT apikey_delete_legacy();
COMMIT;
\set ECHO none
\set ON_ERROR_STOP on

\echo
\echo
\echo '7. What each of the four sees'
\echo '-----------------------------'
\echo
\echo 'sam connects as his own database role: there is nothing for an application to do. His key'
\echo 'is for thirty days.'
\echo
\pset footer on
\set ECHO queries
SET ROLE sam;
SELECT apikey_create('events', expires_at => now() + '30 days') AS sams\;\gset
SELECT owner_id, name, level, suffix FROM apikeys;
SET ROLE app;
\set ECHO none
\echo
\echo 'art sees his own:'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT owner_id, name, level, suffix FROM apikeys;
COMMIT;
\set ECHO none
\echo
\echo 'gus, a guest, has none and sees none:'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'gus')\;\gset
SELECT owner_id, name, level, suffix FROM apikeys;
COMMIT;
\set ECHO none
\echo
\echo 'ann, an admin, sees all of the organization and may delete what she sees. The legacy key has'
\echo 'to go:'
\echo
\set ECHO queries
BEGIN;
SELECT apikey_act_as('acme', 'ann')\;\gset
SELECT kind, owner_email, name, level, suffix FROM apikeys;
SELECT apikey_delete_legacy()\;\gset
COMMIT;
\set ECHO none
\pset footer off
\set ECHO queries
SELECT apikey_check_level('4f1d8e5b07c2429ba3', 'standard');
\set ECHO none

\echo
\echo '8. A member demoted, and removed'
\echo '--------------------------------'
\echo
\echo 'art becomes a standard member. His key stays as it is, but he can make no more of its level.'
\echo
\set ON_ERROR_STOP off
\set ECHO queries
SELECT apikey_save_member('acme', 'art', NULL, 'standard')\;\gset
SELECT apikey_check_level(:'value', 'architect');
BEGIN;
SELECT apikey_act_as('acme', 'art')\;\gset
SELECT apikey_create('one more', 'architect');
COMMIT;
\set ECHO none
\set ON_ERROR_STOP on
\echo
\echo 'art leaves. With him go his keys, and they are not there again when he comes back.'
\echo
\set ECHO queries
SELECT apikey_remove_member('acme', 'art')\;\gset
SELECT apikey_check_level(:'value', 'standard');
SELECT apikey_save_member('acme', 'art', 'art@acme.example')\;\gset
SELECT apikey_check_level(:'value', 'standard');
\set ECHO none

\echo
\echo '9. Another plan'
\echo '---------------'
\echo
\echo 'Role and level architect exist on plan enterprise only, for an admin too.'
\echo
\set ON_ERROR_STOP off
\set ECHO queries
SELECT apikey_save_org('globex', 'Globex', 'business')\;\gset
SELECT apikey_save_member('globex', 'bea', 'bea@globex.example', 'admin')\;\gset
SELECT apikey_save_member('globex', 'bob', 'bob@globex.example', 'architect');
BEGIN;
SELECT apikey_act_as('globex', 'bea')\;\gset
SELECT apikey_create('exports', 'architect');
COMMIT;
\set ECHO none
\set ON_ERROR_STOP on

\echo
\echo
\echo '10. A deleted key is refused'
\echo '----------------------------'
\echo
\echo 'sam deletes his key. From the commit on nobody gets in with it.'
\echo
SELECT apikey_suffix(:'sams') AS suffix \gset
\set ON_ERROR_STOP off
\set ECHO queries
SELECT apikey_check_level(:'sams', 'standard');
SET ROLE sam;
SELECT apikey_delete(:'suffix')\;\gset
SET ROLE app;
SELECT apikey_check_level(:'sams', 'standard');
BEGIN;
SELECT apikey_authenticate(:'sams');
ROLLBACK;
\set ECHO none
\set ON_ERROR_STOP on

\echo
\echo
\echo '11. How long it takes'
\echo '---------------------'
\echo
\echo 'Verifications on this machine, by the connection of this story, less what the same loop'
\echo 'takes without them. A nanosecond is a billionth of a second.'
\echo

CREATE TEMPORARY TABLE sample (key text);
BEGIN;
SELECT apikey_act_as('acme', 'ann') \gset
INSERT INTO sample SELECT apikey_create('sample') FROM generate_series(1, 20000);
COMMIT;
CREATE FUNCTION pg_temp.nanoseconds(times integer, keys text[])
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	n integer := cardinality(keys);
	yes boolean;
	began timestamptz := clock_timestamp();
	verified timestamptz;
	done timestamptz;
BEGIN
	FOR i IN 1 .. times LOOP
		yes := apikey_check_level(keys[1 + i % n], 'standard');
	END LOOP;
	verified := clock_timestamp();
	FOR i IN 1 .. times LOOP
		yes := keys[1 + i % n] IS NOT NULL;
	END LOOP;
	done := clock_timestamp();
	RETURN extract(epoch FROM (verified - began) - (done - verified)) * 1e9 / times;
END $$;
SELECT what AS "apikey_check_level() of", times, pg_temp.nanoseconds(times, keys) AS "ns each"
FROM (SELECT array_agg(key ORDER BY random()) AS made FROM sample) AS sample,
	LATERAL (VALUES
		('20,000 keys, each for the first time', 20000, made),
		('1,000 keys, again and again', 100000, made[1:1000]),
		('a mistyped key', 100000, ARRAY[:'mistyped']),
		('a deleted key', 100000, ARRAY[:'sams']))
	AS trial (what, times, keys);

-- Who keeps the server finds the keys of the story, and no samples.
RESET ROLE;
DELETE FROM apikeys_private.apikey_key WHERE name = 'sample';
