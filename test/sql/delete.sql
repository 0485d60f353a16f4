-- Deleting keys: one's own, any of the organization for an admin, nobody else's
-- for others; an admin's clean-up after somebody; legacy keys; and that what is
-- deleted is dead, and nothing else is.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- Runs a statement that gives one value, and undoes it; returns "ok", the value
-- if there is one, or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE statement INTO result;
		result := COALESCE(NULLIF(result, ''), 'ok');
		RAISE assert_failure;
	EXCEPTION
		WHEN assert_failure THEN
			RETURN result;
		WHEN OTHERS THEN
			RETURN SQLSTATE;
	END;
END $$;

CREATE ROLE regress_delete_app;
SELECT apikey_grant_application('regress_delete_app') \gset
SELECT apikey_save_org('delete-one', 'One', 'enterprise'),
	apikey_save_member('delete-one', 'ann', 'ann@one.example', 'admin'),
	apikey_save_member('delete-one', 'adi', 'adi@one.example', 'admin'),
	apikey_save_member('delete-one', 'arc', 'arc@one.example', 'architect'),
	apikey_save_member('delete-one', 'bob', 'bob@one.example', 'standard'),
	apikey_save_member('delete-one', 'cay', 'cay@one.example', 'standard'),
	apikey_save_member('delete-one', 'gus', 'gus@one.example', 'standard'),
	apikey_save_member('delete-one', 'new', 'new@one.example', 'standard'),
	apikey_import_legacy('delete-one', 'delete-legacy-one/LEGACY1'),
	apikey_save_org('delete-two', 'Two', 'free'),
	apikey_save_member('delete-two', 'bob', 'bob@two.example', 'standard'),
	apikey_save_member('delete-two', 'zoe', 'zoe@two.example', 'admin'),
	apikey_import_legacy('delete-two', 'delete-legacy-two/LEGACY2') \gset

SET SESSION AUTHORIZATION regress_delete_app;
CREATE TEMP TABLE made (org text, owner text, name text, level apikey_level, value text);
INSERT INTO made VALUES
	('delete-one', 'ann', 'ann1', 'admin'), ('delete-one', 'adi', 'adi1', 'admin'),
	('delete-one', 'arc', 'arc1', 'architect'), ('delete-one', 'bob', 'bob1', 'standard'),
	('delete-one', 'bob', 'bob2', 'standard'), ('delete-one', 'cay', 'cay1', 'standard'),
	('delete-one', 'gus', 'gus1', 'standard'),
	('delete-two', 'bob', 'bob3', 'standard'), ('delete-two', 'zoe', 'zoe1', 'admin');
SET client_min_messages = error;	-- no warning that DO is no transaction block
DO $$
DECLARE
	m made;
BEGIN
	FOR m IN SELECT * FROM made LOOP
		PERFORM apikey_act_as(m.org, m.owner);
		UPDATE made SET value = apikey_create(m.name, m.level) WHERE name = m.name;
		COMMIT;
	END LOOP;
	PERFORM apikey_save_member('delete-one', 'gus', NULL, 'guest');
END $$;

--
-- Who deletes what; each cell is undone.
--
CREATE TEMP TABLE target (n int GENERATED ALWAYS AS IDENTITY, what text, statement text);
INSERT INTO target (what, statement) SELECT name, format('SELECT apikey_delete(%L)', apikey_suffix(value)) FROM made ORDER BY org, name;
INSERT INTO target (what, statement) VALUES
	('no such key', $$SELECT apikey_delete('0000000')$$),
	('empty', $$SELECT apikey_delete('')$$),
	('%', $$SELECT apikey_delete('%')$$),
	('legacy by suffix', $$SELECT apikey_delete('LEGACY1')$$),
	('value', (SELECT format('SELECT apikey_delete(%L)', value) FROM made WHERE name = 'bob1')),
	('NULL', $$SELECT apikey_delete(NULL)$$),
	('legacy', $$SELECT apikey_delete_legacy()$$),
	('all of bob', $$SELECT apikey_delete_all('bob')$$),
	('all of ann', $$SELECT apikey_delete_all('ann')$$),
	('all of gus', $$SELECT apikey_delete_all('gus')$$),
	('all of new', $$SELECT apikey_delete_all('new')$$),
	('all of zoe', $$SELECT apikey_delete_all('zoe')$$),
	('all of nemo', $$SELECT apikey_delete_all('nemo')$$),
	('all of %', $$SELECT apikey_delete_all('%')$$),
	('all of NULL', $$SELECT apikey_delete_all(NULL)$$);
