-- Attack 30: what somebody becomes when a role is made a member that can't be one,
-- or is dropped and made anew; and what it may leave prepared.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
\set SHOW_CONTEXT never
\pset null -
\getenv helpers PG_ABS_SRCDIR
\set helpers :helpers '/helpers/sealing.sql'
\i :helpers

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
