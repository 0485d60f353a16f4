-- Attack 30: the fallback of identity. What somebody becomes when the principal
-- of a transaction is dropped; when a role is made a member that can't be one;
-- when a role is dropped and made anew; and what it may leave prepared.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
\set SHOW_CONTEXT never
\pset null -
CREATE ROLE regress_sealing_both;	-- the application, and a member nevertheless
CREATE ROLE regress_sealing_app;
CREATE ROLE regress_sealing_bob;	-- a member
CREATE ROLE regress_sealing_eve;	-- nobody
CREATE SCHEMA sealing;
GRANT USAGE ON SCHEMA sealing TO PUBLIC;
CREATE FUNCTION sealing.who() RETURNS text LANGUAGE sql PARALLEL SAFE AS $$
	SELECT coalesce(apikey_current_user(), 'nobody') || ' sees ' || (SELECT count(*) FROM apikeys)
$$;
CREATE FUNCTION sealing.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' ', SQLSTATE, SQLERRM);
END $$;
SELECT apikey_save_org('sealing', 'Sealing', 'enterprise'),
	apikey_save_member('sealing', 'ann', 'ann@example.com', 'admin'),
	apikey_save_member('sealing', 'bob', 'bob@example.com', 'standard', 'regress_sealing_bob'),
	apikey_save_member('sealing', 'both', 'both@example.com', 'standard', 'regress_sealing_both'),
	apikey_save_org('other', 'Other', 'free'),
	apikey_grant_application('regress_sealing_both'),
	apikey_grant_application('regress_sealing_app') \gset
BEGIN;
SET LOCAL apikeys.seal_principal = off;
SELECT apikey_act_as('sealing', 'ann'), apikey_create('anns', 'admin') AS ann \gset
SELECT apikey_act_as('sealing', 'bob'), apikey_create('bobs') AS bob \gset
COMMIT;

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

--
-- A role that may be the application, or the owner, is no member's. It counts
-- that it can become one that may.
--
CREATE ROLE regress_sealing_owner;
CREATE ROLE regress_sealing_super SUPERUSER;
CREATE ROLE regress_sealing_of_app ROLE regress_sealing_eve;
GRANT regress_sealing_app TO regress_sealing_of_app;
CREATE ROLE regress_sealing_noinherit NOINHERIT IN ROLE regress_sealing_of_app;
CREATE ROLE regress_sealing_saves;
CREATE ROLE regress_sealing_presents;
CREATE ROLE regress_sealing_verifies;
GRANT EXECUTE ON FUNCTION apikey_save_member TO regress_sealing_saves;
GRANT EXECUTE ON FUNCTION apikey_authenticate TO regress_sealing_presents;
GRANT EXECUTE ON FUNCTION apikey_verify TO regress_sealing_verifies;
SELECT apikey_save_member('sealing', 'new', 'new@example.com', db_role => 'regress_sealing_super');
SELECT apikey_save_member('sealing', 'new', 'new@example.com', db_role => 'regress_sealing_app');
SELECT role, sealing.try(format('SELECT apikey_save_member(''sealing'', ''new'', ''n'', db_role => %L)', role)) AS saved,
	sealing.try(format('INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, db_role) VALUES (''sealing'', ''dml'', ''d'', %L)', role)) AS inserted,
	sealing.try(format('UPDATE apikeys_private.apikey_member SET db_role = %L WHERE user_id = ''ann''', role)) AS updated
FROM unnest('{regress_sealing_super,regress_sealing_app,regress_sealing_of_app,regress_sealing_eve,regress_sealing_noinherit,regress_sealing_saves,regress_sealing_presents}'::text[]) role;
SELECT org_id, user_id, db_role, db_role_oid::regrole FROM apikeys_private.apikey_member WHERE org_id = 'sealing' ORDER BY user_id;
REVOKE regress_sealing_of_app FROM regress_sealing_eve;
SELECT apikey_save_member('sealing', 'eve', 'eve@example.com', db_role => 'regress_sealing_eve') AS eve_no_more,
	apikey_save_member('sealing', 'verifies', 'v@example.com', db_role => 'regress_sealing_verifies') AS verifies,
	apikey_save_member('sealing', 'none', 'n@example.com', db_role => 'regress_sealing_none') AS none;
