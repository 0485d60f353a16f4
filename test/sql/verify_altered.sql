--
-- verify_altered
--
-- Proves that verification is right, or a clear error, whatever a superuser has
-- done to the tables: maintained them, weakened the triggers that announce
-- changes, or made objects other than they were installed. Each question is
-- asked several times in one session, as in verify.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;

SELECT apikey_save_org('altered', 'Altered', 'enterprise'), apikey_save_member('altered', 'ann', 'ann@altered.example', 'admin');
BEGIN;
SELECT apikey_act_as('altered', 'ann');
SELECT apikey_create('admin key', 'admin') AS admin \gset
COMMIT;
\set legacy 'a legacy key of altered'
SELECT apikey_import_legacy('altered', :'legacy');

-- Everything that verification says of a key, asked four times over.
CREATE FUNCTION pg_temp.say(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text; before text;
BEGIN
	FOR i IN 1..4 LOOP
		said := concat_ws(', ',
			coalesce((SELECT 'reaches ' || string_agg(l::text, ' ' ORDER BY l)
			 FROM unnest(enum_range(NULL::apikey_level)) AS l WHERE apikey_check_level(key, l)), 'refused'),
			(SELECT 'verified as ' || concat_ws(' ', org_id, user_id, level, name) FROM apikey_verify(key)),
			(SELECT 'me ' || (m ->> 'role') FROM apikey_me(key) AS m),
			(apikey_inspect(key)).status);
		IF said <> before THEN
			RETURN 'first "' || before || '", then "' || said || '"';
		END IF;
		before := said;
	END LOOP;
	RETURN said;
END $$;

-- How a statement ends.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text; message text; hint text;
BEGIN
	EXECUTE statement INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, ''));
END $$;

--
-- Announcing
--

-- without the triggers that tell sessions of changes, nothing is kept
ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER apikey_announce;
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE org_id = 'altered' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE org_id = 'altered' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
ALTER TABLE apikeys_private.apikey_key ENABLE TRIGGER apikey_announce;
SELECT pg_temp.say(:'admin');
SET session_replication_role = replica;
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE org_id = 'altered' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE org_id = 'altered' AND name = 'admin key';
RESET session_replication_role;
ALTER TABLE apikeys_private.apikey_key ENABLE ALWAYS TRIGGER apikey_announce;
SELECT pg_temp.say(:'admin');

-- A key is kept only while every change of it would be announced: not with a
-- trigger that is weaker in any way than the one installed.
CREATE FUNCTION pg_temp.scans() RETURNS numeric LANGUAGE sql
RETURN (SELECT sum(pg_stat_get_xact_numscans(indexrelid)) FROM pg_index
	WHERE indrelid IN ('apikeys_private.apikey_key'::regclass, 'apikeys_private.apikey_legacy'::regclass));
