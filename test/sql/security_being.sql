-- Attacks 7 to 11: being somebody else, by setting what says who one is, by
-- what a transaction leaves behind, by rolling back, in a parallel worker, and
-- where PostgreSQL runs code at moments that its author chose.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
SELECT current_user AS superuser \gset
CREATE ROLE regress_being_app LOGIN;		-- the application
CREATE ROLE regress_being_bob LOGIN;		-- a member
CREATE ROLE regress_being_user LOGIN;		-- no principal
SELECT apikey_grant_application('regress_being_app');
GRANT SET ON PARAMETER apikeys.session_principal TO regress_being_app;
SELECT apikey_save_org('security_being', 'Being', 'enterprise');
SELECT apikey_save_member('security_being', 'ann', 'ann@example.com', 'admin');
SELECT apikey_save_member('security_being', 'bob', 'bob@example.com', 'standard', 'regress_being_bob');
SELECT apikey_save_member('security_being', 'eve', 'eve@example.com');
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
SELECT apikey_create('anns', 'admin') AS ann \gset
SELECT apikey_act_as('security_being', 'bob');
SELECT apikey_create('bobs') AS bob \gset
COMMIT;
SELECT apikey_import_legacy('security_being', 'security_being legacy');
-- what the setting would have to hold, and whoever can write there
SELECT concat_ws(chr(9), 'member', 'security_being', 'ann') AS ann_text,
	format($$user=regress_being_user options='-c apikeys.principal=%s'$$,
		concat_ws(E'\\\\\t', 'member', 'security_being', 'ann')) AS ann_option \gset
CREATE SCHEMA security_being;
GRANT USAGE, CREATE ON SCHEMA security_being TO PUBLIC;
CREATE VIEW security_being.who AS
SELECT apikey_current_org() AS org, apikey_current_user() AS "user", apikey_current_role() AS role,
	apikey_current_level() AS level, (SELECT count(*) FROM apikeys) AS keys;
ALTER VIEW security_being.who SET (security_invoker = true);
GRANT SELECT ON security_being.who TO PUBLIC;

-- attack 7: giving the setting a value, by a user without and with a principal
\set VERBOSITY terse
SET ROLE regress_being_user;
SELECT apikey_current_org();
SET apikeys.principal = :'ann_text';
SET SESSION apikeys.principal TO :'ann_text';
SET apikeys.principal = 'member';
SET apikeys.principal = '';
SET apikeys.principal = 'key';
BEGIN;
SET LOCAL apikeys.principal = :'ann_text';
ROLLBACK;
SELECT set_config('apikeys.principal', :'ann_text', false);
SELECT set_config('apikeys.principal', :'ann_text', true);
SELECT set_config('apikeys.principal', '', true);
UPDATE pg_settings SET setting = :'ann_text' WHERE name = 'apikeys.principal';
CREATE FUNCTION security_being.be() RETURNS text LANGUAGE sql SET apikeys.principal = 'member' RETURN apikey_current_user();
CREATE FUNCTION security_being.be() RETURNS text LANGUAGE sql SET apikeys.principal FROM CURRENT RETURN apikey_current_user();
ALTER ROLE regress_being_user SET apikeys.principal = 'member';
ALTER ROLE regress_being_user SET apikeys.principal FROM CURRENT;
-- the claims that other extensions believe
SELECT set_config('request.jwt.claims', '{"sub": "ann", "org_id": "security_being", "role": "admin"}', false);
SELECT set_config('request.jwt.claim.sub', 'ann', false);
SELECT * FROM security_being.who;
-- a superuser neither
RESET ROLE;
SET apikeys.principal = :'ann_text';
ALTER SYSTEM SET apikeys.principal = 'member';
ALTER DATABASE contrib_regression SET apikeys.principal = 'member';
ALTER ROLE regress_being_user SET apikeys.principal = 'member';
-- with a principal, FROM CURRENT does not make it last
SET ROLE regress_being_app;
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
CREATE FUNCTION security_being.be() RETURNS text LANGUAGE sql SET apikeys.principal FROM CURRENT RETURN apikey_current_user();
ROLLBACK;
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
ALTER ROLE regress_being_app SET apikeys.principal FROM CURRENT;
ROLLBACK;
-- dropping it is always possible
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
SET LOCAL apikeys.principal TO DEFAULT;
SELECT * FROM security_being.who;
COMMIT;
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
SELECT set_config('apikeys.principal', NULL, true);
SELECT * FROM security_being.who;
COMMIT;
-- settings that are the superuser's
SET apikeys.seal_principal = off;
SET apikeys.prefix = 'mine';
SET apikeys.revoke_remote_apply = off;
SET apikeys.unheard_of = 1;
RESET ROLE;

