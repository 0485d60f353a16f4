-- That nobody gives the setting apikeys.principal a value but the functions, now
-- or before the library is loaded; and that it is not shown.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never
\pset null -
\getenv helpers PG_ABS_SRCDIR
\set helpers :helpers '/helpers/principal.sql'
\i :helpers

--
-- Nobody gives the setting a value otherwise, not even a superuser.
--
SELECT E'member\tprincipal-one\tann' AS forged \gset
SET apikeys.principal = 'ann';
SET apikeys.principal = '';
SELECT replace(replace(statement, :'forged', '...'), current_database(), 'db') AS statement, pg_temp.try(statement) FROM (VALUES
	(1, format('SET apikeys.principal = %L', :'forged')),
	(2, format('SET LOCAL apikeys.principal = %L', :'forged')),
	(3, format('SET SESSION apikeys.principal = %L', '')),
	(4, format('SELECT set_config(%L, %L, true)', 'apikeys.principal', :'forged')),
	(5, format('SELECT set_config(%L, %L, false)', 'APIKEYS.Principal', :'forged')),
	(6, format('UPDATE pg_settings SET setting = %L WHERE name = %L', :'forged', 'apikeys.principal')),
	(7, format('ALTER ROLE regress_principal_eve SET apikeys.principal = %L', :'forged')),
	(9, format('ALTER DATABASE %I SET apikeys.principal = %L', current_database(), :'forged')),
	(10, 'ALTER ROLE regress_principal_eve SET apikeys.principal FROM CURRENT'),
	(11, format('CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.principal = %L AS %L', :'forged', 'SELECT pg_temp.who()')),
	(12, 'CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.principal FROM CURRENT AS $$SELECT pg_temp.who()$$'),
	(13, format('ALTER FUNCTION pg_temp.who() SET apikeys.principal = %L', :'forged')),
	(14, 'ALTER FUNCTION pg_temp.who() SET apikeys.principal FROM CURRENT'),
	(15, 'RESET apikeys.principal')
) s (n, statement) ORDER BY n;
SET SESSION AUTHORIZATION regress_principal_bob;
SELECT replace(statement, :'forged', '...') AS statement, pg_temp.try(statement) FROM (VALUES
	(1, format('SET apikeys.principal = %L', :'forged')),
	(2, format('SELECT set_config(%L, %L, true)', 'apikeys.principal', :'forged')),
	(3, format('ALTER ROLE CURRENT_USER SET apikeys.principal = %L', :'forged')),
	(4, format('CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.principal = %L AS %L', :'forged', 'SELECT pg_temp.who()')),
	(5, 'SET apikeys.seal_principal = off'),
	(6, 'SET apikeys.prefix = ''x'''),
	(7, 'SET apikeys.revoke_remote_apply = off'),
	(8, 'SET apikeys.anything = ''x''')
) s (n, statement) ORDER BY n;
SELECT pg_temp.who();
RESET SESSION AUTHORIZATION;
-- While somebody acts: the value is not shown, so that FROM CURRENT keeps nothing.
SELECT apikey_act_as('principal-one', 'ann', session => true) \gset
SHOW apikeys.principal;
SELECT setting, boot_val, reset_val FROM pg_settings WHERE name = 'apikeys.principal';
SELECT replace(statement, current_database(), 'db') AS statement, pg_temp.try(statement) FROM (VALUES
	(1, 'CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.principal FROM CURRENT AS $$SELECT pg_temp.who()$$'),
	(2, 'ALTER FUNCTION pg_temp.who() SET apikeys.principal FROM CURRENT'),
	(3, 'ALTER ROLE regress_principal_eve SET apikeys.principal FROM CURRENT'),
	(4, format('ALTER DATABASE %I SET apikeys.principal FROM CURRENT', current_database())),
	(5, 'SELECT set_config(''apikeys.principal'', current_setting(''apikeys.principal''), true)')
) s (n, statement) ORDER BY n;
SELECT pg_temp.who();
SELECT count(*) FROM pg_db_role_setting WHERE array_to_string(setconfig, ',') LIKE '%apikeys.principal%';
SELECT count(*) FROM pg_proc WHERE array_to_string(proconfig, ',') LIKE '%apikeys.principal%';
-- DISCARD ALL, last because it drops the helpers of this session
DISCARD ALL;
SELECT apikey_current_org() AS after_discard_all, current_setting('apikeys.principal') AS setting;

--
-- What was set before the library was loaded, when it was a setting of nobody's,
-- is dropped when it is; of the settings that are a superuser's too.
--
\c -
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT set_config('apikeys.principal', :'forged', false) = :'forged' AS was_set;
SET apikeys.seal_principal = off;
SET apikeys.prefix = 'eve';
SELECT apikey_current_org();
SELECT current_setting('apikeys.principal') AS principal, current_setting('apikeys.seal_principal') AS seal_principal, current_setting('apikeys.prefix') AS prefix;
-- in a transaction
\c -
SET SESSION AUTHORIZATION regress_principal_eve;
BEGIN;
SELECT set_config('apikeys.principal', :'forged', true) = :'forged' AS was_set;
SAVEPOINT s;
SELECT apikey_current_org();
ROLLBACK TO s;
SELECT apikey_current_org();
COMMIT;
SELECT apikey_current_org();
RESET apikeys.principal;
SELECT apikey_current_org();
-- by a function of a superuser for whom the library was not loaded
\c -
CREATE FUNCTION principal_forged() RETURNS text LANGUAGE sql SET apikeys.principal FROM CURRENT AS 'SELECT apikey_current_user()';
SELECT format('CREATE FUNCTION principal_forged() RETURNS text LANGUAGE sql SET apikeys.principal = %L AS %L', :'forged', 'SELECT apikey_current_user()') AS create_function \gset
:create_function;
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT principal_forged();
SELECT principal_forged();
SELECT apikey_current_user();
RESET SESSION AUTHORIZATION;
DROP FUNCTION principal_forged();
-- as an option of the connection
SELECT format('options=''-c apikeys.principal=%s''', replace(:'forged', E'\t', E'\\\\\t')) AS options \gset
\c -reuse-previous=on :options
SELECT current_setting('apikeys.principal') = :'forged' AS was_set;
SELECT apikey_current_org();
RESET apikeys.principal;
SELECT apikey_current_org(), current_setting('apikeys.principal') AS setting;
\c -reuse-previous=on "options=''"
-- of the database, and of a role, by a superuser for whom the library was not loaded
ALTER DATABASE :"DBNAME" SET apikeys.principal = :'forged';
\c -
SELECT current_setting('apikeys.principal') = :'forged' AS was_set;
SELECT apikey_current_org();
ALTER DATABASE :"DBNAME" RESET apikeys.principal;
\c -
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET apikeys.principal = :'forged';
\c -
SELECT current_setting('apikeys.principal') = :'forged' AS was_set;
SELECT apikey_current_org();
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" RESET apikeys.principal;
\c -

DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'principal%';
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'principal-%' \g /dev/null
DROP OWNED BY regress_principal_app, regress_principal_bob, regress_principal_eve;
DROP ROLE regress_principal_app, regress_principal_bob, regress_principal_eve;
