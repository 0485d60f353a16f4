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

CREATE ROLE regress_privileges_nobody;
CREATE ROLE regress_privileges_ann;
CREATE ROLE regress_privileges_app;
CREATE ROLE regress_privileges_helper;
CREATE ROLE "regress_privileges ""Odd"", PUBLIC; --";
CREATE ROLE regress_privileges_reader;
SELECT apikey_save_org('privileges', 'Privileges', 'enterprise');
SELECT apikey_save_member('privileges', 'ann', 'ann@privileges.example', 'admin', 'regress_privileges_ann');
SELECT apikey_import_legacy('privileges', 'a legacy key of privileges');
SET ROLE regress_privileges_ann;
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
	SELECT p.oid, p.oid::regprocedure::text AS function, p.proname, p.pronamespace = 'apikeys_private'::regnamespace AS private,
		format('SELECT %s(%s)', p.oid::regproc, (SELECT string_agg(format('NULL::%s', t::regtype), ', ' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n))) AS call
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
	WHERE x.extname = 'apikeys';

\pset format unaligned
\pset footer off

--
-- Functions
--

-- what only tables, policies and views use, nobody can name
SELECT r AS role, result, count(*) > 10 AS many, count(*) = (SELECT count(*) FROM functions WHERE private) AS all_of_them
FROM unnest('{regress_privileges_nobody,regress_privileges_ann,regress_privileges_app}'::name[]) AS r, functions, pg_temp.try(r, call) AS result
WHERE private GROUP BY r, result ORDER BY r;
-- and the rest of what follows holds also for whoever a DBA let name it
GRANT USAGE ON SCHEMA apikeys_private TO regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;
-- refused to a role without anything, by the catalogs and by trying
SELECT function, pg_temp.try('regress_privileges_nobody', call) AS result FROM functions
WHERE NOT has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE') ORDER BY proname COLLATE "C";
-- allowed, and no call of an allowed one ends in a lack of privilege on a
-- function or table: members need no more
SELECT function FROM functions
WHERE has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE') ORDER BY proname COLLATE "C";
SELECT function, result FROM functions, pg_temp.try('regress_privileges_nobody', call) AS result
WHERE has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE') AND result LIKE '42501: permission denied%';
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;
SELECT function, result FROM functions, pg_temp.try('regress_privileges_nobody', call) AS result
WHERE NOT private AND has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE') AND result LIKE '42501: permission denied%';

