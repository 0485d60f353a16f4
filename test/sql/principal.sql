-- On whose behalf a session acts: what the functions say of a member, a key and
-- nobody; how long it lasts; that a transaction has one.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never
\pset null -
\getenv helpers PG_ABS_SRCDIR
\set helpers :helpers '/helpers/principal.sql'
\i :helpers

SET SESSION AUTHORIZATION regress_principal_app;
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

DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'principal%';
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'principal-%' \g /dev/null
DROP OWNED BY regress_principal_app, regress_principal_bob, regress_principal_eve;
DROP ROLE regress_principal_app, regress_principal_bob, regress_principal_eve;
