-- Attack 30: what somebody becomes when the principal of a transaction is dropped.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
\set SHOW_CONTEXT never
\pset null -
\getenv helpers PG_ABS_SRCDIR
\set helpers :helpers '/helpers/sealing.sql'
\i :helpers

--
-- The attack: one injected statement makes the application's role a member, and
-- drops the principal.
--
SET SESSION AUTHORIZATION regress_sealing_app;
BEGIN;
SELECT apikey_act_as('sealing', 'bob') \gset
SELECT apikey_save_member('other', 'mallory', 'm@x', 'admin', current_user), set_config('apikeys.principal', NULL, true);
ROLLBACK;
SELECT sealing.who();
BEGIN;
SELECT apikey_act_as('sealing', 'bob') \gset
-- nor a role that it can have, which is a member's already, or becomes one
SELECT apikey_save_member('other', 'mallory', 'm@x', 'admin', 'regress_sealing_eve'), set_config('apikeys.principal', NULL, true);
RESET SESSION AUTHORIZATION;
SET LOCAL ROLE regress_sealing_eve;
SELECT sealing.who();
RESET ROLE;
SET LOCAL ROLE regress_sealing_bob;
SELECT sealing.who();
ROLLBACK;
RESET SESSION AUTHORIZATION;

--
-- A transaction that has had a principal set has no other, however that was
-- dropped. This role is a member where none was set, and may set one.
--
SET SESSION AUTHORIZATION regress_sealing_both;
SELECT sealing.who() AS by_role;
BEGIN;
SELECT apikey_act_as('sealing', 'ann') \gset
SELECT sealing.who();
SAVEPOINT s;
RESET apikeys.principal;
SELECT sealing.who() AS after_reset;
ROLLBACK TO s;
SET LOCAL apikeys.principal TO DEFAULT;
SELECT sealing.who() AS after_set_to_default;
ROLLBACK TO s;
SET SESSION apikeys.principal TO DEFAULT;
SELECT sealing.who() AS after_set_to_default;
ROLLBACK TO s;
SELECT set_config('apikeys.principal', NULL, true), sealing.who() AS after_set_config;
SELECT sealing.who() AS after_set_config;
ROLLBACK TO s;
RESET ALL;
SELECT sealing.who() AS after_reset_all;
ROLLBACK TO s;
SELECT sealing.who() AS again;
COMMIT;
SELECT sealing.who() AS by_role;
BEGIN;
SAVEPOINT s;
SELECT apikey_act_as('sealing', 'ann') \gset
ROLLBACK TO s;
SELECT sealing.who() AS after_rollback_to;
SAVEPOINT t;
RELEASE s;
SELECT sealing.who() AS after_release;
COMMIT AND CHAIN;
SELECT sealing.who() AS by_role;
SELECT level FROM apikey_authenticate(:'ann');
RESET apikeys.principal;
SELECT sealing.who() AS after_a_key;
ROLLBACK AND CHAIN;
SELECT sealing.who() AS by_role;
COMMIT;
-- by an exception, and in a procedure that commits
DO $$
BEGIN
	BEGIN
		PERFORM apikey_act_as('sealing', 'ann');
		RAISE WARNING '%', sealing.who();
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		RAISE WARNING 'after an exception: %', sealing.who();
	END;
	COMMIT;
	RAISE WARNING 'after commit: %', sealing.who();
END $$;
-- By a superuser's choice a transaction may have several; none is that of the
-- role.
RESET SESSION AUTHORIZATION;
SET apikeys.seal_principal = off;
SET SESSION AUTHORIZATION regress_sealing_both;
BEGIN;
SELECT apikey_act_as('sealing', 'ann') \gset
RESET apikeys.principal;
SELECT sealing.who();
COMMIT;
RESET SESSION AUTHORIZATION;
RESET apikeys.seal_principal;
-- A principal of the session seals the transaction that set it. A later one has
-- that of the role when the session's is reset.
SET apikeys.session_principal = on;
SET SESSION AUTHORIZATION regress_sealing_both;
BEGIN;
SELECT apikey_act_as('sealing', 'ann', session => true) \gset
RESET apikeys.principal;
SELECT sealing.who() AS sealed;
ROLLBACK;
SELECT apikey_act_as('sealing', 'ann', session => true) \gset
SELECT sealing.who();
RESET apikeys.principal;
SELECT sealing.who() AS by_role;
RESET SESSION AUTHORIZATION;
RESET apikeys.session_principal;