BEGIN;
ALTER TABLE apikeys_private.apikey_key OWNER TO regress_sealing_owner;
UPDATE apikeys_private.apikey_member SET db_role = 'regress_sealing_owner' WHERE user_id = 'ann';
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_key OWNER TO regress_sealing_owner;
GRANT regress_sealing_owner TO regress_sealing_verifies;
UPDATE apikeys_private.apikey_member SET db_role = db_role WHERE user_id = 'verifies';
ROLLBACK;
BEGIN;
GRANT EXECUTE ON FUNCTION apikey_act_as TO PUBLIC;
SELECT apikey_save_member('sealing', 'verifies', NULL, db_role => 'regress_sealing_verifies');
ROLLBACK;
-- What a restore or another replication brings is stored, without effect: it
-- would else lose all members because of one.
BEGIN;
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, db_role, created_at, db_role_oid)
VALUES ('sealing', 'restored', 'r', 'regress_sealing_app', now() - interval '1 day', 'regress_sealing_app'::regrole);
SET LOCAL session_replication_role = replica;
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, db_role) VALUES ('sealing', 'replica', 'r', 'regress_sealing_super');
SET LOCAL session_replication_role = origin;
SELECT user_id, db_role, db_role_oid FROM apikeys_private.apikey_member WHERE user_id IN ('restored', 'replica') ORDER BY user_id;
SET LOCAL ROLE regress_sealing_app;
SELECT sealing.who();
ROLLBACK;
-- One that becomes a superuser afterwards is none while it is one.
ALTER ROLE regress_sealing_bob SUPERUSER;
SET ROLE regress_sealing_bob;
SELECT apikey_current_user();
RESET ROLE;
ALTER ROLE regress_sealing_bob NOSUPERUSER;
SET ROLE regress_sealing_bob;
SELECT apikey_current_user();
RESET ROLE;
-- Changing a member otherwise does not ask for its role again.
BEGIN;
ALTER ROLE regress_sealing_bob SUPERUSER;
SELECT apikey_save_member('sealing', 'bob', 'new@example.com', 'guest') AS save, apikey_save_org('sealing', 'New') AS org;
UPDATE apikeys_private.apikey_org SET org_id = 'sealing-moved' WHERE org_id = 'sealing';
SELECT org_id, role, email, db_role, db_role_oid::regrole FROM apikeys_private.apikey_member WHERE user_id = 'bob';
ROLLBACK;

