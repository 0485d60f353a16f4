-- Borrowed identity: while a function of ours runs its statements it is the owner
-- of the tables, and then its caller again. An owner who is no superuser must not
-- have the caller's rights by what it has put on the tables: nothing of that may
-- run after the identity was given back, nor leave anything behind. (Attacks 11, 31.)
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
CREATE ROLE regress_borrow_owner;
CREATE ROLE regress_borrow_app;

BEGIN;
SELECT apikey_grant_application('regress_borrow_app');
CREATE SCHEMA regress_borrow AUTHORIZATION regress_borrow_owner;
GRANT USAGE ON SCHEMA regress_borrow TO PUBLIC;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT format('ALTER TABLE %s OWNER TO regress_borrow_owner', oid::regclass)
		FROM pg_class WHERE relnamespace = 'apikeys_private'::regnamespace AND relkind = 'r' LOOP
		EXECUTE name;
	END LOOP;
END $$;
ALTER SCHEMA apikeys_private OWNER TO regress_borrow_owner;

-- What somebody does, as whom; and how it ends.
CREATE FUNCTION pg_temp.outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	EXECUTE sql;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RETURN SQLSTATE || ' ' || message;
END $$;

-- Who ran it.
CREATE TABLE regress_borrow.ran (what text, who name);
ALTER TABLE regress_borrow.ran OWNER TO regress_borrow_owner;
GRANT INSERT, SELECT ON regress_borrow.ran TO PUBLIC;
CREATE FUNCTION regress_borrow.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_borrow.ran VALUES (TG_NAME, current_user);
	RETURN NEW;
END $$;
ALTER FUNCTION regress_borrow.tell() OWNER TO regress_borrow_owner;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA regress_borrow TO PUBLIC;

-- What runs within the statement runs as the owner.
SAVEPOINT s;
CREATE TRIGGER before_it BEFORE INSERT ON apikeys_private.apikey_org FOR EACH ROW EXECUTE FUNCTION regress_borrow.tell();
CREATE TRIGGER after_it AFTER INSERT ON apikeys_private.apikey_org FOR EACH ROW EXECUTE FUNCTION regress_borrow.tell();
CREATE CONSTRAINT TRIGGER may_be_deferred AFTER INSERT ON apikeys_private.apikey_org DEFERRABLE FOR EACH ROW EXECUTE FUNCTION regress_borrow.tell();
SELECT pg_temp.outcome($$SELECT apikey_save_org('borrow', 'Borrow')$$);
SELECT * FROM regress_borrow.ran;
-- the caller defers it: it would run at commit, as the caller
SET CONSTRAINTS ALL DEFERRED;
SELECT pg_temp.outcome($$SELECT apikey_save_org('borrow2', 'Borrow')$$);
ROLLBACK TO s;

-- Deferred: on our table, and on another that a trigger of ours writes to.
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON apikeys_private.apikey_org DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION regress_borrow.tell();
SELECT pg_temp.outcome($$SELECT apikey_save_org('borrow', 'Borrow')$$);
SET LOCAL ROLE regress_borrow_app;
SELECT pg_temp.outcome($$SELECT apikey_save_org('borrow', 'Borrow')$$);
RESET ROLE;
ROLLBACK TO s;
CREATE TABLE regress_borrow.other (i int);
ALTER TABLE regress_borrow.other OWNER TO regress_borrow_owner;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON regress_borrow.other DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION regress_borrow.tell();
CREATE FUNCTION regress_borrow.pass_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_borrow.other VALUES (1);
	RETURN NEW;
END $$;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA regress_borrow TO PUBLIC;
CREATE TRIGGER pass_on BEFORE INSERT ON apikeys_private.apikey_org FOR EACH ROW EXECUTE FUNCTION regress_borrow.pass_on();
SELECT pg_temp.outcome($$SELECT apikey_save_org('borrow', 'Borrow')$$);
SELECT * FROM regress_borrow.ran;
ROLLBACK TO s;

-- What would be left behind: a cursor, a setting, another role, a temporary
-- function that is found before others.
CREATE FUNCTION regress_borrow.leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE NEW.name;
	RETURN NEW;
END $$;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA regress_borrow TO PUBLIC;
CREATE TRIGGER leave BEFORE INSERT ON apikeys_private.apikey_org FOR EACH ROW EXECUTE FUNCTION regress_borrow.leave();
SELECT pg_temp.outcome(format('SELECT apikey_save_org(%L, %L)', 'borrow', sql)) AS outcome, sql
FROM (VALUES
	($$DECLARE c CURSOR WITH HOLD FOR SELECT regress_borrow.tell()$$),
	($$SET ROLE regress_borrow_app$$),
	($$RESET ROLE$$),
	($$SET SESSION AUTHORIZATION regress_borrow_app$$),
	($$CREATE TEMP TABLE pg_class (i int)$$),
	($$LISTEN borrow$$)) AS v (sql);
SELECT apikey_save_org('borrow', $$SELECT set_config('search_path', 'regress_borrow, pg_catalog', false), set_config('work_mem', '1MB', false)$$);
SELECT current_setting('search_path') LIKE '%regress_borrow%' AS search_path, current_setting('work_mem') = '1MB' AS work_mem;
SELECT current_user = session_user AS same_user;
ROLLBACK TO s;

-- With all that, the functions do what they do.
SELECT apikey_save_org('borrow', 'Borrow', 'enterprise');
SELECT apikey_save_member('borrow', 'ada', 'ada@example.com', 'admin');
SELECT apikey_import_legacy('borrow', 'the legacy key of borrow');
SELECT apikey_act_as('borrow', 'ada');
SELECT apikey_create('key') IS NOT NULL AS created;
SELECT apikey_update(suffix, level => 'architect') FROM apikeys_mine;
SELECT apikey_rotate(suffix) IS NOT NULL AS rotated FROM apikeys_mine;
SELECT apikey_delete(suffix), name, level FROM apikeys_mine WHERE expires_at IS NULL;
SELECT apikey_delete_legacy();
SELECT apikey_remove_member('borrow', 'ada');
SELECT apikey_remove_org('borrow');
ROLLBACK;

-- A superuser has nothing to gain: where it is the owner, a product's deferred
-- foreign key to our tables works.
BEGIN;
CREATE TABLE regress_borrow_product (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org DEFERRABLE INITIALLY DEFERRED);
SELECT apikey_save_org('borrow', 'Borrow');
INSERT INTO regress_borrow_product VALUES ('borrow');
SELECT apikey_remove_org('borrow');
DELETE FROM regress_borrow_product;
SET CONSTRAINTS ALL IMMEDIATE;
-- but nobody becomes another role in the middle of it
CREATE FUNCTION pg_temp.become() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', NEW.name, true);
	RETURN NEW;
END $$;
CREATE TRIGGER become BEFORE INSERT ON apikeys_private.apikey_org FOR EACH ROW EXECUTE FUNCTION pg_temp.become();
\set VERBOSITY terse
SELECT apikey_save_org('borrow', 'none');
\set VERBOSITY default
ROLLBACK;

DROP ROLE regress_borrow_owner, regress_borrow_app;