--
-- Nobody opens the seal: what remembers it can't be set, and is not what it was
-- when it is reset.
--
SET SESSION AUTHORIZATION regress_sealing_both;
BEGIN;
SELECT apikey_act_as('sealing', 'ann') \gset
SELECT statement, sealing.try(statement) FROM (VALUES
	('SET apikeys.sealed_transaction = 0'),
	('SET LOCAL apikeys.sealed_transaction = 1'),
	('SELECT set_config(''apikeys.sealed_transaction'', ''0'', true)'),
	('SELECT set_config(''apikeys.sealed_transaction'', current_setting(''apikeys.sealed_transaction''), false)'),
	('ALTER ROLE CURRENT_USER SET apikeys.sealed_transaction = 0'),
	('CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.sealed_transaction = 0 RETURN sealing.who()'),
	('CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET apikeys.sealed_transaction FROM CURRENT RETURN sealing.who()')
) s (statement);
RESET apikeys.principal;
RESET apikeys.sealed_transaction;
SELECT sealing.who() AS after_reset;
SET LOCAL apikeys.sealed_transaction TO DEFAULT;
SELECT sealing.who() AS after_set_to_default;
SELECT set_config('apikeys.sealed_transaction', NULL, true) \g /dev/null
SELECT sealing.who() AS after_set_config;
COMMIT;
-- what is stacked before the seal
BEGIN;
RESET apikeys.sealed_transaction;
SAVEPOINT s;
SET LOCAL apikeys.sealed_transaction TO DEFAULT;
SAVEPOINT t;
RESET apikeys.sealed_transaction;
SELECT apikey_act_as('sealing', 'ann') \gset
RELEASE t;
RESET apikeys.principal;
SELECT sealing.who() AS after_release;
ROLLBACK TO s;
SELECT sealing.who() AS after_rollback_to;
RELEASE s;
SELECT sealing.who() AS after_release;
COMMIT;
SELECT sealing.who() AS by_role;
SELECT count(*) AS shown FROM pg_settings WHERE name = 'apikeys.sealed_transaction';
RESET SESSION AUTHORIZATION;
SELECT statement, sealing.try(statement) FROM (VALUES
	('SET apikeys.sealed_transaction = 1'),
	('ALTER ROLE regress_sealing_both SET apikeys.sealed_transaction = 0')
) s (statement);
-- before the library is loaded
\c -
\set SHOW_CONTEXT never
SET client_min_messages = error;
SET SESSION AUTHORIZATION regress_sealing_both;
SET apikeys.sealed_transaction = 7;
SELECT apikey_current_user();
SHOW apikeys.sealed_transaction;
BEGIN;
SELECT apikey_act_as('sealing', 'ann') \gset
RESET apikeys.principal;
SELECT sealing.who();
COMMIT;
SELECT sealing.who() AS by_role;
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;

--
-- In parallel workers it is the same. PL/pgSQL and functions in SQL would fetch
-- by parts, which is not done in parallel.
--
SELECT pg_backend_pid() AS leader \gset
CREATE FUNCTION sealing.in_worker() RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN
	RETURN pg_backend_pid() <> current_setting('sealing.leader')::int;
END $$;
CREATE TABLE sealing.data AS SELECT i FROM generate_series(1, 1000) i;
ANALYZE sealing.data;
GRANT SELECT ON sealing.data TO PUBLIC;
SET sealing.leader = :leader;
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode') \g /dev/null
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
\set told 'SELECT coalesce(apikey_current_user(), ''nobody'') AS who, sealing.in_worker(); SELECT coalesce(apikey_current_user(), ''nobody'') AS who, count(*), bool_and(sealing.in_worker()) AS in_workers FROM sealing.data WHERE i > 0 GROUP BY 1;'
SET SESSION AUTHORIZATION regress_sealing_both;
:told
BEGIN;
SELECT apikey_act_as('sealing', 'ann') \gset
:told
RESET apikeys.principal;
:told
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT level FROM apikey_authenticate(:'ann');
:told
ROLLBACK TO s;
:told
COMMIT;
:told
RESET SESSION AUTHORIZATION;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode') \g /dev/null
RESET max_parallel_workers_per_gather;

--
-- What is kept of a presented key is its number, which workers may show in
-- errors, not its digest; and its date, in case another key gets the number.
--
BEGIN;
SELECT level FROM apikey_authenticate(:'bob');
SELECT sealing.who();
UPDATE apikeys_private.apikey_key SET digest = sha256('another') WHERE suffix = apikey_suffix(:'bob');
SELECT apikey_current_user(), apikey_current_suffix() = apikey_suffix(:'bob') AS same_suffix;
UPDATE apikeys_private.apikey_key SET created_at = created_at - interval '1 microsecond' WHERE owner_id = 'bob';
SELECT apikey_current_user();
ROLLBACK;

SELECT apikey_remove_org('sealing'), apikey_remove_org('other') \gset
DROP SCHEMA sealing CASCADE;
DROP OWNED BY regress_sealing_both, regress_sealing_app;
DROP ROLE regress_sealing_both, regress_sealing_app, regress_sealing_bob, regress_sealing_eve;
