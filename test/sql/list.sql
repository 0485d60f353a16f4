-- What each role sees in the three views, by act_as and by database role, and
-- that nothing gets around it: leaky functions, COPY, plans kept for another
-- principal, views of somebody else, DML that a DBA has granted on the tables.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- Runs a statement; returns how many rows it gave or changed, or the error's
-- SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n || CASE n WHEN 1 THEN ' row' ELSE ' rows' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE ROLE regress_list_app;
CREATE ROLE regress_list_ann;
CREATE ROLE regress_list_bob;
CREATE ROLE regress_list_gus;
CREATE ROLE regress_list_zoe;	-- admin of the other organization
CREATE ROLE regress_list_eve;	-- nobody's
SELECT apikey_grant_application('regress_list_app') \gset

--
-- Two organizations, in which the same user_id means another member
--
SELECT now() AS started \gset
SELECT apikey_save_org('list-one', 'One', 'enterprise'),
	apikey_save_member('list-one', 'ann', 'ann@one.example', 'admin', 'regress_list_ann'),
	apikey_save_member('list-one', 'arc', 'arc@one.example', 'architect'),
	apikey_save_member('list-one', 'bob', 'bob@one.example', 'standard', 'regress_list_bob'),
	apikey_save_member('list-one', 'gus', 'gus@one.example', 'standard', 'regress_list_gus'),
	apikey_save_member('list-one', 'new', 'new@one.example', 'standard'),
	apikey_import_legacy('list-one', 'list-legacy-of-one'),
	apikey_save_org('list-two', 'Two', 'free'),
	apikey_save_member('list-two', 'ann', 'ann@two.example', 'standard'),
	apikey_save_member('list-two', 'zoe', 'zoe@two.example', 'admin', 'regress_list_zoe'),
	apikey_import_legacy('list-two', 'list-legacy-of-two') \gset

SET SESSION AUTHORIZATION regress_list_app;
CREATE TEMP TABLE made (org text, owner text, name text, level apikey_level, value text);
INSERT INTO made VALUES
	('list-one', 'ann', 'ann1', 'admin'), ('list-one', 'arc', 'arc1', 'architect'),
	('list-one', 'bob', 'bob1', 'standard'), ('list-one', 'bob', 'bob2', 'standard'),
	('list-one', 'gus', 'gus1', 'standard'),
	('list-two', 'ann', 'ann2', 'standard'), ('list-two', 'zoe', 'zoe2', 'admin');
SET client_min_messages = error;	-- no warning that DO is no transaction block
DO $$
DECLARE
	m made;
BEGIN
	FOR m IN SELECT * FROM made LOOP
		PERFORM apikey_act_as(m.org, m.owner);
		UPDATE made SET value = apikey_create(m.name, m.level,
			CASE m.name WHEN 'bob2' THEN now() + interval '1 day' ELSE 'infinity' END)
		WHERE name = m.name;
		COMMIT;
	END LOOP;
	-- who has keys from better days
	PERFORM apikey_save_member('list-one', 'gus', NULL, 'guest');
END $$;

--
-- Who sees what. Names tell owner and organization.
--
CREATE FUNCTION pg_temp.seen() RETURNS TABLE (apikeys text, apikeys_mine text, apikeys_legacy text)
LANGUAGE sql AS $$
	SELECT (SELECT string_agg(COALESCE(name, kind || ' ' || org_id), ', ' ORDER BY kind DESC, name, org_id) FROM apikeys),
		(SELECT string_agg(COALESCE(name, kind || ' ' || org_id), ', ' ORDER BY kind DESC, name, org_id) FROM apikeys_mine),
		(SELECT string_agg(COALESCE(name, kind || ' ' || org_id), ', ' ORDER BY kind DESC, name, org_id) FROM apikeys_legacy)
$$;
CREATE TEMP TABLE seen (n int GENERATED ALWAYS AS IDENTITY, viewer text, apikeys text, apikeys_mine text, apikeys_legacy text);
DO $$
DECLARE
	org text;
	who text;