-- attack 7: before the library is loaded there is nothing to refuse a value;
-- it is dropped when the library comes
\c - regress_being_user
SET client_min_messages = error;
SET apikeys.principal = :'ann_text';
SET apikeys.seal_principal = off;
SET apikeys.prefix = 'mine';
SELECT * FROM security_being.who;
SHOW apikeys.principal;
SHOW apikeys.seal_principal;
SHOW apikeys.prefix;
SET apikeys.principal = :'ann_text';
\c - regress_being_user
SET client_min_messages = error;
BEGIN;
SET LOCAL apikeys.principal = :'ann_text';
SAVEPOINT s;
SET LOCAL apikeys.principal = :'ann_text';
SELECT * FROM security_being.who;
ROLLBACK TO s;
SELECT * FROM security_being.who;
COMMIT;
SELECT * FROM security_being.who;
-- a connection option, and a setting of the role that a superuser gave it
-- before he loaded the library
\c -reuse-previous=on :ann_option
SELECT current_setting('apikeys.principal') = :'ann_text' AS "the option came";
SET client_min_messages = error;
SELECT * FROM security_being.who;
SHOW apikeys.principal;
\c -reuse-previous=on "user=regress_being_user options=''"
\c - :superuser
SET client_min_messages = error;
ALTER ROLE regress_being_user SET apikeys.principal = :'ann_text';
CREATE FUNCTION security_being.be() RETURNS text LANGUAGE plpgsql
	SET apikeys.principal = :'ann_text' AS 'BEGIN RETURN apikey_current_user(); END';
\c - regress_being_user
SET client_min_messages = error;
SELECT current_setting('apikeys.principal') = :'ann_text' AS "the setting came";
SELECT * FROM security_being.who;
-- a function's, which sets it before the library comes, and after
\c - regress_being_user
SET client_min_messages = error;
SELECT security_being.be();
SELECT * FROM security_being.who;
SELECT security_being.be();
SELECT * FROM security_being.who;
\c - :superuser
ALTER ROLE regress_being_user RESET ALL;
SET client_min_messages = warning;

-- attack 7: what a request injects cannot become somebody else: a transaction
-- has one principal, whatever has become of it
SET ROLE regress_being_app;
BEGIN;
SELECT apikey_act_as('security_being', 'bob');
SAVEPOINT s;
\set VERBOSITY default
SELECT apikey_act_as('security_being', 'ann');
\set VERBOSITY terse
ROLLBACK TO s;
SELECT apikey_authenticate(:'ann');
ROLLBACK TO s;
SET LOCAL apikeys.session_principal = on;
SELECT apikey_act_as('security_being', 'ann', session => true);
ROLLBACK TO s;
SET LOCAL apikeys.session_principal = on;
SELECT apikey_authenticate('security_being legacy', true);
ROLLBACK TO s;
RESET apikeys.principal;
SELECT apikey_act_as('security_being', 'ann');
ROLLBACK TO s;
SELECT * FROM security_being.who;
COMMIT;
-- also if the one there was has been rolled back
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('security_being', 'bob');
ROLLBACK TO s;
SELECT apikey_act_as('security_being', 'ann');
ROLLBACK;
BEGIN;
SELECT user_id FROM apikey_authenticate(:'bob');
SELECT apikey_act_as('security_being', 'ann');
ROLLBACK;
-- in one statement, and in a function
BEGIN;
SELECT apikey_act_as('security_being', 'bob'), apikey_act_as('security_being', 'ann');
ROLLBACK;
DO $$ BEGIN
	PERFORM apikey_act_as('security_being', 'bob');
	BEGIN
		PERFORM apikey_act_as('security_being', 'ann');
	EXCEPTION WHEN insufficient_privilege THEN
		NULL;
	END;
	RAISE WARNING 'now %', apikey_current_user();