CREATE TEMP TABLE outcome (n int, who text, result text);
DO $$
DECLARE
	m text[];
	k made;
BEGIN
	FOREACH m SLICE 1 IN ARRAY ARRAY[
		['delete-one', 'ann'], ['delete-one', 'arc'], ['delete-one', 'bob'], ['delete-one', 'gus'], ['delete-two', 'zoe']] LOOP
		PERFORM apikey_act_as(m[1], m[2]);
		INSERT INTO outcome SELECT n, m[2], pg_temp.try(statement) FROM target;
		COMMIT;
	END LOOP;
	FOR k IN SELECT * FROM made WHERE name IN ('ann1', 'bob1') LOOP
		PERFORM apikey_authenticate(k.value);
		INSERT INTO outcome SELECT n, 'key ' || k.name, pg_temp.try(statement) FROM target;
		COMMIT;
	END LOOP;
	PERFORM apikey_authenticate('delete-legacy-one/LEGACY1');
	INSERT INTO outcome SELECT n, 'key legacy', pg_temp.try(statement) FROM target;
	COMMIT;
	INSERT INTO outcome SELECT n, 'nobody', pg_temp.try(statement) FROM target;
END $$;
RESET client_min_messages;
SELECT what, max(result) FILTER (WHERE who = 'ann') AS "ann admin", max(result) FILTER (WHERE who = 'arc') AS "arc architect",
	max(result) FILTER (WHERE who = 'bob') AS "bob standard", max(result) FILTER (WHERE who = 'gus') AS "gus guest",
	max(result) FILTER (WHERE who = 'zoe') AS "zoe of two", max(result) FILTER (WHERE who = 'key ann1') AS "key admin",
	max(result) FILTER (WHERE who = 'key bob1') AS "key standard", max(result) FILTER (WHERE who = 'key legacy') AS "key legacy",
	max(result) FILTER (WHERE who = 'nobody') AS nobody
FROM target JOIN outcome USING (n) GROUP BY n, what ORDER BY n;
-- All of it was undone, and every key works.
SELECT count(*), bool_and(apikey_check_level(value, level)) FROM made;
SELECT apikey_check_level('delete-legacy-one/LEGACY1', 'admin'), apikey_check_level('delete-legacy-two/LEGACY2', 'admin');

-- Missing and forbidden look the same.
SELECT max(apikey_suffix(value)) FILTER (WHERE name = 'cay1') AS cay1, max(apikey_suffix(value)) FILTER (WHERE name = 'bob3') AS bob3,
	max(apikey_suffix(value)) FILTER (WHERE name = 'bob1') AS bob1, max(apikey_suffix(value)) FILTER (WHERE name = 'ann1') AS ann1
FROM made \gset
BEGIN;
SELECT apikey_act_as('delete-one', 'bob') \gset
SELECT apikey_delete(:'cay1');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('delete-one', 'bob') \gset
SELECT apikey_delete('0000000');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('delete-one', 'bob') \gset
SELECT apikey_delete_all('bob');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('delete-one', 'ann') \gset
SELECT apikey_delete_all('zoe');
ROLLBACK;

--
-- Deleting in earnest
--
CREATE FUNCTION pg_temp.alive() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(name, ' ' ORDER BY name) FROM (
		SELECT name FROM made WHERE apikey_check_level(value, 'standard')
		UNION ALL SELECT 'legacy' || i FROM unnest(ARRAY['one', 'two']) WITH ORDINALITY o (org, i)
		WHERE apikey_check_level(format('delete-legacy-%s/LEGACY%s', org, i), 'admin')) s