--
-- A role is the member while both its name and its OID are those that were
-- saved; saving the member with the role again is what mends it.
--
CREATE FUNCTION sealing.whose(role name) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	RETURN coalesce(apikey_current_user(), 'nobody');
END $$;
CREATE FUNCTION sealing.row(member text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s', db_role, CASE db_role_oid WHEN to_regrole(db_role::text) THEN 'is' ELSE coalesce('was ' || (SELECT rolname FROM pg_roles WHERE oid = db_role_oid), CASE WHEN db_role_oid IS NULL THEN 'unknown' ELSE 'another' END) END)
	FROM apikeys_private.apikey_member WHERE user_id = member
$$;
SELECT sealing.row('bob'), sealing.row('none'), sealing.row('ann');
SELECT sealing.whose('regress_sealing_bob');
DROP ROLE regress_sealing_bob;
CREATE ROLE regress_sealing_bob;
SELECT sealing.row('bob');
SELECT sealing.whose('regress_sealing_bob');
-- nothing else mends it
SELECT apikey_save_member('sealing', 'bob', 'bob@example.com', 'guest') AS save;
UPDATE apikeys_private.apikey_member SET email = 'bob@example.com', role = 'standard' WHERE user_id = 'bob';
UPDATE apikeys_private.apikey_member SET db_role_oid = 'regress_sealing_bob'::regrole WHERE user_id = 'bob';
UPDATE apikeys_private.apikey_member SET db_role_oid = NULL WHERE user_id = 'bob';
SELECT sealing.row('bob');
SELECT sealing.whose('regress_sealing_bob');
SELECT apikey_save_member('sealing', 'bob', NULL, db_role => 'regress_sealing_bob') AS save;
SELECT sealing.row('bob');
SELECT sealing.whose('regress_sealing_bob');
-- another by the name
ALTER ROLE regress_sealing_bob RENAME TO regress_sealing_rob;
CREATE ROLE regress_sealing_bob;
SELECT sealing.row('bob');
SELECT sealing.whose('regress_sealing_bob');
SELECT sealing.whose('regress_sealing_rob');
UPDATE apikeys_private.apikey_member SET db_role = db_role WHERE user_id = 'bob';
SELECT sealing.row('bob');
SELECT sealing.whose('regress_sealing_bob');
-- one that was not there when the member was saved
CREATE ROLE regress_sealing_none;
SELECT sealing.row('none'), apikey_save_member('sealing', 'none', 'n@example.com', 'guest') AS save;
SELECT sealing.row('none');
SELECT sealing.whose('regress_sealing_none');
SELECT apikey_save_member('sealing', 'none', NULL, db_role => 'regress_sealing_none') AS save;
SELECT sealing.whose('regress_sealing_none');
-- none any more
UPDATE apikeys_private.apikey_member SET db_role = NULL WHERE user_id = 'none';
SELECT db_role, db_role_oid FROM apikeys_private.apikey_member WHERE user_id = 'none';
-- nobody is told the OID
SELECT has_column_privilege('regress_sealing_eve', 'apikeys_private.apikey_member', 'db_role_oid', 'SELECT') AS may_read;

--
-- What members do as their database roles cannot be prepared: it would outlast
-- them, with their locks.
--
GRANT USAGE, CREATE ON SCHEMA sealing TO regress_sealing_bob, regress_sealing_app;
SET SESSION AUTHORIZATION regress_sealing_bob;
BEGIN;
SELECT apikey_create('of bob') AS value \gset
PREPARE TRANSACTION 'regress_sealing';
SELECT gid FROM pg_prepared_xacts WHERE gid = 'regress_sealing';
SELECT count(*) AS created FROM apikeys WHERE suffix = apikey_suffix(:'value');
\set VERBOSITY sqlstate
BEGIN;
SELECT count(*) FROM apikeys;
PREPARE TRANSACTION 'regress_sealing';
-- also if the part that did it was rolled back, or the role is another by now
BEGIN;
SAVEPOINT s;
SELECT apikey_update(apikey_suffix(:'bob'), name => 'new') \gset
ROLLBACK TO s;
PREPARE TRANSACTION 'regress_sealing';
RESET SESSION AUTHORIZATION;
BEGIN;
SET LOCAL ROLE regress_sealing_bob;
SELECT apikey_update(apikey_suffix(:'bob'), name => 'new') \gset
RESET ROLE;
PREPARE TRANSACTION 'regress_sealing';
-- whoever is no member has looked, too
SET SESSION AUTHORIZATION regress_sealing_rob;
BEGIN;
SELECT count(*) FROM apikeys;
PREPARE TRANSACTION 'regress_sealing';
\set VERBOSITY default
-- what the application does for a member can be
SET SESSION AUTHORIZATION regress_sealing_app;
BEGIN;
SELECT apikey_act_as('sealing', 'bob') \gset
SELECT apikey_update(apikey_suffix(:'bob'), name => 'new') \gset
PREPARE TRANSACTION 'regress_sealing';
SELECT gid FROM pg_prepared_xacts WHERE gid = 'regress_sealing';
ROLLBACK PREPARED 'regress_sealing';
-- and what has nothing to do with keys, in a session that had
SET SESSION AUTHORIZATION regress_sealing_bob;
SELECT apikey_current_user();
BEGIN;
CREATE TABLE sealing.bobs (i int);
PREPARE TRANSACTION 'regress_sealing';
ROLLBACK PREPARED 'regress_sealing';
-- and a superuser's
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT count(*) > 0 AS sees FROM apikeys;
PREPARE TRANSACTION 'regress_sealing';
ROLLBACK PREPARED 'regress_sealing';

SELECT apikey_remove_org('sealing'), apikey_remove_org('other') \gset
DROP SCHEMA sealing CASCADE;
DROP OWNED BY regress_sealing_both, regress_sealing_app, regress_sealing_saves, regress_sealing_presents, regress_sealing_verifies;
DROP ROLE regress_sealing_both, regress_sealing_app, regress_sealing_bob, regress_sealing_rob, regress_sealing_eve, regress_sealing_owner,
	regress_sealing_super, regress_sealing_of_app, regress_sealing_noinherit, regress_sealing_saves, regress_sealing_presents,
	regress_sealing_verifies, regress_sealing_none;