END $$;
-- the next transaction is another request
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
SELECT * FROM security_being.who;
COMMIT;
-- one that has failed is as good as none
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('security_being', 'nobody');
ROLLBACK TO s;
SELECT apikey_authenticate('nonsense');
ROLLBACK TO s;
SELECT apikey_act_as('security_being', 'ann');
SELECT apikey_current_user();
COMMIT;
-- a superuser can let test suites run many requests in a transaction
RESET ROLE;
SET apikeys.seal_principal = off;
SET ROLE regress_being_app;
BEGIN;
SELECT apikey_act_as('security_being', 'bob');
SELECT apikey_act_as('security_being', 'ann');
SELECT apikey_current_user();
COMMIT;
RESET ROLE;
RESET apikeys.seal_principal;
-- whoever was not granted it becomes nobody at all
SET ROLE regress_being_user;
SELECT apikey_act_as('security_being', 'ann');
SELECT apikey_authenticate(:'ann');
SET ROLE regress_being_bob;
SELECT apikey_act_as('security_being', 'ann');
RESET ROLE;

-- attack 8: nothing is left after COMMIT, ROLLBACK, an error, AND CHAIN,
-- PREPARE TRANSACTION, or a procedure's own COMMIT
SET ROLE regress_being_app;
BEGIN; SELECT apikey_act_as('security_being', 'ann'); COMMIT;
SELECT apikey_current_user();
BEGIN; SELECT apikey_act_as('security_being', 'ann'); ROLLBACK;
SELECT apikey_current_user();
BEGIN; SELECT apikey_act_as('security_being', 'ann'); SELECT 1 / 0; COMMIT;
SELECT apikey_current_user();
BEGIN; SELECT apikey_act_as('security_being', 'ann'); COMMIT AND CHAIN;
SELECT apikey_current_user();
SELECT apikey_act_as('security_being', 'bob');
ROLLBACK AND CHAIN;
SELECT apikey_current_user();
COMMIT;
BEGIN; SELECT apikey_act_as('security_being', 'ann'); PREPARE TRANSACTION 'security_being';
SELECT apikey_current_user();
BEGIN; SELECT apikey_act_as('security_being', 'bob'); SELECT apikey_current_user(); COMMIT;
ROLLBACK PREPARED 'security_being';
SELECT apikey_current_user();
SELECT apikey_act_as('security_being', 'ann');	-- refused: nothing begun
SELECT apikey_current_user();
CREATE PROCEDURE security_being.work() LANGUAGE plpgsql AS $$ BEGIN
	PERFORM apikey_act_as('security_being', 'ann');
	RAISE WARNING 'first %', apikey_current_user();
	COMMIT;
	RAISE WARNING 'then %', apikey_current_user();
	PERFORM apikey_act_as('security_being', 'bob');
	RAISE WARNING 'second %', apikey_current_user();
	ROLLBACK;
	RAISE WARNING 'then %', apikey_current_user();
END $$;
CALL security_being.work();
SELECT apikey_current_user();
-- two clients of one pooled backend: what was asked for the session stays until
-- the pooler resets it, and not if its transaction is rolled back; the setting
-- that allows it is the DBA's to turn on
SELECT apikey_act_as('security_being', 'ann', session => true);
SET apikeys.session_principal = on;
BEGIN; SELECT apikey_act_as('security_being', 'ann', session => true); ROLLBACK;
SELECT apikey_current_user();
SELECT apikey_act_as('security_being', 'ann', session => true);
SELECT apikey_current_user();
BEGIN; SELECT apikey_act_as('security_being', 'bob'); SELECT apikey_current_user(); COMMIT;
SELECT apikey_current_user();
RESET ALL;
SELECT apikey_current_user();
SET apikeys.session_principal = on;
SELECT user_id FROM apikey_authenticate(:'bob', session => true);
SELECT apikey_current_suffix() = apikey_suffix(:'bob');
RESET ROLE;
DISCARD ALL;
SET client_min_messages = warning;
SET ROLE regress_being_app;
SELECT apikey_current_suffix();

-- attack 9: the principal before a savepoint, or a block that failed, is back
SET apikeys.session_principal = on;
SELECT apikey_act_as('security_being', 'eve', session => true);
BEGIN;
SAVEPOINT a;
SELECT apikey_act_as('security_being', 'bob');
SAVEPOINT b;
RESET apikeys.principal;
SELECT apikey_current_user();
ROLLBACK TO b;
SELECT apikey_current_user();
RELEASE b;
ROLLBACK TO a;
SELECT apikey_current_user();
COMMIT;
DO $$ BEGIN
	BEGIN
		PERFORM apikey_act_as('security_being', 'bob');
		RAISE WARNING 'inside %', apikey_current_user();
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		RAISE WARNING 'after %', apikey_current_user();
	END;