BEGIN
	FOREACH org IN ARRAY ARRAY['list-one', 'list-two'] LOOP
		FOREACH who IN ARRAY CASE org WHEN 'list-one' THEN ARRAY['ann', 'arc', 'bob', 'gus', 'new'] ELSE ARRAY['ann', 'zoe'] END LOOP
			PERFORM apikey_act_as(org, who);
			INSERT INTO seen (viewer, apikeys, apikeys_mine, apikeys_legacy)
			SELECT format('%s, %s of %s', who, apikey_current_role(), apikey_current_org()), s.* FROM pg_temp.seen() s;
			COMMIT;
		END LOOP;
	END LOOP;
	FOR who IN SELECT value FROM made WHERE name IN ('bob1', 'arc1', 'ann1') UNION ALL VALUES ('list-legacy-of-one') LOOP
		PERFORM apikey_authenticate(who);
		INSERT INTO seen (viewer, apikeys, apikeys_mine, apikeys_legacy)
		SELECT format('key of %s, %s', COALESCE(apikey_current_user(), 'before'), apikey_current_level()), s.* FROM pg_temp.seen() s;
		COMMIT;
	END LOOP;
	INSERT INTO seen (viewer, apikeys, apikeys_mine, apikeys_legacy)
	SELECT 'nobody', s.* FROM pg_temp.seen() s;
END $$;
RESET client_min_messages;
\pset null -
SELECT viewer, apikeys, apikeys_mine, apikeys_legacy FROM seen ORDER BY n;

-- All columns
BEGIN;
SELECT apikey_act_as('list-one', 'ann') \gset
SELECT kind, org_id, owner_id, owner_email, name, level, expires_at IS NULL AS for_ever,
	suffix = (SELECT apikey_suffix(value) FROM made m WHERE m.name = a.name) AS suffix,
	created_at BETWEEN :'started' AND now() AS created_now
FROM apikeys a ORDER BY kind DESC, name;
COMMIT;
BEGIN;
SELECT apikey_act_as('list-one', 'bob') \gset
SELECT kind, org_id, owner_id, owner_email, name, level, expires_at IS NULL AS for_ever,
	suffix = (SELECT apikey_suffix(value) FROM made m WHERE m.name = a.name) AS suffix
