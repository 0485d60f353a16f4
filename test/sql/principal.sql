-- On whose behalf a session acts: what the functions say of a member, a key and
-- nobody; how long it lasts; that nobody can set it otherwise; that a
-- transaction has one; and what policies and other code make of it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never
\pset null -

-- Runs a statement; returns "ok" or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- All that the session knows of its principal
CREATE FUNCTION pg_temp.who() RETURNS text LANGUAGE sql AS $$
	SELECT COALESCE(NULLIF(concat_ws(' ', apikey_current_org(), apikey_current_user(), apikey_current_role(),
		'level ' || apikey_current_level(), (SELECT 'suffix' WHERE apikey_current_suffix() IS NOT NULL)), ''), 'nobody')
$$;

CREATE ROLE regress_principal_app;
CREATE ROLE regress_principal_bob;
CREATE ROLE regress_principal_eve;
SELECT apikey_grant_application('regress_principal_app') \gset
SELECT apikey_save_org('principal-one', 'One', 'enterprise'),
	apikey_save_member('principal-one', 'ann', 'ann@one.example', 'admin'),
	apikey_save_member('principal-one', 'arc', 'arc@one.example', 'architect'),
	apikey_save_member('principal-one', 'bob', 'bob@one.example', 'standard', 'regress_principal_bob'),
	apikey_save_member('principal-one', 'gus', 'gus@one.example', 'guest'),
	apikey_save_org('principal-two', 'Two', 'free'),
	apikey_save_member('principal-two', 'ann', 'ann@two.example', 'standard'),
	apikey_import_legacy('principal-two', 'principal-legacy-key') \gset
INSERT INTO apikeys_private.apikey_capability VALUES ('principal_low', 'standard'), ('principal_middle', 'architect'), ('principal_high', 'admin');

SET SESSION AUTHORIZATION regress_principal_app;
CREATE TEMP TABLE made (org text, owner text, level apikey_level, value text);
INSERT INTO made VALUES ('principal-one', 'ann', 'standard'), ('principal-one', 'ann', 'admin'),
	('principal-one', 'arc', 'architect'), ('principal-one', 'bob', 'standard');
DO $$
DECLARE
	m made;
BEGIN
	FOR m IN SELECT * FROM made LOOP
		PERFORM apikey_act_as(m.org, m.owner);
		UPDATE made SET value = apikey_create('key', m.level) WHERE (org, owner, level) = (m.org, m.owner, m.level);
		COMMIT;
	END LOOP;
END $$;