END $$;
-- in the failed block it is not used any more either
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
SAVEPOINT a;
SELECT apikey_current_user(), 1 / 0;
SELECT apikey_current_user();
ROLLBACK TO a;
SELECT apikey_current_user();
COMMIT;
RESET apikeys.principal;
RESET ROLE;

-- attack 10: parallel workers are whoever their leader is
CREATE TABLE security_being.data AS
SELECT i, CASE i % 3 WHEN 0 THEN 'security_being' ELSE 'other' END AS org_id FROM generate_series(1, 3000) i;
ALTER TABLE security_being.data ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON security_being.data USING (org_id = apikey_current_org() AND apikey_current_level() >= 'standard');
GRANT SELECT ON security_being.data TO PUBLIC;
ANALYZE security_being.data;
CREATE FUNCTION security_being.in_worker() RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN
	RETURN pg_backend_pid() <> current_setting('security_being.leader')::int;
END $$;
SELECT pg_backend_pid() AS leader \gset
SET security_being.leader = :leader;
-- Not in a function, which would fetch by parts: that is not done in parallel.
\set counts 'SELECT count(*), min(apikey_current_user()) AS user, max(apikey_current_role()) AS role, max(apikey_current_level()) AS level, max(apikey_current_suffix()) IS NOT NULL AS key, bool_and(security_being.in_worker()) AS in_parallel FROM security_being.data WHERE coalesce(apikey_current_user(), '''') <> ''x''; SELECT count(*) AS keys FROM apikeys;'
SET apikeys.seal_principal = off;
BEGIN;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL ROLE regress_being_user;
:counts
SET LOCAL ROLE regress_being_bob;
:counts
SET LOCAL ROLE regress_being_app;
SELECT apikey_act_as('security_being', 'ann');
:counts
SELECT user_id FROM apikey_authenticate(:'bob');
:counts
ROLLBACK;
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL min_parallel_index_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL parallel_leader_participation = off;
SET LOCAL ROLE regress_being_user;
:counts
SET LOCAL ROLE regress_being_bob;
:counts
SET LOCAL ROLE regress_being_app;
SELECT apikey_act_as('security_being', 'ann');
:counts
SELECT user_id FROM apikey_authenticate(:'bob');
:counts
ROLLBACK;
RESET apikeys.seal_principal;

-- attack 11: where PostgreSQL evaluates an index expression for somebody, or
-- refreshes a materialized view, nobody is acting. Such code is given a search
-- path of its own since PostgreSQL 17.
SET ROLE regress_being_app;
CREATE TABLE security_being.noted (note text);
CREATE FUNCTION security_being.note(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
	RAISE WARNING 'noted by % who sees %', coalesce(public.apikey_current_user(), 'nobody'), (SELECT count(*) FROM public.apikeys);
	RETURN $1;
END $$;
INSERT INTO security_being.noted VALUES ('x');
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
CREATE INDEX ON security_being.noted (security_being.note(note));
REINDEX TABLE security_being.noted;
ANALYZE security_being.noted;
CREATE MATERIALIZED VIEW security_being.seen AS SELECT name FROM apikeys;
SELECT * FROM security_being.seen;
REFRESH MATERIALIZED VIEW security_being.seen;
SELECT * FROM security_being.seen;
SELECT count(*) > 0 AS "while here she sees" FROM apikeys;
ROLLBACK;
-- nor does such code manage keys
CREATE FUNCTION security_being.mint(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
	RETURN public.apikey_create('minted', 'admin');
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING '%', SQLERRM;
	RETURN $1;
END $$;
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
CREATE INDEX ON security_being.noted (security_being.mint(note));
ROLLBACK;
-- A deferred trigger runs before the transaction, and its principal, ends; it
-- is whoever that is then, not whoever caused it.
CREATE FUNCTION security_being.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	RAISE WARNING 'late by %', coalesce(apikey_current_user(), 'nobody');
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON security_being.noted
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION security_being.late();
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
INSERT INTO security_being.noted VALUES ('y');
COMMIT;
BEGIN;
SELECT apikey_act_as('security_being', 'ann');
INSERT INTO security_being.noted VALUES ('z');
RESET apikeys.principal;
COMMIT;
SELECT apikey_current_user();
RESET ROLE;

SELECT apikey_remove_org('security_being');
DROP SCHEMA security_being CASCADE;
DROP OWNED BY regress_being_app;
DROP ROLE regress_being_app, regress_being_bob, regress_being_user;
