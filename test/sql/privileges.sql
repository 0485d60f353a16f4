--
-- privileges
--
-- Proves who may call what and read what: everybody the functions of members,
-- the application its own after apikey_grant_application(), the owner the rest;
-- nobody a digest or key_id, and nobody a statement on a table that would change
-- or lock it. What is granted is asked of the catalogs for every function, and
-- tried.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;

CREATE ROLE privileges_nobody;
CREATE ROLE privileges_ann;
CREATE ROLE privileges_app;
CREATE ROLE privileges_helper;
CREATE ROLE "privileges ""Odd"", PUBLIC; --";
CREATE ROLE privileges_reader;
SELECT apikey_save_org('privileges', 'Privileges', 'enterprise');
SELECT apikey_save_member('privileges', 'ann', 'ann@privileges.example', 'admin', 'privileges_ann');
SELECT apikey_import_legacy('privileges', 'a legacy key of privileges');
SET ROLE privileges_ann;
SELECT apikey_create('ann''s', 'admin') AS key \gset
RESET ROLE;

-- How a statement ends that a role runs; what it did is undone.
CREATE FUNCTION pg_temp.try(role name, statement text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE statement USING args;
	RAISE EXCEPTION USING ERRCODE = '00001';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RETURN CASE SQLSTATE WHEN '00001' THEN 'ok' ELSE SQLSTATE || ': ' || message END;
END $$;

CREATE TEMPORARY VIEW functions AS
	SELECT p.oid, p.oid::regprocedure::text AS function, p.proname,
		format('SELECT %s(%s)', p.proname, (SELECT string_agg(format('NULL::%s', t::regtype), ', ' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n))) AS call
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
	WHERE x.extname = 'apikeys';

\pset format unaligned
\pset footer off

--
-- Functions
--

-- refused to a role without anything, by the catalogs and by trying
SELECT function, pg_temp.try('privileges_nobody', call) AS result FROM functions
WHERE NOT has_function_privilege('privileges_nobody', oid, 'EXECUTE') ORDER BY proname COLLATE "C";
-- allowed, and no call of an allowed one ends in a lack of privilege on a
-- function or table: members need no more
SELECT function FROM functions
WHERE has_function_privilege('privileges_nobody', oid, 'EXECUTE') ORDER BY proname COLLATE "C";
SELECT function, result FROM functions, pg_temp.try('privileges_nobody', call) AS result
WHERE has_function_privilege('privileges_nobody', oid, 'EXECUTE') AND result LIKE '42501: permission denied%';

-- what the grant adds, no more and no less
SELECT apikey_grant_application('privileges_app');
SELECT function FROM functions
WHERE has_function_privilege('privileges_app', oid, 'EXECUTE') AND NOT has_function_privilege('privileges_nobody', oid, 'EXECUTE')
ORDER BY proname COLLATE "C";
SELECT function, result FROM functions, pg_temp.try('privileges_app', call) AS result
WHERE has_function_privilege('privileges_app', oid, 'EXECUTE') AND result LIKE '42501: permission denied%';
SELECT count(*) FILTER (WHERE has_function_privilege('privileges_app', oid, 'EXECUTE WITH GRANT OPTION')) AS may_pass_on FROM functions;
-- nothing on tables; what it does there, it does through functions
SELECT count(*) AS relations, count(*) FILTER (WHERE has_table_privilege('privileges_app', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) AS changeable
FROM pg_class c WHERE c.relname LIKE 'apikey%' AND c.relkind IN ('r', 'v') AND c.relnamespace = 'public'::regnamespace;
SET ROLE privileges_app;
BEGIN;
SELECT apikey_save_org('privileges 2', 'Privileges 2'), apikey_save_member('privileges 2', 'bob', 'bob@privileges.example');
SELECT apikey_act_as('privileges 2', 'bob');
SELECT apikey_create('bob''s') AS bob \gset
SELECT apikey_check_level(:'bob', 'standard'), (apikey_inspect(:'bob')).name, apikey_me(:'bob')::json ->> 'email' AS email;
SELECT apikey_remove_member('privileges 2', 'bob'), apikey_remove_org('privileges 2');
COMMIT;
RESET ROLE;
-- again, it is the same
SELECT apikey_grant_application('privileges_app');

-- a role whose name needs care
SELECT apikey_grant_application('"privileges ""Odd"", PUBLIC; --"');
SELECT count(*) FILTER (WHERE has_function_privilege('privileges "Odd", PUBLIC; --', oid, 'EXECUTE') <> has_function_privilege('privileges_app', oid, 'EXECUTE')) AS different,
	count(*) FILTER (WHERE has_function_privilege('privileges_nobody', oid, 'EXECUTE') <> EXISTS (SELECT FROM aclexplode((SELECT proacl FROM pg_proc p WHERE p.oid = f.oid)) WHERE grantee = 0)) AS "of all"
FROM functions f;

-- nobody but the owner grants, not even who was let call it by mistake
SELECT pg_temp.try('privileges_nobody', 'SELECT apikey_grant_application(''privileges_nobody'')');
SELECT pg_temp.try('privileges_app', 'SELECT apikey_grant_application(''privileges_nobody'')');
GRANT EXECUTE ON FUNCTION apikey_grant_application TO privileges_helper;
SELECT pg_temp.try('privileges_helper', 'SELECT apikey_grant_application(''privileges_helper'')');
SELECT count(*) FILTER (WHERE has_function_privilege('privileges_helper', oid, 'EXECUTE') AND NOT has_function_privilege('privileges_nobody', oid, 'EXECUTE')) AS gained
FROM functions WHERE proname <> 'apikey_grant_application';
-- members of the role have it by it; SET ROLE needs no more
GRANT privileges_app TO privileges_helper;
SELECT pg_temp.try('privileges_helper', 'SELECT apikey_check_level(''a'', ''standard'')');

-- trigger functions serve nobody's triggers
CREATE TEMPORARY TABLE mine (org_id text);
GRANT ALL ON mine TO PUBLIC;
SELECT function, pg_temp.try('privileges_nobody', format('CREATE TRIGGER t AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION %s', function)) AS result
FROM functions WHERE proname ~ 'guard|announce|carry' ORDER BY proname COLLATE "C";
DROP TABLE mine;
-- nor does anything else call them
SELECT function, pg_temp.try(current_user, 'SELECT ' || function) AS result
FROM functions WHERE proname ~ 'guard|announce|carry' ORDER BY proname COLLATE "C";

--
-- Columns
--

CREATE TEMPORARY TABLE asked (n serial, query text);
INSERT INTO asked (query) VALUES
	('SELECT digest FROM apikey_key'), ('SELECT key_id FROM apikey_key'), ('SELECT digest FROM apikey_legacy'), ('SELECT key_id FROM apikey_legacy'),
	('SELECT * FROM apikey_key'), ('TABLE apikey_legacy'), ('SELECT k FROM apikey_key k'), ('SELECT k::text FROM apikey_key k'), ('SELECT to_json(k) FROM apikey_key k'),
	('SELECT count(*) FROM apikey_key k WHERE k IS NOT NULL'), ('SELECT 1 FROM apikey_key ORDER BY key_id'), ('SELECT 1 FROM apikey_key GROUP BY digest'),
	('SELECT 1 FROM apikey_key WHERE digest = sha256(''a'')'), ('SELECT 1 FROM apikey_legacy WHERE key_id > 0'), ('SELECT 1 FROM apikey_key JOIN apikey_legacy USING (key_id)'),
	('SELECT ctid, digest FROM apikey_key'), ('SELECT xmin FROM apikey_key'), ('SELECT tableoid FROM apikey_legacy'),
	('SELECT * FROM apikey_org'), ('SELECT name FROM apikey_org'), ('SELECT 1 FROM apikey_org'), ('SELECT * FROM apikey_capability'),
	('SELECT db_role FROM apikey_member'), ('SELECT role FROM apikey_member'), ('SELECT * FROM apikey_member'),
	('SELECT * FROM apikey_key_id_seq'), ('SELECT nextval(''apikey_key_id_seq'')'), ('SELECT setval(''apikey_key_id_seq'', 1)'), ('SELECT currval(''apikey_key_id_seq'')'),
	('SELECT digest FROM apikeys'), ('SELECT key_id FROM apikeys'), ('SELECT apikeys.ctid FROM apikeys'), ('SELECT digest FROM apikeys_legacy');
SELECT query, string_agg(DISTINCT pg_temp.try(r, query), ' / ') AS result
FROM asked, unnest('{privileges_nobody,privileges_ann,privileges_app}'::name[]) AS r GROUP BY n, query ORDER BY n;
SET ROLE privileges_ann;
COPY apikey_key TO STDOUT;
COPY apikey_key (digest) TO STDOUT;
COPY (SELECT digest FROM apikey_key) TO STDOUT;
RESET ROLE;
-- what is readable is readable to the principal only
SELECT r AS role, pg_temp.try(r, 'SELECT org_id, owner_id, name, level, suffix, created_at, expires_at FROM apikey_key') AS keys,
	pg_temp.try(r, 'SELECT org_id, created_at FROM apikey_legacy') AS legacy, pg_temp.try(r, 'SELECT org_id, user_id, email FROM apikey_member') AS members,
	pg_temp.try(r, 'SELECT * FROM apikeys') AS list
FROM unnest('{privileges_nobody,privileges_ann}'::name[]) AS r;
SET ROLE privileges_nobody;
SELECT (SELECT count(*) FROM apikeys) AS list, (SELECT count(*) FROM apikeys_mine) AS mine, (SELECT count(*) FROM apikeys_legacy) AS legacy,
	(SELECT count(org_id) FROM apikey_key) AS keys, (SELECT count(org_id) FROM apikey_member) AS members, (SELECT count(org_id) FROM apikey_legacy) AS legacy_keys;
SET ROLE privileges_app;
SELECT (SELECT count(*) FROM apikeys) AS list, (SELECT count(*) FROM apikeys_mine) AS mine, (SELECT count(*) FROM apikeys_legacy) AS legacy,
	(SELECT count(org_id) FROM apikey_key) AS keys, (SELECT count(org_id) FROM apikey_member) AS members, (SELECT count(org_id) FROM apikey_legacy) AS legacy_keys;
RESET ROLE;
-- row-level security cannot be switched off, only fail
SET row_security = off;
SELECT pg_temp.try('privileges_nobody', 'SELECT name FROM apikey_key') AS keys, pg_temp.try('privileges_ann', 'SELECT * FROM apikeys') AS list;
RESET row_security;

--
-- Statements that change or lock
--

SELECT t.name, s.statement, string_agg(DISTINCT pg_temp.try(r, format(s.statement, t.name)), ' / ') AS result
FROM (SELECT c.relname AS name, c.relkind FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
			JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND x.extname = 'apikeys'
		WHERE c.relkind IN ('r', 'v')) AS t,
	(VALUES ('DELETE FROM %I'), ('INSERT INTO %I DEFAULT VALUES'), ('TRUNCATE %I'), ('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE'), ('LOCK TABLE %I IN ROW EXCLUSIVE MODE'),
		('SELECT 1 FROM %I FOR UPDATE'), ('SELECT 1 FROM %I FOR KEY SHARE'), ('ALTER TABLE %I RENAME TO a'), ('COMMENT ON TABLE %I IS ''a'''), ('GRANT SELECT ON %I TO PUBLIC'), ('DROP TABLE %I'), ('REINDEX TABLE %I')) AS s (statement),
	unnest('{privileges_nobody,privileges_ann,privileges_app}'::name[]) AS r
WHERE t.relkind = 'r' OR statement ~ '^(DELETE|INSERT|LOCK|SELECT)'
GROUP BY t.name, s.statement
HAVING string_agg(DISTINCT pg_temp.try(r, format(s.statement, t.name)), ' / ') !~ '^(42501: (permission denied for|must be owner of) [^/]*( / )?)+$'
ORDER BY t.name COLLATE "C", s.statement;
SELECT statement, string_agg(DISTINCT pg_temp.try(r, statement), ' / ') AS result
FROM (VALUES ('UPDATE apikey_key SET level = ''admin'''), ('UPDATE apikey_key SET name = ''a'' WHERE suffix = ''1234567'''), ('UPDATE apikeys SET name = ''a'''),
		('UPDATE apikey_member SET role = ''admin'''), ('UPDATE apikey_org SET plan = ''enterprise'''), ('UPDATE apikey_capability SET level = ''standard'''),
		('INSERT INTO apikey_key (org_id, owner_id, name, level, digest) VALUES (''privileges'', ''ann'', ''a'', ''admin'', sha256(''a''))'),
		('INSERT INTO apikey_member (org_id, user_id, email, role, db_role) VALUES (''privileges'', ''eve'', ''a'', ''admin'', current_user)'),
		('INSERT INTO apikey_legacy (org_id, digest) VALUES (''privileges'', sha256(''a''))'), ('INSERT INTO apikey_capability VALUES (''a'', ''standard'')'),
		('MERGE INTO apikey_key k USING apikey_member m ON false WHEN MATCHED THEN DELETE'),
		('LOCK TABLE apikey_key IN ACCESS SHARE MODE'), ('LOCK TABLE apikeys IN ACCESS SHARE MODE'), ('LOCK TABLE apikeys IN SHARE ROW EXCLUSIVE MODE'),
		('CREATE POLICY a ON apikey_key USING (true)'), ('DROP POLICY apikey_see ON apikey_key'), ('ALTER TABLE apikey_key DISABLE ROW LEVEL SECURITY'),
		('ALTER TABLE apikey_key DISABLE TRIGGER apikey_guard'), ('DROP TRIGGER apikey_guard ON apikey_key'), ('CREATE INDEX ON apikey_key (name)'),
		('CREATE TRIGGER a AFTER DELETE ON apikey_key EXECUTE FUNCTION suppress_redundant_updates_trigger()'), ('CREATE RULE a AS ON DELETE TO apikey_key DO INSTEAD NOTHING'),
		('CREATE TEMPORARY TABLE a () INHERITS (apikey_key)'),
		('ALTER FUNCTION apikey_check_level(text, apikey_level) OWNER TO CURRENT_USER'), ('ALTER FUNCTION apikey_is_name(text) LEAKPROOF'),
		('ALTER TYPE apikey_level ADD VALUE ''root'''), ('CREATE OR REPLACE VIEW apikeys AS SELECT 1'), ('DROP EXTENSION apikeys'), ('ALTER EXTENSION apikeys UPDATE')) AS s (statement),
	unnest('{privileges_nobody,privileges_ann,privileges_app}'::name[]) AS r
GROUP BY statement ORDER BY statement COLLATE "C";

-- a foreign key, which would lock rows and tell which exist
CREATE SCHEMA privileges AUTHORIZATION privileges_nobody;
SELECT pg_temp.try('privileges_nobody', 'CREATE TABLE privileges.a (org_id text REFERENCES apikey_org)');
DROP SCHEMA privileges;

--
-- A DBA who grants a column
--

-- Row-level security holds for what is granted, and the digest stays out of
-- sight of who may change the rest.
GRANT SELECT (name), UPDATE (name), DELETE ON apikey_key TO privileges_reader;
SELECT pg_temp.try('privileges_reader', 'SELECT name FROM apikey_key'), pg_temp.try('privileges_reader', 'SELECT digest FROM apikey_key'),
	pg_temp.try('privileges_reader', 'UPDATE apikey_key SET name = ''a'' RETURNING digest'), pg_temp.try('privileges_reader', 'DELETE FROM apikey_key RETURNING key_id'),
	pg_temp.try('privileges_reader', 'UPDATE apikey_key SET level = ''admin''');
SET ROLE privileges_reader;
UPDATE apikey_key SET name = 'a';
DELETE FROM apikey_key;
RESET ROLE;
SELECT name FROM apikey_key WHERE org_id = 'privileges';
REVOKE ALL ON apikey_key FROM privileges_reader;
SELECT apikey_check_level(:'key', 'admin');

\pset format aligned
\pset footer on
SELECT apikey_remove_org('privileges');
DROP OWNED BY privileges_app, privileges_helper, privileges_reader, "privileges ""Odd"", PUBLIC; --";
DROP ROLE privileges_nobody, privileges_ann, privileges_app, privileges_helper, privileges_reader, "privileges ""Odd"", PUBLIC; --";