--
-- What the functions say of each kind of principal. A key's level is its own,
-- whatever its owner's role; a guest has none.
--
CREATE TEMP TABLE said (n int GENERATED ALWAYS AS IDENTITY, principal text, org text, "user" text, role apikey_role, level apikey_level, suffix text, allows text, setting text);
CREATE FUNCTION pg_temp.say(principal text, value text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO said (principal, org, "user", role, level, suffix, allows, setting)
	SELECT principal, apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(),
		CASE apikey_current_suffix() WHEN apikey_suffix(value) THEN 'its own' ELSE apikey_current_suffix() END,
		concat_ws(' ', CASE WHEN apikey_allows('principal_low') THEN 'low' END, CASE WHEN apikey_allows('principal_middle') THEN 'middle' END,
			CASE WHEN apikey_allows('principal_high') THEN 'high' END),
		current_setting('apikeys.principal')
$$;
DO $$
DECLARE
	m record;
BEGIN
	PERFORM pg_temp.say('nobody');
	COMMIT;
	FOR m IN VALUES ('principal-one', 'ann'), ('principal-one', 'arc'), ('principal-one', 'bob'), ('principal-one', 'gus'), ('principal-two', 'ann') LOOP
		PERFORM apikey_act_as(m.column1, m.column2);
		PERFORM pg_temp.say('member');
		COMMIT;
	END LOOP;
	FOR m IN SELECT value FROM made UNION ALL VALUES ('principal-legacy-key') LOOP
		PERFORM apikey_authenticate(m.value);
		PERFORM pg_temp.say('key', m.value);
		COMMIT;
	END LOOP;
END $$;
SELECT principal, org, "user", role, level, suffix, allows, setting FROM said ORDER BY n;
RESET SESSION AUTHORIZATION;
SELECT value AS standard FROM made WHERE owner = 'bob' \gset
SELECT value AS admin FROM made WHERE level = 'admin' \gset
UPDATE apikeys_private.apikey_member SET role = 'guest' WHERE org_id = 'principal-one' AND user_id = 'ann';
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT * FROM apikey_authenticate(:'admin') \g /dev/null
SELECT pg_temp.who() AS key_of_a_guest;
COMMIT;
RESET SESSION AUTHORIZATION;
UPDATE apikeys_private.apikey_member SET role = 'admin' WHERE org_id = 'principal-one' AND user_id = 'ann';

-- by database role: of whoever is current_user
SET SESSION AUTHORIZATION regress_principal_bob;
SELECT pg_temp.who();
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT pg_temp.who(), apikey_allows('principal_low');
RESET SESSION AUTHORIZATION;
SELECT pg_temp.who();
SET ROLE regress_principal_bob;
SELECT pg_temp.who();
RESET ROLE;
-- what is authenticated is told
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT org_id, user_id, level, name, suffix = apikey_suffix(:'admin') AS suffix, legacy, expires_at FROM apikey_authenticate(:'admin');
COMMIT;

-- refusals
BEGIN;
SELECT apikey_act_as('principal-one', 'nemo');
ROLLBACK;
BEGIN;
SELECT apikey_authenticate('no key');
ROLLBACK;
SELECT pg_temp.try($$SELECT apikey_act_as('principal-none', 'ann')$$) AS no_org,
	pg_temp.try($$SELECT apikey_act_as('principal-two', 'bob')$$) AS other_org,
	pg_temp.try($$SELECT apikey_act_as(NULL, 'ann')$$) AS null_org, pg_temp.try($$SELECT apikey_act_as('principal-one', NULL)$$) AS null_user,
	pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann', NULL)$$) AS null_session,
	pg_temp.try($$SELECT apikey_authenticate(NULL)$$) AS null_key,
	pg_temp.try(format('SELECT apikey_authenticate(%L, NULL)', :'admin')) AS null_session;
SELECT pg_temp.try(format('SELECT apikey_authenticate(%L)', split_part(:'admin', '/', 1))) AS without_suffix,
	pg_temp.try(format('SELECT apikey_authenticate(%L)', split_part(:'admin', '/', 1) || '/' || apikey_suffix(:'standard'))) AS other_suffix,
	pg_temp.try(format('SELECT apikey_authenticate(%L)', 'principal-legacy-kex')) AS unknown,
	pg_temp.try(format('SELECT apikey_authenticate(%L)', '')) AS empty;
SELECT apikey_allows('principal_none');
SELECT pg_temp.try('SELECT apikey_allows(NULL)');
SELECT pg_temp.who();
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS act_as, pg_temp.try(format('SELECT apikey_authenticate(%L)', :'admin')) AS authenticate;
SET SESSION AUTHORIZATION regress_principal_app;

--
-- How long it lasts: till the transaction ends, in whatever way
--
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.who();
COMMIT;
SELECT pg_temp.who() AS after_commit;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
ROLLBACK;
SELECT pg_temp.who() AS after_rollback;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT 1 / 0;
COMMIT;
SELECT pg_temp.who() AS after_error;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
COMMIT AND CHAIN;
SELECT pg_temp.who() AS after_commit_and_chain;
ROLLBACK AND CHAIN;
SELECT pg_temp.who() AS after_rollback_and_chain;
COMMIT;
-- As a statement of its own outside a transaction block it could have no effect:
-- an error, before anything is looked at.
SELECT apikey_act_as('principal-one', 'ann');
SELECT pg_temp.who();
SELECT (apikey_authenticate(:'admin')).level;
SELECT pg_temp.who();
\set VERBOSITY sqlstate
SELECT apikey_act_as('principal-one', 'nemo');
SELECT * FROM apikey_authenticate('no key');
SELECT apikey_act_as('principal-one', NULL);
-- by whatever kind of statement
INSERT INTO made (org) SELECT 'none' FROM apikey_act_as('principal-one', 'ann');
INSERT INTO made (org) VALUES (apikey_act_as('principal-one', 'ann')::text) RETURNING org;
WITH acting AS MATERIALIZED (SELECT apikey_act_as('principal-one', 'ann')) SELECT pg_temp.who() FROM acting;
CREATE TEMP TABLE acting AS SELECT apikey_act_as('principal-one', 'ann')::text;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT apikey_act_as('principal-one', 'ann');
COPY (SELECT apikey_act_as('principal-one', 'ann')) TO STDOUT;
PREPARE act AS SELECT apikey_act_as('principal-one', 'ann');
EXECUTE act;
-- a function that the planner makes part of the statement
CREATE FUNCTION pg_temp.act_inlined() RETURNS void LANGUAGE sql AS $$ SELECT apikey_act_as('principal-one', 'ann') $$;
SELECT pg_temp.act_inlined();
\set VERBOSITY default
SELECT pg_temp.who(), (SELECT count(*) FROM made WHERE org = 'none') AS inserted, to_regclass('pg_temp.acting') AS created;
-- Several statements in one message are a transaction block.
SELECT apikey_act_as('principal-one', 'ann') \; SELECT pg_temp.who();
SELECT pg_temp.who();
-- What runs on after the call has the principal, to its own end.
CREATE FUNCTION pg_temp.act_sql() RETURNS text LANGUAGE sql AS $$
	SELECT apikey_act_as('principal-one', 'ann');
	SELECT pg_temp.who();
$$;
SELECT pg_temp.act_sql();
SELECT * FROM pg_temp.act_sql();
CREATE FUNCTION pg_temp.act_plpgsql() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_act_as('principal-one', 'ann');
	RETURN pg_temp.who();
END $$;
SELECT pg_temp.act_plpgsql();
SELECT pg_temp.who();
CREATE TEMP TABLE heard (n int GENERATED ALWAYS AS IDENTITY, at text, who text);
CREATE PROCEDURE pg_temp.act() LANGUAGE sql AS $$
	SELECT apikey_act_as('principal-one', 'ann');
	INSERT INTO heard (at, who) VALUES ('in a procedure', pg_temp.who());
$$;
CALL pg_temp.act();
SELECT at, who, pg_temp.who() AS now FROM heard;
TRUNCATE heard;

-- session => true: only by who may turn on the setting for it, or a superuser;
-- what refuses it does not tell how
SELECT apikey_act_as('principal-one', 'ann', session => true);
SELECT pg_temp.try(format('SELECT apikey_authenticate(%L, session => true)', :'admin')) AS authenticate,
	pg_temp.try($$SELECT apikey_act_as('principal-one', 'nemo', session => true)$$) AS before_looking,
	pg_temp.try('SET apikeys.session_principal = on') AS set;
SELECT pg_temp.who();
RESET SESSION AUTHORIZATION;
SELECT setting, context, short_desc, extra_desc FROM pg_settings WHERE name = 'apikeys.session_principal' \gx
SELECT apikey_act_as('principal-one', 'ann', session => true);
SELECT pg_temp.who() AS by_superuser;
RESET apikeys.principal;
GRANT SET ON PARAMETER apikeys.session_principal TO regress_principal_app;
SET SESSION AUTHORIZATION regress_principal_app;
SET apikeys.session_principal = on;
-- until it is reset
SELECT apikey_act_as('principal-one', 'ann', session => true);
SELECT pg_temp.who();
BEGIN;
SELECT pg_temp.who() AS in_transaction;
ROLLBACK;
SELECT pg_temp.who() AS after_rollback;
RESET apikeys.principal;
SELECT pg_temp.who() AS after_reset;
SELECT level FROM apikey_authenticate(:'admin', session => true);
SELECT pg_temp.who();
SET apikeys.principal TO DEFAULT;
SELECT pg_temp.who() AS after_set_to_default;
SELECT apikey_act_as('principal-one', 'ann', session => true) \gset
RESET ALL;
SELECT pg_temp.who() AS after_reset_all;
SET apikeys.session_principal = on;
SELECT apikey_act_as('principal-one', 'ann', session => true) \gset
RESET SESSION AUTHORIZATION;
SELECT pg_temp.who() AS as_superuser;
SET SESSION AUTHORIZATION regress_principal_app;
SELECT pg_temp.who() AS again;
-- a transaction's own comes before the session's, which comes back
BEGIN;
SELECT apikey_act_as('principal-two', 'ann') \gset
SELECT pg_temp.who();
COMMIT;
SELECT pg_temp.who() AS sessions_again;
-- a session's that is rolled back never was
BEGIN;
SELECT apikey_act_as('principal-two', 'ann', session => true) \gset
SELECT pg_temp.who();
ROLLBACK;
SELECT pg_temp.who() AS sessions_again;
RESET apikeys.principal;

--
-- Savepoints and exceptions bring back what was before
--
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.who();
ROLLBACK TO s;
SELECT pg_temp.who() AS after_rollback_to;
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('principal-one', 'ann') \gset
RELEASE s;
SELECT pg_temp.who() AS after_release;
SAVEPOINT t;
RESET apikeys.principal;
SELECT pg_temp.who() AS after_reset;
ROLLBACK TO t;
SELECT pg_temp.who() AS after_rollback_to;
COMMIT;
SELECT pg_temp.who() AS after_commit;
DO $$
DECLARE
	was text;
BEGIN
	BEGIN
		PERFORM apikey_act_as('principal-one', 'ann');
		was := pg_temp.who();
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO heard (at, who) VALUES ('in block', was), ('after exception', pg_temp.who());
	END;
	COMMIT;
	PERFORM apikey_act_as('principal-two', 'ann');
	BEGIN
		was := pg_temp.who();
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO heard (at, who) VALUES ('in block', was), ('after exception', pg_temp.who());
	END;
	COMMIT;
	INSERT INTO heard (at, who) VALUES ('after commit', pg_temp.who());
END $$;
SELECT at, who FROM heard ORDER BY n;

--
-- A transaction has one principal. RESET, savepoints and exceptions do not make
-- room for another; a refusal leaves what was there.
--
BEGIN;
SELECT apikey_act_as('principal-one', 'bob') \gset
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS another, pg_temp.try($$SELECT apikey_act_as('principal-one', 'bob')$$) AS the_same,
	pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann', session => true)$$) AS for_the_session,
	pg_temp.try(format('SELECT apikey_authenticate(%L)', :'admin')) AS key;
SELECT pg_temp.who();
SAVEPOINT s;
RESET apikeys.principal;
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS after_reset;
RESET ALL;
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS after_reset_all;
ROLLBACK TO s;
SELECT pg_temp.who();
SET apikeys.seal_principal = off;
ROLLBACK TO s;
SELECT apikey_act_as('principal-one', 'ann');
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('principal-one', 'bob') \gset
ROLLBACK TO s;
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS after_rollback_to;
SELECT pg_temp.who();
COMMIT;
BEGIN;
SELECT level FROM apikey_authenticate(:'standard');
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS after_a_key;
COMMIT;
BEGIN;
SET LOCAL apikeys.session_principal = on;
SELECT apikey_act_as('principal-one', 'bob', session => true) \gset
SELECT pg_temp.try($$SELECT apikey_act_as('principal-one', 'ann')$$) AS after_the_sessions;
COMMIT;
RESET apikeys.principal;
-- What failed has set none, and the next transaction is another.
BEGIN;
SELECT pg_temp.try($$SELECT apikey_authenticate('no key')$$), pg_temp.try($$SELECT apikey_act_as('principal-one', 'nemo')$$);
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.who();
COMMIT AND CHAIN;
SELECT apikey_act_as('principal-two', 'ann') \gset
SELECT pg_temp.who();
COMMIT;
-- By a superuser's choice there may be several.
RESET SESSION AUTHORIZATION;
SET apikeys.seal_principal = off;
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'bob') \gset
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.who();
COMMIT;
RESET SESSION AUTHORIZATION;
RESET apikeys.seal_principal;
BEGIN;
SELECT apikey_act_as('principal-one', 'bob'), apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.who() AS by_superuser;
COMMIT;

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

