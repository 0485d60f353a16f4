-- What errors say: of arguments their names, of a key its suffix, of a plan how to
-- come by it; and nothing of our own statements, only where the caller's went wrong.
\set SHOW_CONTEXT always
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
BEGIN;
SELECT apikey_save_org('messages', 'Messages', 'enterprise');
SELECT apikey_save_member('messages', 'ada', 'ada@example.com', 'admin');
SELECT apikey_save_member('messages', 'bob', 'bob@example.com', 'standard');
SELECT apikey_save_member('messages', 'gus', 'gus@example.com', 'guest');
SELECT apikey_save_org('messages_free', 'Messages');
SELECT apikey_save_member('messages_free', 'fay', 'fay@example.com', 'admin');
COMMIT;
SET apikeys.seal_principal = off;

-- arguments by their names
SELECT apikey_save_org(NULL, 'x');
SELECT apikey_save_org('messages_new', NULL);
SELECT apikey_save_member('messages', NULL, 'x');
SELECT apikey_save_member('messages', 'new', NULL);
SELECT apikey_remove_member('messages', NULL);
SELECT apikey_act_as(NULL, 'ada');
SELECT apikey_check_level('x', NULL);
SELECT apikey_check('x', NULL);
SELECT apikey_allows(NULL);

-- plans
SELECT apikey_save_member('messages_free', 'eve', 'eve@example.com', 'architect');
BEGIN;
SELECT apikey_act_as('messages_free', 'fay');
SELECT apikey_create('x', 'architect');
ROLLBACK;
BEGIN;
SELECT apikey_save_member('messages', 'bob', NULL, 'architect');
SELECT apikey_save_org('messages', NULL, 'free');
ROLLBACK;

-- levels, where they are the matter
BEGIN;
SELECT apikey_act_as('messages', 'bob');
SAVEPOINT s;
SELECT apikey_create('x', 'admin');
ROLLBACK TO s;
SELECT apikey_create(NULL);
ROLLBACK TO s;
SELECT apikey_create('x', NULL);
ROLLBACK TO s;
SELECT apikey_delete_legacy();
ROLLBACK TO s;
SELECT apikey_delete_all('bob');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('messages', 'gus');
SAVEPOINT s;
SELECT apikey_create('x');
ROLLBACK TO s;
SELECT apikey_delete('1234567');
ROLLBACK TO s;
SELECT apikey_rotate('1234567');
ROLLBACK;

-- keys are named by their suffix
BEGIN;
SELECT apikey_act_as('messages', 'bob');
CREATE TEMP TABLE messages_value AS SELECT apikey_create('key') AS value;
CREATE FUNCTION pg_temp.says(sql text, argument text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m text; d text; h text; c text;
BEGIN
	EXECUTE sql USING argument;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT, c = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws(' / ', SQLSTATE, m, nullif(d, ''), nullif(h, ''),
		CASE WHEN c ~ 'apikeys_private|INSERT|DELETE|UPDATE ' THEN c END);
END $$;
SELECT what, pg_temp.says(sql, argument)
FROM (VALUES ('update', 'SELECT apikey_update($1, ''x'')'), ('rotate', 'SELECT apikey_rotate($1)'),
	('delete', 'SELECT apikey_delete($1)')) AS f (what, sql),
	(SELECT unnest(ARRAY['0000000', value, lower(apikey_suffix(value)) || '', ' ' || apikey_suffix(value), '', 'ILOUILO', repeat('0', 100000)])
		FROM messages_value) AS a (argument)
-- a suffix of digits alone is the same in lower case
WHERE argument <> (SELECT apikey_suffix(value) FROM messages_value);
ROLLBACK;

-- the caller's own context, and no other
DO $$
BEGIN
	PERFORM apikey_act_as('messages', 'bob');
	PERFORM apikey_create('x', 'admin');
END $$;
DO $$
BEGIN
	PERFORM apikey_save_member('messages', 'bob', NULL, 'architect');
	PERFORM apikey_save_org('messages', NULL, 'free');
END $$;
DO $$ BEGIN PERFORM apikey_save_member('messages_none', 'bob', 'x'); END $$;
-- the context of plain DML is PostgreSQL's
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('messages', 'bob', 'x', 'admin', sha256('x'));
-- a trigger of somebody else's that fails, and a constraint that our statement violates
BEGIN;
CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'failed' USING DETAIL = 'detail', HINT = 'hint'; END $$;
CREATE TRIGGER fail BEFORE DELETE ON apikeys_private.apikey_member FOR EACH ROW EXECUTE FUNCTION pg_temp.fail();
SAVEPOINT s;
DO $$ BEGIN PERFORM apikey_remove_org('messages'); END $$;
ROLLBACK TO s;
ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT few CHECK (name <> 'y');
SELECT apikey_act_as('messages', 'bob');
SELECT apikey_create('y');
ROLLBACK;

BEGIN;
SELECT apikey_remove_org('messages'), apikey_remove_org('messages_free');
COMMIT;
