-- Attacks 4 to 6: seeing keys that are not one's own, by whatever reads rows
-- before policies have spoken, by what errors, plans and counts tell, and by
-- changing the principal or the role half way. And nobody reads a digest.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_seeing_user;		-- no principal
CREATE ROLE regress_seeing_bob;		-- a member
CREATE ROLE regress_seeing_mal;		-- an admin of another organization
CREATE ROLE regress_seeing_both;		-- may be either of them
CREATE ROLE regress_seeing_app;		-- the application
GRANT regress_seeing_bob, regress_seeing_mal TO regress_seeing_both;
CREATE SCHEMA security_seeing;
GRANT USAGE, CREATE ON SCHEMA security_seeing TO PUBLIC;
SELECT apikey_grant_application('regress_seeing_app');
SELECT apikey_save_org('security_seeing_a', 'A', 'enterprise');
SELECT apikey_save_member('security_seeing_a', 'ann', 'ann@example.com', 'admin');
SELECT apikey_save_member('security_seeing_a', 'bob', 'bob@example.com', 'standard', 'regress_seeing_bob');
SELECT apikey_save_member('security_seeing_a', 'eve', 'eve@example.com');
SELECT apikey_save_org('security_seeing_b', 'B', 'enterprise');
SELECT apikey_save_member('security_seeing_b', 'mal', 'mal@example.com', 'admin', 'regress_seeing_mal');
SELECT apikey_save_member('security_seeing_b', 'bob', 'bob2@example.com');
-- values of each, for later
BEGIN;
SELECT apikey_act_as('security_seeing_a', 'ann');
SELECT apikey_create('board', 'admin') AS ann \gset
SELECT apikey_act_as('security_seeing_a', 'bob');
SELECT apikey_create('1') AS bob \gset
SELECT apikey_act_as('security_seeing_a', 'eve');
SELECT apikey_create('secret plan') AS eve \gset
SELECT apikey_act_as('security_seeing_b', 'mal');
SELECT apikey_create('mals', 'admin') AS mal \gset
SELECT apikey_act_as('security_seeing_b', 'bob');
SELECT apikey_create('other bob') AS bob2 \gset
COMMIT;
SELECT apikey_import_legacy('security_seeing_a', 'security_seeing legacy key');
-- enough rows for the planner to tell one value from another
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email)
SELECT 'security_seeing_b', 'user' || i, 'user' || i || '@example.com' FROM generate_series(100, 400) i;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
SELECT 'security_seeing_b', 'user' || i, 'common', 'standard', sha256(i::text::bytea) FROM generate_series(100, 400) i;
ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_member, apikeys_private.apikey_legacy;