FROM apikeys_mine a ORDER BY name;
COMMIT;
SELECT c.relname, string_agg(attname, ' ' ORDER BY attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relname IN ('apikeys', 'apikeys_mine', 'apikeys_legacy') AND attnum > 0 GROUP BY 1 ORDER BY 1;

-- By database role: current_user is who counts.
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_list_ann;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET SESSION AUTHORIZATION regress_list_bob;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET SESSION AUTHORIZATION regress_list_gus;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET SESSION AUTHORIZATION regress_list_zoe;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET SESSION AUTHORIZATION regress_list_eve;
SELECT current_user, s.* FROM pg_temp.seen() s;
RESET SESSION AUTHORIZATION;
GRANT regress_list_bob, regress_list_zoe TO regress_list_eve;
SET SESSION AUTHORIZATION regress_list_eve;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET ROLE regress_list_bob;
SELECT current_user, s.* FROM pg_temp.seen() s;
SET ROLE regress_list_zoe;
SELECT current_user, s.* FROM pg_temp.seen() s;
RESET ROLE;
SELECT current_user, s.* FROM pg_temp.seen() s;
RESET SESSION AUTHORIZATION;

-- What is set explicitly comes before the database role.
GRANT regress_list_zoe TO regress_list_app;
SET SESSION AUTHORIZATION regress_list_app;
BEGIN;
SELECT apikey_act_as('list-one', 'bob') \gset
SET LOCAL ROLE regress_list_zoe;
SELECT current_user, s.* FROM pg_temp.seen() s;
COMMIT;
BEGIN;
SELECT (apikey_authenticate(value)).org_id FROM made WHERE name = 'bob1';
SET LOCAL ROLE regress_list_zoe;
SELECT current_user, s.* FROM pg_temp.seen() s;
COMMIT;
RESET SESSION AUTHORIZATION;

-- Superusers see all, as PostgreSQL has it; but none of it is their own.
SELECT count(*) FROM apikeys WHERE org_id LIKE 'list-%';
SELECT count(*) FROM apikeys_mine;

--
-- Getting around it: a function that tells what it is shown, and costs nothing
--
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'saw %', translate($1, '12', '');	-- the order of rows is nobody's promise
	RETURN true;
END $$;
SET SESSION AUTHORIZATION regress_list_bob;
SELECT name FROM apikeys WHERE kind = 'user' AND pg_temp.leak(name) ORDER BY name;
SELECT count(*) FROM apikeys WHERE pg_temp.leak(org_id);
SELECT count(*) FROM apikeys_mine WHERE pg_temp.leak(owner_id);
SELECT count(*) FROM apikeys_legacy WHERE pg_temp.leak(org_id);
-- the tables cannot be named
SELECT count(*) FROM apikeys_private.apikey_key;
COPY apikeys_private.apikey_key (owner_id) TO STDOUT;
SELECT 'apikeys_private.apikey_key'::regclass;
BEGIN;
LOCK TABLE apikeys_private.apikey_key IN ACCESS SHARE MODE;
ROLLBACK;
RESET SESSION AUTHORIZATION;
-- nor do they tell more where a DBA let bob name them
GRANT USAGE ON SCHEMA apikeys_private TO regress_list_bob;
SET SESSION AUTHORIZATION regress_list_bob;
SELECT count(*) FROM apikeys_private.apikey_key WHERE pg_temp.leak(name);
SELECT count(*) FROM apikeys_private.apikey_member WHERE pg_temp.leak(email);
SELECT count(*) FROM apikeys_private.apikey_legacy WHERE pg_temp.leak(org_id);
-- a cast and a division that would fail on a row of somebody else
SELECT count(*) FROM apikeys WHERE 1 / length(replace(name, 'ann1', '')) >= 0;
SELECT count(*) FROM apikeys WHERE CASE WHEN owner_id <> 'bob' THEN name::int = 1 ELSE true END;
-- COPY
COPY (SELECT name FROM apikeys ORDER BY name) TO STDOUT;
COPY apikeys_private.apikey_key (owner_id) TO STDOUT;
COPY apikeys_private.apikey_key TO STDOUT;
SET row_security = off;
SELECT count(*) FROM apikeys;
SELECT count(*) FROM apikeys_private.apikey_key;
RESET row_security;
-- what is not granted
SELECT digest FROM apikeys_private.apikey_key;
SELECT key_id FROM apikeys_private.apikey_key;
SELECT * FROM apikeys_private.apikey_key;
SELECT digest FROM apikeys_private.apikey_legacy;
SELECT role FROM apikeys_private.apikey_member;
SELECT * FROM apikeys_private.apikey_org;
SELECT * FROM apikeys_private.apikey_capability;
SELECT count(*) FROM apikeys_private.apikey_key_id_seq;
BEGIN;
LOCK TABLE apikeys_private.apikey_key IN ACCESS SHARE MODE;
ROLLBACK;
BEGIN;
LOCK TABLE apikeys IN ROW EXCLUSIVE MODE;
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- A plan that was made for one principal or role is another's when that runs it.
SET plan_cache_mode = force_generic_plan;
SET SESSION AUTHORIZATION regress_list_ann;
PREPARE mine AS SELECT string_agg(name, ' ' ORDER BY name) FROM apikeys;
EXECUTE mine;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_list_bob;
EXECUTE mine;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_list_app;
BEGIN;
SELECT apikey_act_as('list-two', 'zoe') \gset
EXECUTE mine;
COMMIT;
BEGIN;
SELECT apikey_act_as('list-one', 'arc') \gset
EXECUTE mine;
COMMIT;
EXECUTE mine;
RESET SESSION AUTHORIZATION;
DEALLOCATE mine;
RESET plan_cache_mode;

-- A superuser's view of our views shows everybody their own; nobody's, nothing.
CREATE VIEW list_view AS SELECT * FROM apikeys;
GRANT SELECT ON list_view TO PUBLIC;
SET SESSION AUTHORIZATION regress_list_bob;
SELECT name FROM list_view ORDER BY name;
SET SESSION AUTHORIZATION regress_list_eve;
SELECT name FROM list_view ORDER BY name;
RESET SESSION AUTHORIZATION;
DROP VIEW list_view;

--
-- Plans: the principal is asked once for each statement, and what it may see
-- is found by index.
--
SELECT apikey_save_org('list-big', 'Big'), apikey_save_member('list-big', 'max', '', 'admin') \gset
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
SELECT 'list-big', 'max', 'big' || i, 'standard', sha256(('list-big' || i)::bytea) FROM generate_series(1, 1000) i;
ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_legacy, apikeys_private.apikey_member;
-- on: the columns of conditions on an index of the tables of keys
CREATE FUNCTION pg_temp.plan(statement text, OUT asks_once boolean, OUT "on" text, OUT scans boolean)
LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || statement LOOP
		plan := plan || line || E'\n';
	END LOOP;
	asks_once := plan ~ 'InitPlan' AND
		plan !~ '(Filter|Cond|Qual): [^\n]*apikey_(visible_org|admin_org|own_seat|sees_others|current_user)\(';
	SELECT string_agg(DISTINCT c[1], ', ' ORDER BY c[1]) INTO "on"
	FROM regexp_matches(plan, 'Index (?:Only )?Scan using apikey_\w+ on apikey_(?:key|legacy)\M[^\n]*\n\s*Index Cond: ([^\n]*)', 'g') cond,
		regexp_matches(cond[1], '\m(org_id|owner_id|suffix|created_at)\M', 'g') c;
	scans := plan ~ 'Seq Scan on apikey_';
END $$;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET SESSION AUTHORIZATION regress_list_bob;
SELECT statement, p.* FROM (VALUES
	(1, 'SELECT * FROM apikeys'),
	(2, 'SELECT * FROM apikeys_mine'),
	(3, 'SELECT * FROM apikeys WHERE suffix = ''0123456'''),
	(4, 'SELECT * FROM apikeys_mine WHERE suffix = ''0123456'' AND created_at > now() AND level = ''admin'''),	-- takes in none
	(5, 'SELECT * FROM apikeys WHERE kind = ''user'' AND created_at > now() - interval ''1 microsecond'''),
	(6, 'SELECT * FROM apikeys_legacy'),
	(7, 'SELECT name FROM apikeys_private.apikey_key')	-- what bob may still name
) v (n, statement), pg_temp.plan(statement) p ORDER BY n;
RESET SESSION AUTHORIZATION;
RESET enable_bitmapscan;
RESET enable_seqscan;

--
-- DML granted by a DBA: the policies say what it reaches.
--
GRANT USAGE ON SCHEMA apikeys_private
	TO regress_list_ann, regress_list_bob, regress_list_gus, regress_list_zoe, regress_list_eve;
GRANT SELECT, INSERT, UPDATE, DELETE ON apikeys_private.apikey_key, apikeys_private.apikey_legacy, apikeys_private.apikey_member, apikeys_private.apikey_org, apikeys_private.apikey_capability
	TO regress_list_ann, regress_list_bob, regress_list_gus, regress_list_zoe, regress_list_eve;
GRANT USAGE ON apikeys_private.apikey_key_id_seq TO regress_list_ann, regress_list_bob, regress_list_gus, regress_list_zoe, regress_list_eve;
CREATE FUNCTION pg_temp.counts() RETURNS TABLE (viewer name, key bigint, legacy bigint, member bigint, org bigint, capability bigint)
LANGUAGE sql AS $$
	SELECT current_user, (SELECT count(*) FROM apikeys_private.apikey_key), (SELECT count(*) FROM apikeys_private.apikey_legacy),
		(SELECT count(*) FROM apikeys_private.apikey_member), (SELECT count(*) FROM apikeys_private.apikey_org), (SELECT count(*) FROM apikeys_private.apikey_capability)
$$;
SET SESSION AUTHORIZATION regress_list_ann;
SELECT * FROM pg_temp.counts();
SET SESSION AUTHORIZATION regress_list_bob;
SELECT * FROM pg_temp.counts();
SET SESSION AUTHORIZATION regress_list_gus;
SELECT * FROM pg_temp.counts();
SET SESSION AUTHORIZATION regress_list_zoe;
SELECT * FROM pg_temp.counts();
SET SESSION AUTHORIZATION regress_list_eve;
SELECT * FROM pg_temp.counts();

-- Each statement as a standard member, an admin, a guest, somebody else's
-- admin and nobody, and undone. Only what is bob's changes; ann's rights over
-- others go as far as deleting.
RESET SESSION AUTHORIZATION;
CREATE TEMP TABLE attempt (n int GENERATED ALWAYS AS IDENTITY, statement text);
GRANT SELECT ON attempt TO PUBLIC;
INSERT INTO attempt (statement) VALUES
	($$UPDATE apikeys_private.apikey_key SET name = 'renamed' WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET name = 'renamed'$$),
	($$UPDATE apikeys_private.apikey_key SET level = 'standard'$$),
	($$UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE owner_id = 'bob'$$),
	($$UPDATE apikeys_private.apikey_key SET expires_at = now() + interval '1 hour' WHERE owner_id = 'bob'$$),
	($$UPDATE apikeys_private.apikey_key SET digest = sha256('list') WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET created_at = '2001-01-01' WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET key_id = 1 WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET owner_id = 'ann' WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET org_id = 'list-two', owner_id = 'ann' WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET suffix = '0000000' WHERE name = 'bob1'$$),
	($$UPDATE apikeys_private.apikey_key SET name = '' WHERE name = 'bob1'$$),
	($$SELECT 1 FROM apikeys_private.apikey_key FOR UPDATE$$),
	($$DELETE FROM apikeys_private.apikey_key WHERE name = 'bob1'$$),
	($$DELETE FROM apikeys_private.apikey_key$$),
	($$DELETE FROM apikeys_private.apikey_key WHERE name = 'zoe2'$$),
	($$MERGE INTO apikeys_private.apikey_key USING (VALUES (1)) v ON name = 'bob1' WHEN MATCHED THEN UPDATE SET name = 'merged'$$),
	($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-one', 'bob', 'forged', 'standard', sha256('list'))$$),
	($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at) VALUES ('list-one', 'bob', 'forged', 'admin', sha256('list'), '2001-01-01')$$),
	($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-one', 'nemo', 'forged', 'standard', sha256('list'))$$),
	($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-two', 'ann', 'forged', 'architect', sha256('list'))$$),
	($$UPDATE apikeys_private.apikey_legacy SET digest = sha256('list')$$),
	($$DELETE FROM apikeys_private.apikey_legacy$$),
	($$INSERT INTO apikeys_private.apikey_legacy (org_id, digest) VALUES ('list-three', sha256('list'))$$),
	($$UPDATE apikeys_private.apikey_member SET role = 'admin'$$),
	($$DELETE FROM apikeys_private.apikey_member$$),
	($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('list-one', 'forged', '', 'admin')$$),
	($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('list-none', 'forged', '', 'standard')$$),
	($$UPDATE apikeys_private.apikey_org SET plan = 'enterprise'$$),
	($$DELETE FROM apikeys_private.apikey_org$$),
	($$INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES ('list-one', 'forged')$$),
	($$INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES ('list-three', 'forged')$$),
	($$DELETE FROM apikeys_private.apikey_capability$$),
	($$INSERT INTO apikeys_private.apikey_capability VALUES ('list', 'standard')$$);
CREATE TEMP TABLE outcome (n int, viewer text, result text);
GRANT INSERT ON outcome TO PUBLIC;
CREATE FUNCTION pg_temp.undone(statement text, OUT result text) LANGUAGE plpgsql AS $$
BEGIN
	result := pg_temp.try(statement);
	RAISE assert_failure;
EXCEPTION WHEN assert_failure THEN
END $$;
SET SESSION AUTHORIZATION regress_list_ann;
INSERT INTO outcome SELECT n, 'ann', pg_temp.undone(statement) FROM attempt;
SET SESSION AUTHORIZATION regress_list_bob;
INSERT INTO outcome SELECT n, 'bob', pg_temp.undone(statement) FROM attempt;
SET SESSION AUTHORIZATION regress_list_gus;
INSERT INTO outcome SELECT n, 'gus', pg_temp.undone(statement) FROM attempt;
SET SESSION AUTHORIZATION regress_list_zoe;
INSERT INTO outcome SELECT n, 'zoe', pg_temp.undone(statement) FROM attempt;
SET SESSION AUTHORIZATION regress_list_eve;
INSERT INTO outcome SELECT n, 'eve', pg_temp.undone(statement) FROM attempt;
RESET SESSION AUTHORIZATION;
SELECT statement, max(result) FILTER (WHERE viewer = 'bob') AS bob, max(result) FILTER (WHERE viewer = 'ann') AS ann,
	max(result) FILTER (WHERE viewer = 'gus') AS gus, max(result) FILTER (WHERE viewer = 'zoe') AS zoe,
	max(result) FILTER (WHERE viewer = 'eve') AS eve
FROM attempt JOIN outcome USING (n) GROUP BY n, statement ORDER BY n;

-- What the refusals say tells nothing of other members.
SET SESSION AUTHORIZATION regress_list_bob;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-two', 'ann', 'forged', 'architect', sha256('list'));
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-two', 'nemo', 'forged', 'standard', sha256('list'));
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES ('list-two', 'forged', '');
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES ('list-none', 'forged', '');
UPDATE apikeys_private.apikey_key SET owner_id = 'nemo' WHERE name = 'bob1';
UPDATE apikeys_private.apikey_key SET owner_id = 'ann' WHERE name = 'bob1';
-- The rules hold also for whom a DBA's policies let insert; they are told no
-- more than those refused, and keys are created by functions all the same.
RESET SESSION AUTHORIZATION;
CREATE POLICY list_insert ON apikeys_private.apikey_member FOR INSERT TO regress_list_eve WITH CHECK (true);
CREATE POLICY list_insert ON apikeys_private.apikey_key FOR INSERT TO regress_list_eve WITH CHECK (true);
SET SESSION AUTHORIZATION regress_list_eve;
BEGIN;
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('list-one', 'by-eve', '', 'architect'), ('list-two', 'by-eve', '', 'admin');
ROLLBACK;
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('list-two', 'by-eve', '', 'architect');
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('list-none', 'by-eve', '', 'architect');
SELECT pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES ('list-none', 'by-eve', '')$$);
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('list-one', 'ann', 'forged', 'standard', sha256('list'));
RESET SESSION AUTHORIZATION;
DROP POLICY list_insert ON apikeys_private.apikey_member;
DROP POLICY list_insert ON apikeys_private.apikey_key;
SET SESSION AUTHORIZATION regress_list_bob;
-- and what is allowed happens
UPDATE apikeys_private.apikey_key SET name = 'bob1 renamed' WHERE name = 'bob1' RETURNING name, level, owner_id;
DELETE FROM apikeys_private.apikey_key WHERE name = 'bob2' RETURNING name;
SET SESSION AUTHORIZATION regress_list_ann;
DELETE FROM apikeys_private.apikey_key WHERE owner_id = 'gus' RETURNING name;
DELETE FROM apikeys_private.apikey_legacy RETURNING org_id;
RESET SESSION AUTHORIZATION;
SELECT name FROM apikeys_private.apikey_key WHERE org_id IN ('list-one', 'list-two') ORDER BY name;
SELECT m.name, apikey_check_level(value, 'standard') FROM made m ORDER BY 1;
SELECT apikey_check_level('list-legacy-of-one', 'admin') AS one, apikey_check_level('list-legacy-of-two', 'admin') AS two;

DROP TABLE made, seen, attempt, outcome;
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'list-%' \g /dev/null
DROP OWNED BY regress_list_app, regress_list_ann, regress_list_bob, regress_list_gus, regress_list_zoe, regress_list_eve;
DROP ROLE regress_list_app, regress_list_ann, regress_list_bob, regress_list_gus, regress_list_zoe, regress_list_eve;
