-- Attacks 19 to 21, as far as one session can make them: what is deleted,
-- lowered, expired or removed is so for the next verification, in the same
-- transaction, statement and savepoint, at every isolation level, whether or not
-- the session knew the key; and roles without rights lock nothing. What takes
-- two sessions is in the isolation tests.
SET client_min_messages = warning;
\set VERBOSITY terse
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
SET apikeys.session_principal = on;	-- so that a principal can last
CREATE ROLE regress_now_app;
CREATE ROLE regress_now_bob;
CREATE ROLE regress_now_user;
SELECT apikey_grant_application('regress_now_app');
SELECT apikey_save_org('security_now', 'Now', 'enterprise');
SELECT apikey_save_member('security_now', 'ann', 'ann@example.com', 'admin');
SELECT apikey_act_as('security_now', 'ann', session => true);
SELECT apikey_save_member('security_now', 'bob', 'bob@example.com', 'standard', 'regress_now_bob');
CREATE TABLE security_now_value (label text, value text);
GRANT SELECT, INSERT ON security_now_value TO regress_now_app;
SET ROLE regress_now_app;
INSERT INTO security_now_value SELECT 'key' || i, apikey_create('key' || i, 'admin') FROM generate_series(1, 9) i;
RESET ROLE;
SELECT apikey_import_legacy('security_now', 'security_now legacy key');
INSERT INTO security_now_value VALUES ('legacy', 'security_now legacy key');
CREATE FUNCTION security_now_value(l text) RETURNS text STABLE LANGUAGE sql
RETURN (SELECT value FROM security_now_value WHERE label = l);
-- how every function answers
CREATE FUNCTION security_now_verdict(l text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v text := security_now_value(l);
BEGIN
	RETURN concat_ws(' ', apikey_check_level(v, 'admin'), apikey_check_level(v, 'standard'), (SELECT count(*) FROM apikey_verify(v)),
		apikey_me(v)::jsonb ->> 'role', (SELECT status FROM apikey_inspect(v)));
END $$;
SET ROLE regress_now_app;
-- learnt by heart
SELECT DISTINCT security_now_verdict(label) FROM security_now_value;

-- attack 19: in the same transaction, and after a savepoint rolled back, at
-- each isolation level
CREATE FUNCTION pg_temp.try(change text) RETURNS TABLE (before text, changed text, rolled_back text, again text) LANGUAGE plpgsql AS $$
BEGIN
	before := security_now_verdict('key1');
	BEGIN
		EXECUTE change USING apikey_suffix(security_now_value('key1'));
		changed := security_now_verdict('key1');
		RAISE EXCEPTION division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		rolled_back := security_now_verdict('key1');
	END;
	EXECUTE change USING apikey_suffix(security_now_value('key1'));
	again := security_now_verdict('key1');
	RETURN NEXT;
END $$;
SELECT 'SELECT apikey_delete($1)' AS delete,
	'SELECT apikey_update($1, level => ''standard'')' AS lower,
	'SELECT apikey_update($1, expires_at => clock_timestamp() + ''50 milliseconds''), pg_sleep(0.06)' AS expire,
	'SELECT apikey_rotate($1), pg_sleep(0.001)' AS rotate,
	'SELECT apikey_remove_member(''security_now'', ''ann'')' AS remove,
	'SELECT apikey_remove_org(''security_now'')' AS "all" \gset
BEGIN; SELECT * FROM pg_temp.try(:'delete'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.try(:'lower'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.try(:'expire'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.try(:'rotate'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.try(:'remove'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.try(:'all'); ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM pg_temp.try(:'delete'); ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM pg_temp.try(:'lower'); ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM pg_temp.try(:'delete'); ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM pg_temp.try(:'remove'); ROLLBACK;
-- all is as it was
SELECT DISTINCT security_now_verdict(label) FROM security_now_value;

-- attack 19: within one statement, from one row to the next; and a cursor that
-- was opened before
SELECT i, CASE i WHEN 2 THEN apikey_delete(apikey_suffix(security_now_value('key2')))::text END AS deleted,
	apikey_check_level(security_now_value('key2'), 'standard')
FROM generate_series(1, 3) i;
BEGIN;
DECLARE c CURSOR FOR SELECT i, apikey_check_level(security_now_value('key3'), 'standard') FROM generate_series(1, 3) i;
FETCH c;
SELECT apikey_delete(apikey_suffix(security_now_value('key3')));
FETCH ALL FROM c;
COMMIT;
PREPARE verdict AS SELECT apikey_check_level(security_now_value('key4'), 'standard');
EXECUTE verdict;
SELECT apikey_delete(apikey_suffix(security_now_value('key4')));
EXECUTE verdict;
-- a key that deletes itself, so to say: its member's principal goes with it
RESET ROLE;
BEGIN;
SELECT apikey_act_as('security_now', 'bob', session => true);
SELECT apikey_current_user(), apikey_remove_member('security_now', 'bob'), apikey_current_user();
ROLLBACK;
-- a key that is the principal, and is deleted
BEGIN;
SELECT (apikey_authenticate(security_now_value('key5'))).org_id IS NOT NULL;
SELECT apikey_current_level();
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(security_now_value('key5'));
SELECT apikey_current_level(), apikey_current_org(), apikey_current_suffix();
ROLLBACK;

-- attack 19: by plain DML, by TRUNCATE, by a trigger's back door
BEGIN;
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(security_now_value('key6'));
SELECT security_now_verdict('key6');
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE suffix = apikey_suffix(security_now_value('key7'));
SELECT security_now_verdict('key7');
UPDATE apikeys_private.apikey_key SET expires_at = now() WHERE suffix = apikey_suffix(security_now_value('key7'));
SELECT security_now_verdict('key7');
UPDATE apikeys_private.apikey_key SET digest = sha256('x') WHERE suffix = apikey_suffix(security_now_value('key8'));
SELECT security_now_verdict('key8');
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'security_now';
SELECT security_now_verdict('legacy');
SET LOCAL session_replication_role = replica;
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(security_now_value('key5'));
SELECT security_now_verdict('key5');
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'security_now' AND user_id = 'ann';
SELECT security_now_verdict('key9');
ROLLBACK;
SELECT security_now_verdict('key9'), security_now_verdict('legacy');
BEGIN;
TRUNCATE apikeys_private.apikey_key;
SELECT security_now_verdict('key9');
ROLLBACK;
SELECT security_now_verdict('key9');

-- attack 20: creation after the removal or demotion of its member, in one
-- transaction
BEGIN;
SELECT apikey_act_as('security_now', 'bob');
SELECT apikey_remove_member('security_now', 'bob');
SAVEPOINT s;
SELECT apikey_create('late');
ROLLBACK TO s;
SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'security_now' AND owner_id = 'bob';
ROLLBACK;
BEGIN;
SELECT apikey_act_as('security_now', 'ann');
SELECT apikey_create('early', 'admin') AS early \gset
SELECT apikey_save_member('security_now', 'ann', NULL, 'standard');
SAVEPOINT s;
SELECT apikey_create('late', 'admin');
ROLLBACK TO s;
SELECT apikey_remove_member('security_now', 'ann');
SELECT apikey_check_level(:'early', 'standard');
ROLLBACK;

-- attack 21: whoever has no rights locks neither table nor row. A member, a
-- user without principal, the application; tables, views, sequence, weakest
-- and strongest lock
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	-- Minor releases before August 2025 refuse to lock rows of a view with an
	-- outer join before they check privileges.
	IF SQLSTATE = '0A000' AND query ~ '^SELECT 1 FROM apikeys\w* FOR ' THEN
		RETURN '42501';
	END IF;
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.attempts() RETURNS TABLE (outcome text, what text) LANGUAGE sql AS $$
	SELECT pg_temp.outcome(query), string_agg(query, '; ' ORDER BY query)
	FROM (SELECT format('LOCK TABLE %s IN %s MODE', t, m)
			FROM unnest('{apikeys_private.apikey_org,apikeys_private.apikey_member,apikeys_private.apikey_key,apikeys_private.apikey_legacy,apikeys_private.apikey_capability,apikeys_private.apikey_usage,apikeys,apikeys_mine,apikeys_legacy,apikey_stats}'::text[]) t,
				unnest('{ACCESS SHARE,ROW SHARE,ROW EXCLUSIVE,SHARE,ACCESS EXCLUSIVE}'::text[]) m
		UNION ALL SELECT format('SELECT 1 FROM %s FOR %s', t, m)
			FROM unnest('{apikeys_private.apikey_key,apikeys_private.apikey_member,apikeys_private.apikey_legacy,apikeys_mine}'::text[]) t,
				unnest('{KEY SHARE,UPDATE}'::text[]) m
		UNION ALL SELECT unnest('{TRUNCATE apikeys_private.apikey_key,VACUUM FULL apikeys_private.apikey_key,REINDEX TABLE apikeys_private.apikey_key,DROP TABLE apikeys_private.apikey_key,DROP EXTENSION apikeys,ALTER TABLE apikeys_private.apikey_key ADD x int,DROP INDEX apikeys_private.apikey_key_org_id_name_suffix_idx,COMMENT ON TABLE apikeys_private.apikey_key IS NULL}'::text[])) q (query)
	GROUP BY 1 $$;
SET ROLE regress_now_user;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
SET ROLE regress_now_bob;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
SET ROLE regress_now_app;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
RESET ROLE;
-- nor where a DBA let them name the tables
GRANT USAGE ON SCHEMA apikeys_private TO regress_now_user, regress_now_bob, regress_now_app;
SET ROLE regress_now_user;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
SET ROLE regress_now_bob;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
SET ROLE regress_now_app;
SELECT outcome, length(what) > 1000 AS all_of_them FROM pg_temp.attempts() WHERE outcome <> '25001';
RESET ROLE;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_now_user, regress_now_bob, regress_now_app;
SET ROLE regress_now_app;
-- what they hold after all they may do is no more than readers and writers do
BEGIN;
SELECT count(*) > 0 AS listed FROM apikeys;
SELECT apikey_create('locks') IS NOT NULL AS created;
SELECT apikey_check_level(security_now_value('key9'), 'admin');
RESET ROLE;
SELECT mode, count(*) > 0 AS held FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relname ~ '^apikey' GROUP BY 1 ORDER BY 1;
ROLLBACK;
-- and verification alone holds nothing when it is over
SET ROLE regress_now_app;
BEGIN;
SELECT apikey_check_level(value, 'admin'), (SELECT count(*) FROM apikey_verify(value)) FROM security_now_value WHERE label = 'key9';
RESET ROLE;
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relname ~ '^apikey_(key|legacy|org|member)';
ROLLBACK;
RESET ROLE;

SELECT apikey_remove_org('security_now');
DROP FUNCTION security_now_verdict(text), security_now_value(text);
DROP TABLE security_now_value;
DROP OWNED BY regress_now_app, regress_now_bob;
DROP ROLE regress_now_app, regress_now_bob, regress_now_user;