-- attack 4: a cheap function, operator or cast that tells what it is given,
-- in every clause
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN IF $1 IS NOT NULL THEN RAISE NOTICE 'leaked %', $1; END IF; RETURN true; END $$;
CREATE FUNCTION pg_temp.leak2(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN IF $1 IS NOT NULL THEN RAISE NOTICE 'leaked %', $1; END IF; RETURN true; END $$;
CREATE OPERATOR pg_temp.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.leak2,
	RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
-- The tables cannot be named. What follows holds also where a DBA let them be.
SET ROLE regress_seeing_bob;
SELECT count(*) FROM apikeys_private.apikey_key WHERE pg_temp.leak(name);
SELECT 'apikeys_private.apikey_member'::regclass;
COPY apikeys_private.apikey_legacy (org_id) TO STDOUT;
CREATE TABLE security_seeing.fk (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org);
CREATE RULE security_seeing AS ON INSERT TO apikeys_private.apikey_key DO INSTEAD NOTHING;
PREPARE names AS SELECT name FROM apikeys_private.apikey_key;
RESET ROLE;
GRANT USAGE ON SCHEMA apikeys_private TO regress_seeing_user, regress_seeing_bob,
	regress_seeing_mal, regress_seeing_both, regress_seeing_app;
SET ROLE regress_seeing_user;
SET client_min_messages = notice;
SELECT count(*) FROM apikeys_private.apikey_key WHERE pg_temp.leak(name);
SELECT count(*) FROM apikeys_private.apikey_member WHERE pg_temp.leak(email);
SELECT count(*) FROM apikeys_private.apikey_legacy WHERE pg_temp.leak(org_id);
SELECT count(*) FROM apikeys WHERE pg_temp.leak(name);
SELECT count(*) FROM apikeys_mine WHERE pg_temp.leak(name);
SELECT count(*) FROM apikeys_legacy WHERE pg_temp.leak(org_id);
SELECT count(*) FROM apikeys a JOIN apikeys_private.apikey_member m ON pg_temp.leak(m.email) AND pg_temp.leak(a.suffix);
SELECT count(*) FROM apikeys_private.apikey_member WHERE email OPERATOR(pg_temp.<<<) 'x';
SELECT count(*) FROM apikeys WHERE owner_email OPERATOR(pg_temp.<<<) 'x';
SELECT count(*) FROM apikeys_private.apikey_key TABLESAMPLE bernoulli (100) WHERE pg_temp.leak(name);
SELECT count(*) FILTER (WHERE pg_temp.leak(name)) FROM apikeys_private.apikey_key;
SELECT name, rank() OVER (ORDER BY pg_temp.leak(name)) FROM apikeys_private.apikey_key GROUP BY name HAVING pg_temp.leak(name);
SET enable_seqscan = off;
SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'security_seeing_b' AND name = 'common' AND pg_temp.leak(owner_id);
RESET enable_seqscan;
-- a member leaks itself, and nobody else
SET ROLE regress_seeing_bob;
SELECT count(*) FROM apikeys_private.apikey_key WHERE pg_temp.leak(name);
SELECT count(*) FROM apikeys_private.apikey_member WHERE pg_temp.leak(email);
SELECT count(*) FROM apikeys WHERE pg_temp.leak(name) AND owner_email OPERATOR(pg_temp.<<<) 'x';
SELECT count(*) FROM apikeys_legacy WHERE pg_temp.leak(org_id);
-- a cast that fails for every name but its own
SELECT count(*) FROM apikeys_private.apikey_key WHERE name::int = 1;
SELECT count(*) FROM apikeys WHERE 1 / (length(name) % 2) = 1;
SET client_min_messages = warning;

-- attack 4: estimates are the same for what there is and what there is not
CREATE FUNCTION pg_temp.plan(query text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	told text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || replace(query, '?', quote_literal(value)) LOOP
		told := told || regexp_replace(line, '''[^'']*''', '?', 'g') || E'\n';
	END LOOP;
	RETURN told;
END $$;
CREATE FUNCTION pg_temp.tells(query text, one text, other text) RETURNS boolean LANGUAGE sql
RETURN pg_temp.plan(query, one) <> pg_temp.plan(query, other);
-- From 18 on ANALYZE counts buffers as well, which are not the same from one run
-- to the next.
SELECT '(ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' AS explain_run \gset
GRANT EXECUTE ON FUNCTION pg_temp.tells(text, text, text) TO PUBLIC;
SELECT query, pg_temp.tells(query, one, other) FROM (VALUES
	('SELECT org_id FROM apikeys_private.apikey_key WHERE org_id = ?', 'security_seeing_b', 'security_seeing_x'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE owner_id < ?', 'user1', 'user4'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE name = ?', 'common', 'secret'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE suffix < ?', '1111111', 'ZZZZZZZ'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE level = ?', 'standard', 'admin'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE created_at < ?', '2020-01-01', '9999-01-01'),
	('SELECT org_id FROM apikeys_private.apikey_key WHERE expires_at < ?', '2020-01-01', '9999-01-01'),
	('SELECT org_id FROM apikeys_private.apikey_legacy WHERE org_id = ?', 'security_seeing_a', 'security_seeing_x'),
	('SELECT org_id FROM apikeys_private.apikey_member WHERE org_id = ?', 'security_seeing_b', 'security_seeing_x'),
	('SELECT org_id FROM apikeys_private.apikey_member WHERE email < ?', 'user100', 'user400'),
	('SELECT org_id FROM apikeys_private.apikey_member WHERE user_id = ?', 'user100', 'nobody'),
	('SELECT org_id FROM apikeys WHERE org_id = ?', 'security_seeing_b', 'security_seeing_x'),
	('SELECT org_id FROM apikeys WHERE owner_email < ?', 'user100', 'user400'),
	('SELECT org_id FROM apikeys WHERE name = ?', 'common', 'secret')) AS t (query, one, other);
-- that this would see a difference
RESET ROLE;
SELECT pg_temp.tells('SELECT 1 FROM pg_class WHERE relname < ?', 'a', 'z');
-- nor does running it, where an organization is named that is not one's own
SET ROLE regress_seeing_bob;
SELECT pg_temp.tells(:'explain_run' || 'SELECT name FROM ' || view || ' WHERE org_id = ?',
		'security_seeing_b', 'security_seeing_x')
FROM unnest('{apikeys_private.apikey_key,apikeys,apikeys_mine,apikeys_legacy}'::text[]) view;
-- that this would see a difference, too
RESET ROLE;
SELECT pg_temp.tells(:'explain_run' || 'SELECT FROM pg_class WHERE relname = ?', 'pg_class', 'no_class');
SET ROLE regress_seeing_bob;
-- statistics
SELECT count(*) FROM pg_stats WHERE tablename LIKE 'apikey%';

-- attack 4: COPY, row_security = off, system columns, whole rows
\set VERBOSITY terse
COPY apikeys_private.apikey_key TO STDOUT;
COPY apikeys_private.apikey_key (digest) TO STDOUT;
COPY apikeys_private.apikey_key (name, level) TO STDOUT;
COPY (SELECT name FROM apikeys) TO STDOUT;
SET row_security = off;
SELECT name FROM apikeys_private.apikey_key;
SELECT name FROM apikeys;
SELECT email FROM apikeys_private.apikey_member;
COPY apikeys_private.apikey_key (name) TO STDOUT;
RESET row_security;
SELECT ctid FROM apikeys_private.apikey_key;
SELECT xmin FROM apikeys_private.apikey_key;
SELECT tableoid FROM apikeys_private.apikey_key;
SELECT k FROM apikeys_private.apikey_key k;
SELECT k IS NULL FROM apikeys_private.apikey_key k;
SELECT to_json(m) FROM apikeys_private.apikey_member m;
SELECT plan FROM apikeys_private.apikey_org;
SELECT capability FROM apikeys_private.apikey_capability;
SELECT key_id FROM apikeys_private.apikey_usage;
SELECT role FROM apikeys_private.apikey_member;
SELECT db_role FROM apikeys_private.apikey_member;
SELECT last_value FROM apikeys_private.apikey_key_id_seq;
SELECT apikey_create('counted') IS NOT NULL;
SELECT lastval();
SELECT currval('apikeys_private.apikey_key_id_seq');
SELECT nextval('apikeys_private.apikey_key_id_seq');
SELECT setval('apikeys_private.apikey_key_id_seq', 1);
SELECT apikey_delete(suffix) FROM apikeys_mine WHERE name = 'counted';

-- attack 6: a constraint that the DBA added shows nobody the row that violates it,
-- nor the row that it collides with
RESET ROLE;
\set VERBOSITY default
\set SHOW_CONTEXT never
ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT security_seeing_check CHECK (name <> 'violation');
SET ROLE regress_seeing_bob;
SELECT apikey_create('violation');
SELECT apikey_update(suffix, name => 'violation') FROM apikeys_mine LIMIT 1;
RESET ROLE;
ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT security_seeing_check;
-- nor one that excludes, or wants something
ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT security_seeing_excl
	EXCLUDE USING hash (name WITH =) WHERE (name <> 'common');
SET ROLE regress_seeing_bob;
SELECT apikey_create('board');
SELECT apikey_update(suffix, name => 'board') FROM apikeys_mine LIMIT 1;
RESET ROLE;
ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT security_seeing_excl;
ALTER TABLE apikeys_private.apikey_key ADD COLUMN security_seeing_note text DEFAULT '' NOT NULL;
ALTER TABLE apikeys_private.apikey_key ALTER COLUMN security_seeing_note DROP DEFAULT;
SET ROLE regress_seeing_bob;
SELECT apikey_create('violation');
RESET ROLE;
ALTER TABLE apikeys_private.apikey_key DROP COLUMN security_seeing_note;
\set VERBOSITY terse
SET ROLE regress_seeing_bob;

-- attack 4: objects of one's own that look at the tables
CREATE TABLE security_seeing.fk (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org);
CREATE TABLE security_seeing.fk (org_id text COLLATE "C", user_id text COLLATE "C", FOREIGN KEY (org_id, user_id) REFERENCES apikeys_private.apikey_member);
CREATE TABLE security_seeing.child () INHERITS (apikeys_private.apikey_key);
CREATE INDEX ON apikeys_private.apikey_key (pg_temp.leak(name));
CREATE STATISTICS pg_temp.security_seeing ON org_id, name FROM apikeys_private.apikey_key;
CREATE POLICY security_seeing ON apikeys_private.apikey_key USING (true);
CREATE TRIGGER security_seeing BEFORE DELETE ON apikeys_private.apikey_key FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE RULE security_seeing AS ON SELECT TO apikeys_private.apikey_key DO INSTEAD SELECT 1;
ALTER TABLE apikeys_private.apikey_key DISABLE ROW LEVEL SECURITY;
-- words differ between PostgreSQL's versions
\set VERBOSITY sqlstate
REINDEX TABLE apikeys_private.apikey_key;
CLUSTER apikeys_private.apikey_key USING apikey_key_pkey;
\set VERBOSITY terse
RESET ROLE;

-- attack 4: a plan prepared by somebody else
SET plan_cache_mode = force_generic_plan;
PREPARE names AS SELECT name FROM apikeys WHERE kind = 'user' AND name <> 'common' ORDER BY 1;
PREPARE members AS SELECT email FROM apikeys_private.apikey_member WHERE email LIKE '___@%' ORDER BY 1;
EXECUTE names;
SET ROLE regress_seeing_bob;
EXECUTE names;
EXECUTE members;
SET ROLE regress_seeing_mal;
EXECUTE names;
SET ROLE regress_seeing_user;
EXECUTE names;
EXECUTE members;
SET ROLE regress_seeing_app;
BEGIN; SELECT apikey_act_as('security_seeing_a', 'ann'); EXECUTE names; COMMIT;
BEGIN; SELECT apikey_act_as('security_seeing_a', 'eve'); EXECUTE names; EXECUTE members; COMMIT;
EXECUTE names;
RESET ROLE;
DEALLOCATE ALL;
RESET plan_cache_mode;

-- attack 4: a view over ours that belongs to somebody else, by whom it is read
-- decides
CREATE VIEW security_seeing.of_superuser AS SELECT name FROM apikeys;
SET ROLE regress_seeing_mal;
CREATE VIEW security_seeing.of_mal AS SELECT name FROM apikeys_private.apikey_key;
GRANT SELECT ON security_seeing.of_mal TO PUBLIC;
RESET ROLE;
GRANT SELECT ON security_seeing.of_superuser TO PUBLIC;
SET ROLE regress_seeing_bob;
SELECT * FROM security_seeing.of_superuser;
SELECT * FROM security_seeing.of_mal;
SET ROLE regress_seeing_user;
SELECT * FROM security_seeing.of_superuser;
SELECT * FROM security_seeing.of_mal;
RESET ROLE;

-- attack 4: the principal, or the role, changes in the middle. A cursor that
-- has not begun sees what the principal of its beginning may see.
SET ROLE regress_seeing_app;
BEGIN;
SELECT apikey_act_as('security_seeing_a', 'ann');
DECLARE c CURSOR FOR SELECT name FROM apikeys ORDER BY name;
RESET apikeys.principal;
FETCH ALL FROM c;
COMMIT;
-- One that is held has been read to its end at commit. PostgreSQL keeps the
-- rows for the session; DISCARD ALL, as poolers send it, drops them.
BEGIN;
SELECT apikey_act_as('security_seeing_a', 'bob');
DECLARE c CURSOR WITH HOLD FOR SELECT name FROM apikeys ORDER BY name;
COMMIT;
FETCH ALL FROM c;
RESET ROLE;
DISCARD ALL;
FETCH ALL FROM c;
SET client_min_messages = warning;
-- Who may be bob of one organization, and the admin of the other, must not be
-- the admin of the first, or another organization's bob, by being one of them
-- while a policy asks for the organization and the other while it asks what
-- that may see. The first row makes it ask one question, the second the other.
SET SESSION AUTHORIZATION regress_seeing_both;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_memoize = off;
SELECT n.name, k.org_id, k.owner_id
FROM (SELECT name, set_config('role', role, true)
	FROM (VALUES ('regress_seeing_bob', 'nothing'), ('regress_seeing_mal', 'secret plan')) AS n (role, name)
	OFFSET 0) AS n
	LEFT JOIN apikeys_private.apikey_key k ON k.name = n.name;
SELECT n.name, k.org_id, k.owner_id
FROM (SELECT name, set_config('role', role, true)
	FROM (VALUES ('regress_seeing_mal', 'nothing'), ('regress_seeing_bob', 'other bob')) AS n (role, name)
	OFFSET 0) AS n
	LEFT JOIN apikeys_private.apikey_key k ON k.name = n.name;
SELECT n.email, k.org_id, k.user_id
FROM (SELECT email, set_config('role', role, true)
	FROM (VALUES ('regress_seeing_bob', 'nothing'), ('regress_seeing_mal', 'eve@example.com')) AS n (role, email)
	OFFSET 0) AS n
	LEFT JOIN apikeys_private.apikey_member k ON k.email = n.email;
RESET SESSION AUTHORIZATION;
RESET enable_seqscan;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
RESET enable_memoize;

-- attack 5: members and admins of others list, change, delete; what there is
-- and what there is not look the same
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE query;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' ', state, message, detail, hint);
END $$;
CREATE TABLE security_seeing.suffix AS
SELECT 'of another organization' AS whose, apikey_suffix(:'mal') AS suffix
UNION ALL SELECT 'of a colleague', apikey_suffix(:'eve')
UNION ALL SELECT 'of nobody', '0000000'
UNION ALL SELECT 'whatever', '%'
UNION ALL SELECT 'too long', repeat('x', 100000);
GRANT SELECT ON security_seeing.suffix TO PUBLIC;
SET ROLE regress_seeing_bob;
SELECT call, pg_temp.outcome(format(call, suffix)) AS outcome, string_agg(whose, ', ' ORDER BY whose)
FROM unnest(ARRAY[
		'SELECT apikey_update(%L, name => ''x'')',
		'SELECT apikey_update(%L, level => ''admin'')',
		'SELECT apikey_rotate(%L)',
		'SELECT apikey_delete(%L)']) call,
	security_seeing.suffix
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT pg_temp.outcome('SELECT apikey_delete_all(''eve'')') = pg_temp.outcome('SELECT apikey_delete_all(''nobody'')') AS same;
SELECT org_id, owner_id, owner_email, name FROM apikeys;
SET ROLE regress_seeing_mal;
SELECT call, pg_temp.outcome(format(call, suffix)) AS outcome, string_agg(whose, ', ' ORDER BY whose)
FROM unnest(ARRAY[
		'SELECT apikey_update(%L, name => ''x'')',
		'SELECT apikey_rotate(%L)',
		'SELECT apikey_delete(%L)']) call,
	security_seeing.suffix
WHERE whose <> 'of another organization'
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT pg_temp.outcome('SELECT apikey_delete_all(''eve'')') = pg_temp.outcome('SELECT apikey_delete_all(''nobody'')') AS same;
SELECT pg_temp.outcome('SELECT apikey_delete_legacy()');
SELECT DISTINCT org_id FROM apikeys;
SELECT count(*) FROM apikeys_private.apikey_member WHERE org_id <> 'security_seeing_b';
SET ROLE regress_seeing_user;
SELECT count(*) FROM apikeys;
SELECT DISTINCT pg_temp.outcome(format(call, suffix))
FROM unnest(ARRAY[
		'SELECT apikey_update(%L, name => ''x'')',
		'SELECT apikey_rotate(%L)',
		'SELECT apikey_delete(%L)',
		'SELECT apikey_delete_all(%L)',
		'SELECT apikey_create(%L)',
		'SELECT apikey_delete_legacy()']) call,
	security_seeing.suffix;
RESET ROLE;
-- all are as they were
SELECT apikey_check_level(:'ann', 'admin') AND apikey_check_level(:'bob', 'standard')
	AND apikey_check_level(:'eve', 'standard') AND apikey_check_level(:'mal', 'admin')
	AND apikey_check_level('security_seeing legacy key', 'admin') AS alive;

-- attack 5, sibling: a DBA granted DML on the tables; constraints and triggers
-- answer no question about others
BEGIN;
GRANT ALL ON apikeys_private.apikey_org, apikeys_private.apikey_member, apikeys_private.apikey_key, apikeys_private.apikey_legacy TO regress_seeing_bob;
GRANT USAGE ON SEQUENCE apikeys_private.apikey_key_id_seq TO regress_seeing_bob;
SET LOCAL ROLE regress_seeing_bob;
SELECT what, pg_temp.outcome(format('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (%L, %L, %L, %L, %L)',
		org_id, owner_id, 'x', level, digest)) AS outcome
FROM (VALUES ('may', 'security_seeing_a', 'eve', 'standard', sha256('x')),
	('of itself', 'security_seeing_a', 'bob', 'standard', sha256('x')),
	('level too high', 'security_seeing_a', 'eve', 'admin', sha256('x')),
	('no such member', 'security_seeing_b', 'nobody', 'standard', sha256('x')),
	('no such organization', 'security_seeing_x', 'nobody', 'admin', sha256('x')),
	('digest in use', 'security_seeing_b', 'mal', 'admin', sha256('100'))) AS t (what, org_id, owner_id, level, digest);
SELECT what, pg_temp.outcome(format('INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES (%L, %L, %L, %L)',
		org_id, user_id, 'x', role)) AS outcome
FROM (VALUES ('may', 'security_seeing_b', 'new', 'standard'),
	('is there', 'security_seeing_b', 'mal', 'standard'),
	('architect', 'security_seeing_b', 'new', 'architect'),
	('no such organization', 'security_seeing_x', 'new', 'standard'),
	('architect of none', 'security_seeing_x', 'new', 'architect')) AS t (what, org_id, user_id, role);
SELECT what, pg_temp.outcome(format('INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES (%L, %L)', org_id, 'x')) AS outcome
FROM (VALUES ('may', 'security_seeing_x'), ('is there', 'security_seeing_b')) AS t (what, org_id);
SELECT pg_temp.outcome('INSERT INTO apikeys_private.apikey_legacy (org_id, digest) VALUES (''security_seeing_b'', sha256(''x''))');
SELECT pg_temp.outcome('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''security_seeing_b'', ''mal'', ''x'', ''admin'', sha256(''100'')) ON CONFLICT DO NOTHING');
ROLLBACK;

-- attack 6: nobody reads a digest: not in a list, a condition, an order, a
-- row, an error, a setting
SET ROLE regress_seeing_mal;
SELECT digest FROM apikeys_private.apikey_key;
SELECT key_id FROM apikeys_private.apikey_key;
SELECT digest FROM apikeys_private.apikey_legacy;
SELECT count(*) FROM apikeys_private.apikey_key WHERE digest = sha256('x');
SELECT name FROM apikeys_private.apikey_key ORDER BY digest;
SELECT k.* FROM apikeys_private.apikey_key k;
SELECT row_to_json(k) FROM apikeys_private.apikey_key k;
SELECT (k).digest FROM apikeys_private.apikey_key k;
SELECT json_agg(l) FROM apikeys_private.apikey_legacy l;
TABLE apikeys_private.apikey_key;
SELECT count(*) FROM apikeys_private.apikey_key k JOIN apikeys_private.apikey_legacy l USING (digest);
UPDATE apikeys_private.apikey_key SET name = 'x' RETURNING digest;
DELETE FROM apikeys_private.apikey_key RETURNING digest;
RESET ROLE;
SELECT attrelid::regclass, attname FROM pg_attribute
WHERE attrelid IN ('apikeys'::regclass, 'apikeys_mine'::regclass, 'apikeys_legacy'::regclass)
	AND (attname ~ 'digest|key_id' OR atttypid = 'bytea'::regtype);
SET ROLE regress_seeing_app;
BEGIN;
SELECT suffix = apikey_suffix(:'mal') FROM apikey_authenticate(:'mal');
SHOW apikeys.principal;
SELECT current_setting('apikeys.principal');
SELECT setting, boot_val, reset_val FROM pg_settings WHERE name = 'apikeys.principal';
SELECT count(*) FROM pg_settings WHERE concat(setting, reset_val) LIKE '%' || encode(sha256(split_part(:'mal', '/', 1)::bytea), 'hex') || '%';
COMMIT;
RESET ROLE;
-- where a DBA granted it, of one's own keys only
BEGIN;
GRANT SELECT ON apikeys_private.apikey_key TO regress_seeing_bob;
SET LOCAL ROLE regress_seeing_bob;
SELECT digest = sha256(split_part(:'bob', '/', 1)::bytea) AS mine FROM apikeys_private.apikey_key;
ROLLBACK;

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'security_seeing%';
DROP SCHEMA security_seeing CASCADE;
DROP OWNED BY regress_seeing_app, regress_seeing_both, regress_seeing_bob, regress_seeing_mal, regress_seeing_user;
DROP ROLE regress_seeing_both, regress_seeing_bob, regress_seeing_mal, regress_seeing_user, regress_seeing_app;