$$;
SELECT pg_temp.alive();
-- rolled back, then committed
BEGIN;
SELECT apikey_act_as('delete-one', 'bob') \gset
SELECT apikey_delete(:'bob1') \gset
SELECT pg_temp.alive();
ROLLBACK;
SELECT pg_temp.alive();
BEGIN;
SELECT apikey_act_as('delete-one', 'bob') \gset
SAVEPOINT s;
SELECT apikey_delete(:'bob1') \gset
ROLLBACK TO s;
SELECT pg_temp.alive();
SELECT apikey_delete(:'bob1') \gset
-- once is all
SELECT apikey_delete(:'bob1');
ROLLBACK TO s;
SELECT apikey_delete(:'bob1') \gset
COMMIT;
SELECT pg_temp.alive();
-- an admin, somebody else's, an expired one's and its own
BEGIN;
SELECT apikey_act_as('delete-one', 'ann') \gset
SELECT apikey_delete(:'cay1'), apikey_delete(:'ann1') \gset
SELECT string_agg(name, ' ' ORDER BY name) FROM apikeys;
COMMIT;
SELECT pg_temp.alive();
RESET SESSION AUTHORIZATION;
UPDATE apikeys_private.apikey_key SET expires_at = '2001-01-01' WHERE org_id = 'delete-one' AND name = 'arc1';
SET SESSION AUTHORIZATION regress_delete_app;
BEGIN;
SELECT apikey_act_as('delete-one', 'arc') \gset
SELECT apikey_delete(suffix) FROM apikeys_mine \g /dev/null
SELECT count(*) FROM apikeys_mine;
COMMIT;
-- all of somebody, here and not where that user_id is somebody else's
BEGIN;
SELECT apikey_act_as('delete-one', 'ann') \gset
SELECT apikey_delete_all('bob') AS of_bob, apikey_delete_all('gus') AS of_a_guest, apikey_delete_all('new') AS of_new;
SELECT apikey_delete_all('bob') AS again;
COMMIT;
SELECT pg_temp.alive();
BEGIN;
SELECT apikey_act_as('delete-one', 'ann') \gset
SELECT apikey_create('ann2', 'admin') IS NOT NULL AS created, apikey_create('ann3') IS NOT NULL AS created;
SELECT apikey_delete_all('ann') AS of_oneself;
COMMIT;
-- the legacy key, once
BEGIN;
SELECT apikey_act_as('delete-one', 'adi') \gset
SELECT apikey_delete_legacy() \gset
SELECT count(*) FROM apikeys_legacy;
SELECT apikey_delete_legacy();
ROLLBACK;
SELECT pg_temp.alive();
BEGIN;
SELECT apikey_act_as('delete-one', 'adi') \gset
SELECT apikey_delete_legacy() \gset
COMMIT;
SELECT pg_temp.alive();
-- What is left is what was not deleted.
RESET SESSION AUTHORIZATION;
SELECT org_id, owner_id, name FROM apikeys_private.apikey_key WHERE org_id LIKE 'delete-%' ORDER BY 1, 3;
SELECT org_id FROM apikeys_private.apikey_legacy WHERE org_id LIKE 'delete-%';
SELECT count(*) AS members FROM apikeys_private.apikey_member WHERE org_id LIKE 'delete-%';

-- By database role, without a grant of anything
CREATE ROLE regress_delete_zoe;
SELECT apikey_save_member('delete-two', 'zoe', NULL, db_role => 'regress_delete_zoe') \gset
SET SESSION AUTHORIZATION regress_delete_zoe;
SELECT apikey_delete_all('bob'), pg_temp.try($$SELECT apikey_delete_all('ann')$$);
SELECT apikey_delete_legacy() \gset
SELECT name FROM apikeys;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_delete_zoe;

DROP TABLE made, target, outcome;
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'delete-%' \g /dev/null
DROP OWNED BY regress_delete_app;
DROP ROLE regress_delete_app;