--
-- The principal is who; what it may do is read when it is used.
--
CREATE FUNCTION pg_temp.who() RETURNS text LANGUAGE sql AS $$
	SELECT COALESCE(NULLIF(concat_ws(' ', apikey_current_org(), apikey_current_user(), apikey_current_role(),
		'level ' || apikey_current_level(), (SELECT 'suffix' WHERE apikey_current_suffix() IS NOT NULL)), ''), 'nobody')
$$;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.may() RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.who() || format(', sees %s, creates %s', (SELECT count(*) FROM apikeys),
		pg_temp.try($q$SELECT apikey_create('may')$q$))
$$;
-- The application changes members while it acts for one.
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', NULL, 'standard') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', NULL, 'guest') \gset
SELECT pg_temp.may();
SELECT apikey_remove_member('principal-one', 'ann') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', 'back@one.example', 'admin') \gset
SELECT pg_temp.may();
SELECT apikey_remove_org('principal-one') \gset
SELECT pg_temp.may();
ROLLBACK;
-- A session's principal that is gone is nobody, not the database role.
SET apikeys.session_principal = on;
SELECT apikey_save_member('principal-two', 'tmp', 'tmp@two.example', 'admin') \gset
SELECT apikey_act_as('principal-two', 'tmp', session => true) \gset
SELECT pg_temp.who();
SELECT apikey_remove_member('principal-two', 'tmp') \gset
SELECT pg_temp.who();
RESET SESSION AUTHORIZATION;
SET ROLE regress_principal_bob;
SELECT pg_temp.who() AS not_bob;
RESET ROLE;
RESET apikeys.principal;
-- A key: deleted, expired, raised, lowered, its owner removed
SELECT level FROM apikey_authenticate(:'admin', session => true);
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_low') AS low, apikey_allows('principal_middle') AS middle;
UPDATE apikeys_private.apikey_key SET expires_at = '2001-01-01' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_low') AS low;
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity', level = 'admin' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_high') AS high;
BEGIN;
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who();
ROLLBACK;
SELECT pg_temp.who();
BEGIN;
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'principal-one' AND user_id = 'ann';
SELECT pg_temp.who(), pg_temp.try('SELECT apikey_create(''may'')') AS creates;
ROLLBACK;
RESET apikeys.principal;
SELECT legacy FROM apikey_authenticate('principal-legacy-key', session => true);
SELECT pg_temp.who();
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'principal-two';
SELECT pg_temp.who();
RESET apikeys.principal;
-- A renamed database role is another, until the member is saved with its name.
ALTER ROLE regress_principal_bob RENAME TO regress_principal_rob;
SET ROLE regress_principal_rob;
SELECT pg_temp.who();
RESET ROLE;
ALTER ROLE regress_principal_rob RENAME TO regress_principal_bob;
SET ROLE regress_principal_bob;
SELECT pg_temp.who();
RESET ROLE;