-- what the grant adds, no more and no less
SELECT apikey_grant_application('regress_privileges_app');
SELECT function FROM functions
WHERE has_function_privilege('regress_privileges_app', oid, 'EXECUTE') AND NOT has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE')
ORDER BY proname COLLATE "C";
SELECT function, result FROM functions, pg_temp.try('regress_privileges_app', call) AS result
WHERE NOT private AND has_function_privilege('regress_privileges_app', oid, 'EXECUTE') AND result LIKE '42501: permission denied%';
SELECT count(*) FILTER (WHERE has_function_privilege('regress_privileges_app', oid, 'EXECUTE WITH GRANT OPTION')) AS may_pass_on FROM functions;
-- nothing on tables; what it does there, it does through functions
SELECT count(*) AS relations, count(*) FILTER (WHERE has_table_privilege('regress_privileges_app', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) AS changeable
FROM pg_class c WHERE c.relname LIKE 'apikey%' AND c.relkind IN ('r', 'v') AND c.relnamespace IN ('public'::regnamespace, 'apikeys_private'::regnamespace);
SELECT has_schema_privilege('regress_privileges_app', 'public', 'USAGE') AS names_functions, has_schema_privilege('regress_privileges_app', 'apikeys_private', 'USAGE') AS names_tables;
SET ROLE regress_privileges_app;
BEGIN;
SELECT apikey_save_org('privileges 2', 'Privileges 2'), apikey_save_member('privileges 2', 'bob', 'bob@privileges.example');
SELECT apikey_act_as('privileges 2', 'bob');
SELECT apikey_create('bob''s') AS bob \gset
SELECT apikey_check_level(:'bob', 'standard'), (apikey_inspect(:'bob')).name, apikey_me(:'bob')::json ->> 'email' AS email;
SELECT apikey_remove_member('privileges 2', 'bob'), apikey_remove_org('privileges 2');
COMMIT;
RESET ROLE;
-- again, it is the same
SELECT apikey_grant_application('regress_privileges_app');

-- a role whose name needs care
SELECT apikey_grant_application('"regress_privileges ""Odd"", PUBLIC; --"');
SELECT count(*) FILTER (WHERE has_function_privilege('regress_privileges "Odd", PUBLIC; --', oid, 'EXECUTE') <> has_function_privilege('regress_privileges_app', oid, 'EXECUTE')) AS different,
	count(*) FILTER (WHERE has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE') <> EXISTS (SELECT FROM aclexplode((SELECT coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p WHERE p.oid = f.oid)) WHERE grantee = 0)) AS "of all"
FROM functions f;

-- nobody but the owner grants, not even who was let call it by mistake
SELECT pg_temp.try('regress_privileges_nobody', 'SELECT apikey_grant_application(''regress_privileges_nobody'')');
SELECT pg_temp.try('regress_privileges_app', 'SELECT apikey_grant_application(''regress_privileges_nobody'')');
GRANT EXECUTE ON FUNCTION apikey_grant_application TO regress_privileges_helper;
SELECT pg_temp.try('regress_privileges_helper', 'SELECT apikey_grant_application(''regress_privileges_helper'')');
SELECT count(*) FILTER (WHERE has_function_privilege('regress_privileges_helper', oid, 'EXECUTE') AND NOT has_function_privilege('regress_privileges_nobody', oid, 'EXECUTE')) AS gained
FROM functions WHERE proname <> 'apikey_grant_application';
-- members of the role have it by it; SET ROLE needs no more
GRANT regress_privileges_app TO regress_privileges_helper;
SELECT pg_temp.try('regress_privileges_helper', 'SELECT apikey_check_level(''a'', ''standard'')');

-- trigger functions serve nobody's triggers, not even of whoever could name them
GRANT USAGE ON SCHEMA apikeys_private TO regress_privileges_nobody;
CREATE TEMPORARY TABLE mine (org_id text);
GRANT ALL ON mine TO PUBLIC;
SELECT function, pg_temp.try('regress_privileges_nobody', format('CREATE TRIGGER t AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION %s', function)) AS result
FROM functions WHERE proname ~ 'guard|announce|carry' ORDER BY proname COLLATE "C";
DROP TABLE mine;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_privileges_nobody;
-- nor does anything else call them
SELECT function, pg_temp.try(current_user, 'SELECT ' || function) AS result
FROM functions WHERE proname ~ 'guard|announce|carry' ORDER BY proname COLLATE "C";

--
-- Columns
--

CREATE TEMPORARY TABLE asked (n serial, query text);
INSERT INTO asked (query) VALUES
	('SELECT digest FROM apikeys_private.apikey_key'), ('SELECT key_id FROM apikeys_private.apikey_key'), ('SELECT digest FROM apikeys_private.apikey_legacy'), ('SELECT key_id FROM apikeys_private.apikey_legacy'),
	('SELECT * FROM apikeys_private.apikey_key'), ('TABLE apikeys_private.apikey_legacy'), ('SELECT k FROM apikeys_private.apikey_key k'), ('SELECT k::text FROM apikeys_private.apikey_key k'), ('SELECT to_json(k) FROM apikeys_private.apikey_key k'),
	('SELECT count(*) FROM apikeys_private.apikey_key k WHERE k IS NOT NULL'), ('SELECT 1 FROM apikeys_private.apikey_key ORDER BY key_id'), ('SELECT 1 FROM apikeys_private.apikey_key GROUP BY digest'),
	('SELECT 1 FROM apikeys_private.apikey_key WHERE digest = sha256(''a'')'), ('SELECT 1 FROM apikeys_private.apikey_legacy WHERE key_id > 0'), ('SELECT 1 FROM apikeys_private.apikey_key JOIN apikeys_private.apikey_legacy USING (key_id)'),
	('SELECT ctid, digest FROM apikeys_private.apikey_key'), ('SELECT xmin FROM apikeys_private.apikey_key'), ('SELECT tableoid FROM apikeys_private.apikey_legacy'),
	('SELECT * FROM apikeys_private.apikey_org'), ('SELECT name FROM apikeys_private.apikey_org'), ('SELECT 1 FROM apikeys_private.apikey_org'), ('SELECT * FROM apikeys_private.apikey_capability'),
	('SELECT db_role FROM apikeys_private.apikey_member'), ('SELECT role FROM apikeys_private.apikey_member'), ('SELECT * FROM apikeys_private.apikey_member'),
	('SELECT * FROM apikeys_private.apikey_key_id_seq'), ('SELECT nextval(''apikeys_private.apikey_key_id_seq'')'), ('SELECT setval(''apikeys_private.apikey_key_id_seq'', 1)'), ('SELECT currval(''apikeys_private.apikey_key_id_seq'')'),
	('SELECT digest FROM apikeys'), ('SELECT key_id FROM apikeys'), ('SELECT apikeys.ctid FROM apikeys'), ('SELECT digest FROM apikeys_legacy');
-- the tables cannot be named
SELECT r AS role, pg_temp.try(r, query) AS result, count(*) > 20 AS many
FROM asked, unnest('{regress_privileges_nobody,regress_privileges_ann,regress_privileges_app}'::name[]) AS r
WHERE query LIKE '%apikeys\_private.%' GROUP BY 1, 2 ORDER BY 1, 2;
SET ROLE regress_privileges_ann;
COPY apikeys_private.apikey_key (name) TO STDOUT;
SELECT 'apikeys_private.apikey_key'::regclass;
RESET ROLE;
-- and where a DBA let them be named
GRANT USAGE ON SCHEMA apikeys_private TO regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;
SELECT query, string_agg(DISTINCT pg_temp.try(r, query), ' / ') AS result
FROM asked, unnest('{regress_privileges_nobody,regress_privileges_ann,regress_privileges_app}'::name[]) AS r GROUP BY n, query ORDER BY n;
SET ROLE regress_privileges_ann;
COPY apikeys_private.apikey_key TO STDOUT;
COPY apikeys_private.apikey_key (digest) TO STDOUT;
COPY (SELECT digest FROM apikeys_private.apikey_key) TO STDOUT;
RESET ROLE;
-- what is readable is readable to the principal only
SELECT r AS role, pg_temp.try(r, 'SELECT org_id, owner_id, name, level, suffix, created_at, expires_at FROM apikeys_private.apikey_key') AS keys,
	pg_temp.try(r, 'SELECT org_id, created_at FROM apikeys_private.apikey_legacy') AS legacy, pg_temp.try(r, 'SELECT org_id, user_id, email FROM apikeys_private.apikey_member') AS members,
	pg_temp.try(r, 'SELECT * FROM apikeys') AS list
FROM unnest('{regress_privileges_nobody,regress_privileges_ann}'::name[]) AS r;
SET ROLE regress_privileges_nobody;
SELECT (SELECT count(*) FROM apikeys) AS list, (SELECT count(*) FROM apikeys_mine) AS mine, (SELECT count(*) FROM apikeys_legacy) AS legacy,
	(SELECT count(org_id) FROM apikeys_private.apikey_key) AS keys, (SELECT count(org_id) FROM apikeys_private.apikey_member) AS members, (SELECT count(org_id) FROM apikeys_private.apikey_legacy) AS legacy_keys;
SET ROLE regress_privileges_app;
SELECT (SELECT count(*) FROM apikeys) AS list, (SELECT count(*) FROM apikeys_mine) AS mine, (SELECT count(*) FROM apikeys_legacy) AS legacy,
	(SELECT count(org_id) FROM apikeys_private.apikey_key) AS keys, (SELECT count(org_id) FROM apikeys_private.apikey_member) AS members, (SELECT count(org_id) FROM apikeys_private.apikey_legacy) AS legacy_keys;
RESET ROLE;
-- row-level security cannot be switched off, only fail
SET row_security = off;
SELECT pg_temp.try('regress_privileges_nobody', 'SELECT name FROM apikeys_private.apikey_key') AS keys, pg_temp.try('regress_privileges_ann', 'SELECT * FROM apikeys') AS list;
RESET row_security;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;

--
-- Statements that change or lock
--

-- Views can be named, so they are tried both ways. Minor releases of PostgreSQL
-- before August 2025 refuse to lock rows of a view with an outer join before they
-- check privileges.
CREATE TEMPORARY VIEW refused AS
SELECT t.name, s.statement, string_agg(DISTINCT pg_temp.try(r, format(s.statement, t.name)), ' / ') AS result
FROM (SELECT c.oid::regclass::text AS name, c.relkind FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
			JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND x.extname = 'apikeys'
		WHERE c.relkind IN ('r', 'v')) AS t,
	(VALUES ('DELETE FROM %s'), ('INSERT INTO %s DEFAULT VALUES'), ('TRUNCATE %s'), ('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE'), ('LOCK TABLE %s IN ROW EXCLUSIVE MODE'),
		('SELECT 1 FROM %s FOR UPDATE'), ('SELECT 1 FROM %s FOR KEY SHARE'), ('ALTER TABLE %s RENAME TO a'), ('COMMENT ON TABLE %s IS ''a'''), ('GRANT SELECT ON %s TO PUBLIC'), ('DROP TABLE %s'), ('REINDEX TABLE %s')) AS s (statement),
	unnest('{regress_privileges_nobody,regress_privileges_ann,regress_privileges_app}'::name[]) AS r
WHERE t.relkind = 'r' OR statement ~ '^(DELETE|INSERT|LOCK|SELECT)'
GROUP BY t.name, s.statement;
SELECT count(*) > 50 AS many, string_agg(DISTINCT substring(result FROM '^[^:]*: permission denied for \w+'), ', ') AS refusals
FROM refused WHERE name LIKE 'apikeys\_private.%';
SELECT * FROM refused
WHERE result !~ '^((42501: (permission denied for|must be owner of) |0A000: FOR (UPDATE|KEY SHARE) cannot be applied to the nullable side of an outer join)[^/]*( / )?)+$'
ORDER BY name COLLATE "C", statement;
GRANT USAGE ON SCHEMA apikeys_private TO regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;
SELECT count(*) > 50 AS many, string_agg(DISTINCT substring(result FROM '^[^:]*: permission denied for schema'), ', ') AS refusals
FROM refused WHERE name LIKE 'apikeys\_private.%';
SELECT * FROM refused
WHERE result !~ '^((42501: (permission denied for|must be owner of) |0A000: FOR (UPDATE|KEY SHARE) cannot be applied to the nullable side of an outer join)[^/]*( / )?)+$'
ORDER BY name COLLATE "C", statement;
SELECT statement, string_agg(DISTINCT pg_temp.try(r, statement), ' / ') AS result
FROM (VALUES ('UPDATE apikeys_private.apikey_key SET level = ''admin'''), ('UPDATE apikeys_private.apikey_key SET name = ''a'' WHERE suffix = ''1234567'''), ('UPDATE apikeys SET name = ''a'''),
		('UPDATE apikeys_private.apikey_member SET role = ''admin'''), ('UPDATE apikeys_private.apikey_org SET plan = ''enterprise'''), ('UPDATE apikeys_private.apikey_capability SET level = ''standard'''),
		('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''privileges'', ''ann'', ''a'', ''admin'', sha256(''a''))'),
		('INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role, db_role) VALUES (''privileges'', ''eve'', ''a'', ''admin'', current_user)'),
		('INSERT INTO apikeys_private.apikey_legacy (org_id, digest) VALUES (''privileges'', sha256(''a''))'), ('INSERT INTO apikeys_private.apikey_capability VALUES (''a'', ''standard'')'),
		('MERGE INTO apikeys_private.apikey_key k USING apikeys_private.apikey_member m ON false WHEN MATCHED THEN DELETE'),
		('LOCK TABLE apikeys_private.apikey_key IN ACCESS SHARE MODE'), ('LOCK TABLE apikeys IN ACCESS SHARE MODE'), ('LOCK TABLE apikeys IN SHARE ROW EXCLUSIVE MODE'),
		('CREATE POLICY a ON apikeys_private.apikey_key USING (true)'), ('DROP POLICY apikey_see ON apikeys_private.apikey_key'), ('ALTER TABLE apikeys_private.apikey_key DISABLE ROW LEVEL SECURITY'),
		('ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER apikey_guard'), ('DROP TRIGGER apikey_guard ON apikeys_private.apikey_key'), ('CREATE INDEX ON apikeys_private.apikey_key (name)'),
		('CREATE TRIGGER a AFTER DELETE ON apikeys_private.apikey_key EXECUTE FUNCTION suppress_redundant_updates_trigger()'), ('CREATE RULE a AS ON DELETE TO apikeys_private.apikey_key DO INSTEAD NOTHING'),
		('CREATE TEMPORARY TABLE a () INHERITS (apikeys_private.apikey_key)'),
		('ALTER FUNCTION apikey_check_level(text, apikey_level) OWNER TO CURRENT_USER'), ('ALTER FUNCTION apikeys_private.apikey_is_name(text) LEAKPROOF'),
		('ALTER TYPE apikey_level ADD VALUE ''root'''), ('CREATE OR REPLACE VIEW apikeys AS SELECT 1'), ('DROP EXTENSION apikeys'), ('ALTER EXTENSION apikeys UPDATE')) AS s (statement),
	unnest('{regress_privileges_nobody,regress_privileges_ann,regress_privileges_app}'::name[]) AS r
GROUP BY statement ORDER BY statement COLLATE "C";

-- a foreign key, which would lock rows and tell which exist
CREATE SCHEMA privileges AUTHORIZATION regress_privileges_nobody;
SELECT pg_temp.try('regress_privileges_nobody', 'CREATE TABLE privileges.a (org_id text REFERENCES apikeys_private.apikey_org)');
DROP SCHEMA privileges;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_privileges_nobody, regress_privileges_ann, regress_privileges_app;

--
-- A DBA who grants a column
--

-- Row-level security holds for what is granted, and the digest stays out of
-- sight of who may change the rest.
GRANT SELECT (name), UPDATE (name), DELETE ON apikeys_private.apikey_key TO regress_privileges_reader;
SELECT pg_temp.try('regress_privileges_reader', 'SELECT name FROM apikeys_private.apikey_key');
GRANT USAGE ON SCHEMA apikeys_private TO regress_privileges_reader;
SELECT pg_temp.try('regress_privileges_reader', 'SELECT name FROM apikeys_private.apikey_key'), pg_temp.try('regress_privileges_reader', 'SELECT digest FROM apikeys_private.apikey_key'),
	pg_temp.try('regress_privileges_reader', 'UPDATE apikeys_private.apikey_key SET name = ''a'' RETURNING digest'), pg_temp.try('regress_privileges_reader', 'DELETE FROM apikeys_private.apikey_key RETURNING key_id'),
	pg_temp.try('regress_privileges_reader', 'UPDATE apikeys_private.apikey_key SET level = ''admin''');
SET ROLE regress_privileges_reader;
UPDATE apikeys_private.apikey_key SET name = 'a';
DELETE FROM apikeys_private.apikey_key;
RESET ROLE;
SELECT name FROM apikeys_private.apikey_key WHERE org_id = 'privileges';
REVOKE ALL ON apikeys_private.apikey_key FROM regress_privileges_reader;
SELECT apikey_check_level(:'key', 'admin');

\pset format aligned
\pset footer on
SELECT apikey_remove_org('privileges');
DROP OWNED BY regress_privileges_app, regress_privileges_helper, regress_privileges_reader, "regress_privileges ""Odd"", PUBLIC; --";
DROP ROLE regress_privileges_nobody, regress_privileges_ann, regress_privileges_app, regress_privileges_helper, regress_privileges_reader, "regress_privileges ""Odd"", PUBLIC; --";