CREATE FUNCTION pg_temp.kept(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before numeric;
BEGIN
	PERFORM apikey_check_level(key, 'standard');
	before := pg_temp.scans();
	RETURN CASE WHEN NOT apikey_check_level(key, 'standard') THEN 'dead' WHEN pg_temp.scans() = before THEN 'kept' ELSE 'not kept' END;
END $$;
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
-- %1$s is the table, %2$s what makes the trigger fire always
CREATE TEMPORARY TABLE weaker (n serial, what text, as_installed boolean, statement text);
INSERT INTO weaker (what, as_installed, statement) VALUES
	('made anew alike', true, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('by another name', true, 'ALTER TRIGGER apikey_announce ON %1$s RENAME TO altered'),
	('by two triggers', true, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s;
		CREATE TRIGGER altered AFTER DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); ALTER TABLE %1$s ENABLE ALWAYS TRIGGER altered'),
	('another function', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing(); %2$s'),
	('on a condition', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON %1$s FOR EACH ROW WHEN (OLD.org_id = ''another'') EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('of some columns', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE OF org_id OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('deferrable', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE CONSTRAINT TRIGGER apikey_announce AFTER UPDATE OR DELETE ON %1$s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('before', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce BEFORE UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('for each statement', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON %1$s FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('not of an update', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('not of a deletion', false, 'DROP TRIGGER apikey_announce ON %1$s; CREATE TRIGGER apikey_announce AFTER UPDATE ON %1$s FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change(); %2$s'),
	('not of TRUNCATE', false, 'DROP TRIGGER apikey_announce_truncate ON %1$s'),
	('not in every session', false, 'ALTER TABLE %1$s ENABLE TRIGGER apikey_announce'),
	('only of what is replicated', false, 'ALTER TABLE %1$s ENABLE REPLICA TRIGGER apikey_announce'),
	('disabled', false, 'ALTER TABLE %1$s DISABLE TRIGGER apikey_announce'),
	('not of TRUNCATE in every session', false, 'ALTER TABLE %1$s ENABLE TRIGGER apikey_announce_truncate');
CREATE FUNCTION pg_temp.kept_with(statement text, "table" text, key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(statement, 'apikeys_private.' || "table", format('ALTER TABLE apikeys_private.%s ENABLE ALWAYS TRIGGER apikey_announce', "table"));
	RAISE EXCEPTION USING ERRCODE = '00001', MESSAGE = pg_temp.kept(key);
EXCEPTION WHEN SQLSTATE '00001' THEN
	RETURN SQLERRM;
END $$;
SELECT pg_temp.kept(:'admin') AS native, pg_temp.kept(:'legacy') AS legacy;
SELECT what, as_installed, pg_temp.kept_with(statement, 'apikey_key', :'admin') AS native, pg_temp.kept_with(statement, 'apikey_legacy', :'legacy') AS legacy
FROM weaker ORDER BY n;
SELECT pg_temp.kept(:'admin') AS native, pg_temp.kept(:'legacy') AS legacy;

-- rewritten, reindexed, locked
VACUUM FULL apikeys_private.apikey_key;
SELECT pg_temp.say(:'admin');
REINDEX TABLE apikeys_private.apikey_key;
SELECT pg_temp.say(:'admin');
SET client_min_messages = error;
REINDEX TABLE CONCURRENTLY apikeys_private.apikey_key;
RESET client_min_messages;
CLUSTER apikeys_private.apikey_key USING apikey_key_org_id_name_suffix_idx;
SELECT pg_temp.say(:'admin');
ALTER TABLE apikeys_private.apikey_key SET WITHOUT CLUSTER;
VACUUM (FREEZE) apikeys_private.apikey_key, apikeys_private.apikey_legacy;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
BEGIN;
SELECT name FROM apikeys_private.apikey_key WHERE org_id = 'altered' AND name = 'admin key' FOR UPDATE;
SELECT pg_temp.say(:'admin');
SAVEPOINT a;
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE org_id = 'altered' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
ROLLBACK TO a;
SELECT pg_temp.say(:'admin');
COMMIT;
SELECT pg_temp.say(:'admin');
BEGIN;
ALTER TABLE apikeys_private.apikey_key DISABLE ROW LEVEL SECURITY;
SELECT pg_temp.say(:'admin');
ROLLBACK;

-- not as it was installed
BEGIN;
ALTER TYPE apikeys_private.apikey_identity ADD ATTRIBUTE more text;
SELECT pg_temp.try(format('SELECT apikey_verify(%L)', :'admin'));
SELECT pg_temp.try(format('SELECT apikey_authenticate(%L)', :'admin'));
ROLLBACK;
BEGIN;
ALTER TYPE apikeys_private.apikey_identity ALTER ATTRIBUTE legacy TYPE text;
SELECT pg_temp.try(format('SELECT * FROM apikey_verify(%L)', :'admin'));
ROLLBACK;
-- in another order than we look for
BEGIN;
ALTER TABLE apikeys_private.apikey_member DROP CONSTRAINT apikey_member_db_role_key;
CREATE UNIQUE INDEX altered_other ON apikeys_private.apikey_member (db_role COLLATE "POSIX");
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT apikey_key_digest_excl;
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
-- one that serves as well
CREATE INDEX altered_other ON apikeys_private.apikey_key USING hash (digest);
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
DROP INDEX apikeys_private.altered_other;
ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT altered_other EXCLUDE USING hash (digest WITH =) WHERE (level = 'admin');
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT altered_another EXCLUDE USING hash (digest WITH =);
SELECT pg_temp.say(:'admin');
ROLLBACK;
-- one that is not finished, as CREATE INDEX CONCURRENTLY may leave it
BEGIN;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'apikeys_private.apikey_key_digest_excl'::regclass;
ALTER TABLE apikeys_private.apikey_key SET (fillfactor = 100);
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
ROLLBACK;
-- stored by something else, whose rows we might misread
BEGIN;
CREATE ACCESS METHOD altered TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE apikeys_private.apikey_legacy SET ACCESS METHOD altered;
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'legacy', 'standard'));
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_key RENAME COLUMN expires_at TO ends_at;
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'admin', 'standard'));
SELECT pg_temp.try(format('SELECT apikey_verify(%L)', :'admin'));
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_legacy DROP CONSTRAINT apikey_legacy_digest_excl;
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'legacy', 'standard'));
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_legacy DROP CONSTRAINT apikey_legacy_digest_excl,
	ADD CONSTRAINT altered_other EXCLUDE USING hash (org_id WITH =);
SELECT pg_temp.try(format('SELECT apikey_check_level(%L, %L)', :'legacy', 'standard'));
ROLLBACK;
-- others in their place, of which it is said that they are the extension's
CREATE FUNCTION pg_temp.replace(new text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	ALTER TABLE apikeys_private.apikey_legacy RENAME TO altered_legacy;
	EXECUTE new;
	ALTER EXTENSION apikeys DROP TABLE apikeys_private.altered_legacy;
	EXECUTE format('ALTER EXTENSION apikeys ADD %s apikeys_private.apikey_legacy', split_part(new, ' ', 2));
	RETURN pg_temp.try('SELECT apikey_check_level(repeat(''x'', 16), ''standard'')');
END $$;
BEGIN;
SELECT pg_temp.replace('CREATE VIEW apikeys_private.apikey_legacy AS SELECT * FROM apikeys_private.altered_legacy');
ROLLBACK;
BEGIN;
SELECT pg_temp.replace('CREATE TABLE apikeys_private.apikey_legacy AS SELECT org_id, key_id, digest FROM apikeys_private.altered_legacy');
ROLLBACK;
BEGIN;
ALTER TABLE apikeys_private.apikey_key ADD COLUMN altered_note text;
SELECT pg_temp.say(:'admin');
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');

SELECT apikey_remove_org('altered');