--
-- A table of one's own, with policies by the principal
--
CREATE TABLE principal_orders (org_id text COLLATE "C", what text, secret boolean);
INSERT INTO principal_orders VALUES ('principal-one', 'one', false), ('principal-one', 'secret of one', true),
	('principal-two', 'two', false), ('principal-two', 'secret of two', true);
ALTER TABLE principal_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON principal_orders USING (org_id = (SELECT apikey_current_org())
	AND (SELECT apikey_current_level()) >= CASE WHEN secret THEN 'architect' ELSE 'standard' END::apikey_level);
GRANT SELECT, INSERT ON principal_orders TO regress_principal_app, regress_principal_bob, regress_principal_eve;
SET SESSION AUTHORIZATION regress_principal_app;
CREATE FUNCTION pg_temp.orders() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(what, ', ' ORDER BY what) FROM principal_orders
$$;
SELECT pg_temp.orders() AS nobody;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.orders() AS admin;
SELECT pg_temp.try($$INSERT INTO principal_orders VALUES ('principal-one', 'new', false)$$) AS own, pg_temp.try($$INSERT INTO principal_orders VALUES ('principal-two', 'new', false)$$) AS other;
ROLLBACK;
BEGIN;
SELECT apikey_act_as('principal-one', 'gus') \gset
SELECT pg_temp.orders() AS guest;
COMMIT;
BEGIN;
SELECT apikey_act_as('principal-two', 'ann') \gset
SELECT pg_temp.orders() AS standard_of_two;
COMMIT;
BEGIN;
SELECT level FROM apikey_authenticate(:'standard');
SELECT pg_temp.orders() AS standard_key;
COMMIT;
BEGIN;
SELECT level FROM apikey_authenticate(:'admin');
SELECT pg_temp.orders() AS admin_key;
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_principal_bob;
SELECT pg_temp.orders() AS by_database_role;
RESET SESSION AUTHORIZATION;

--
-- Code of others. SECURITY DEFINER changes current_user, hence who acts by
-- database role, and not who acts by a principal that was set.
--
GRANT CREATE ON SCHEMA public TO regress_principal_bob;
SET SESSION AUTHORIZATION regress_principal_bob;
CREATE FUNCTION principal_bobs() RETURNS text LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT apikey_current_user() || ' sees ' || (SELECT count(*) FROM apikeys) $$;
CREATE FUNCTION principal_anyones() RETURNS text LANGUAGE sql AS
	$$ SELECT apikey_current_user() || ' sees ' || (SELECT count(*) FROM apikeys) $$;
SELECT principal_bobs(), principal_anyones();
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT principal_bobs(), principal_anyones();
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
SELECT principal_bobs(), principal_anyones();
COMMIT;
-- In a parallel worker it is the same.
CREATE FUNCTION pg_temp.parallel(mode text) RETURNS text LANGUAGE sql AS $$
	SELECT set_config(name, mode, true) FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode')
$$;
CREATE FUNCTION pg_temp.gathers(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || statement LOOP
		IF line ~ 'Gather' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END $$;
BEGIN;
SELECT pg_temp.parallel('on'),
	pg_temp.gathers('SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(), apikey_current_suffix(), apikey_allows(''principal_high'')') AS gathers;
COMMIT;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
SELECT pg_temp.parallel('regress');
SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(), apikey_allows('principal_middle');
ROLLBACK;
BEGIN;
SELECT level FROM apikey_authenticate(:'admin');
SELECT pg_temp.parallel('regress');
SELECT apikey_current_org(), apikey_current_user(), apikey_current_level(), apikey_current_suffix() = apikey_suffix(:'admin') AS suffix, apikey_allows('principal_high');
ROLLBACK;
-- What is refreshed is nobody's, whoever refreshes it.
SET SESSION AUTHORIZATION regress_principal_bob;
CREATE MATERIALIZED VIEW principal_view AS SELECT name, apikey_current_user() AS who FROM apikeys;
SELECT * FROM principal_view;
CREATE MATERIALIZED VIEW principal_one AS SELECT apikey_current_user() AS who, apikey_current_level() AS level;
SELECT * FROM principal_one;
SELECT apikey_current_user(), (SELECT count(*) FROM apikeys);
REFRESH MATERIALIZED VIEW principal_view;
REFRESH MATERIALIZED VIEW principal_one;
SELECT count(*), (SELECT who FROM principal_one) FROM principal_view;
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
REFRESH MATERIALIZED VIEW principal_one;
SELECT who, apikey_current_user() FROM principal_one;
COMMIT;
-- An index expression would keep somebody's identity for all.
SELECT pg_temp.try('CREATE INDEX ON principal_orders ((apikey_current_user()))');
-- A deferred trigger runs at commit as who committed, before the principal is gone.
CREATE TABLE principal_log (who text, level apikey_level);
CREATE FUNCTION principal_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
	INSERT INTO public.principal_log VALUES (public.apikey_current_user(), public.apikey_current_level());
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER log AFTER INSERT ON principal_orders DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION principal_log();
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
INSERT INTO principal_orders VALUES ('principal-one', 'deferred', true);
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT * FROM principal_log;

DROP MATERIALIZED VIEW principal_view, principal_one;
DROP TABLE principal_orders, principal_log;
DROP FUNCTION principal_log, principal_bobs, principal_anyones;
DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'principal%';
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'principal-%' \g /dev/null
DROP OWNED BY regress_principal_app, regress_principal_bob, regress_principal_eve;
DROP ROLE regress_principal_app, regress_principal_bob, regress_principal_eve;
