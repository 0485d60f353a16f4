--
-- install
--
-- Proves that the extension can be installed into any schema, dropped and made
-- again, also in a session that remembers it; that it works where its schema
-- is not on the search path; and that each of its objects is what the contract
-- says: signatures, labels, grants, comments, rules. What is listed here has
-- been read against doc and contract; a difference is a change of interface.
--
-- It ends with the extension in schema public, where the other tests use it.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS apikeys, pgcrypto CASCADE;
RESET client_min_messages;

CREATE ROLE regress_install_nobody;
CREATE ROLE regress_install_app;
CREATE ROLE regress_install_admin;

-- only a superuser installs it, and pgcrypto comes with it only if asked for
SET ROLE regress_install_nobody;
CREATE EXTENSION apikeys CASCADE;
RESET ROLE;
CREATE EXTENSION apikeys;
CREATE EXTENSION apikeys CASCADE;

SELECT x.extversion = a.default_version AS newest, x.extrelocatable,
	x.extnamespace::regnamespace,
	x.extowner = current_user::regrole AS mine
FROM pg_extension x JOIN pg_available_extensions a ON a.name = x.extname
WHERE x.extname = 'apikeys';

-- neither can it be moved, nor what it needs be taken away
CREATE SCHEMA install_elsewhere;
ALTER EXTENSION apikeys SET SCHEMA install_elsewhere;
DROP EXTENSION pgcrypto;

-- running the script by hand stops at its guard
SELECT setting || '/extension/apikeys--' || extversion || '.sql' AS script
FROM pg_config(), pg_extension WHERE name = 'SHAREDIR' AND extname = 'apikeys' \gset
SELECT pg_read_file(:'script') ~ '\A(--[^\n]*\n|\n)*\\echo Use "CREATE EXTENSION apikeys[^\n]*" to load this file. \\quit\n' AS guarded;

--
-- Objects
--

-- so that an object more is a line more, not another layout
\pset format unaligned
\pset footer off


CREATE TEMPORARY VIEW members AS
	SELECT d.classid, d.objid
	FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		AND x.extname = 'apikeys';
CREATE TEMPORARY VIEW relations AS
	SELECT c.* FROM pg_class c
		JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid;
CREATE TEMPORARY VIEW functions AS
	SELECT p.* FROM pg_proc p
		JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

-- Types that PostgreSQL makes for tables and arrays are left out: whether they
-- are members differs between its versions.
SELECT pg_describe_object(m.classid, m.objid, 0) AS object
FROM members m
	LEFT JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.oid IS NULL
	OR t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c'
ORDER BY pg_describe_object(m.classid, m.objid, 0) COLLATE "C";

-- all of them in its schema or the private one, and the installer's own
SELECT count(*) FILTER (WHERE relnamespace NOT IN ('public'::regnamespace, 'apikeys_private'::regnamespace)) AS elsewhere,
	count(*) FILTER (WHERE relowner <> current_user::regrole) AS not_mine
FROM relations;
SELECT count(*) FILTER (WHERE pronamespace NOT IN ('public'::regnamespace, 'apikeys_private'::regnamespace)) AS elsewhere,
	count(*) FILTER (WHERE proowner <> current_user::regrole) AS not_mine
FROM functions;
-- which nobody but its owner may use, and which has no objects but ours
SELECT nspowner = current_user::regrole AS mine,
	(SELECT count(*) FROM aclexplode(nspacl) WHERE grantee <> nspowner) AS granted,
	(SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND relkind NOT IN ('i', 'c')
		AND c.oid NOT IN (SELECT oid FROM relations)) AS strange_relations,
	(SELECT count(*) FROM pg_proc p WHERE p.pronamespace = n.oid
		AND p.oid NOT IN (SELECT oid FROM functions)) AS strange_functions
FROM pg_namespace n WHERE nspname = 'apikeys_private';
-- All that is locked is there: a table, a sequence, or a composite type, which
-- is a relation as well. Views are outside, and only what is named with them.
SELECT string_agg(relname, ', ' ORDER BY relname COLLATE "C") AS outside
FROM relations WHERE relnamespace = 'public'::regnamespace;

-- what has no comment
SELECT pg_describe_object(classid, objid, 0) AS uncommented
FROM (
	SELECT m.classid, m.objid FROM members m
		LEFT JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
		LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.oid IS NULL
		OR t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c'
	UNION ALL
	SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t
		JOIN relations r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
	UNION ALL
	SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p
		JOIN relations r ON r.oid = p.polrelid
	UNION ALL
	SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i
		JOIN relations r ON r.oid = i.indrelid
	WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
) AS o
WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL;

SELECT t.typname, string_agg(e.enumlabel, ' < ' ORDER BY e.enumsortorder) AS labels
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
	JOIN members m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
GROUP BY t.typname ORDER BY t.typname COLLATE "C";

SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS apikey_identity
FROM pg_attribute WHERE attrelid = 'apikeys_private.apikey_identity'::regclass AND attnum > 0;

--
-- Tables
--

SELECT r.relname || '.' || a.attname AS "column",
	format_type(a.atttypid, a.atttypmod) AS type,
	CASE WHEN a.attcollation <> 0 THEN l.collname END AS collation,
	a.attnotnull AS "not null",
	CASE a.attgenerated WHEN 's' THEN 'generated: ' ELSE '' END
		|| pg_get_expr(d.adbin, d.adrelid) AS "default",
	has_column_privilege('regress_install_nobody', r.oid, a.attnum, 'SELECT') AS "all read it"
FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
	LEFT JOIN pg_collation l ON l.oid = a.attcollation
	LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind = 'r' AND a.attnum > 0
ORDER BY r.relname COLLATE "C", a.attnum;

SELECT c.conrelid::regclass AS "table", c.conname, pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid
WHERE c.contype <> 'n'
ORDER BY r.relname COLLATE "C", c.conname COLLATE "C";

SELECT pg_get_indexdef(i.indexrelid) AS index
FROM pg_index i JOIN relations r ON r.oid = i.indrelid
ORDER BY r.relname COLLATE "C", i.indexrelid::regclass::text COLLATE "C";

-- tables and the sequence are dumped, all rows of them
SELECT t.relation::regclass, t.condition
FROM pg_extension x, unnest(x.extconfig, x.extcondition) AS t (relation, condition)
WHERE x.extname = 'apikeys'
ORDER BY t.relation::regclass::text COLLATE "C";
SELECT pg_get_serial_sequence('apikeys_private.apikey_key', 'key_id');

-- Row-level security is on; nobody but the owner has a privilege on a whole
-- table or the sequence, only SELECT on the views; views act for who asks.
SELECT r.relname, r.relkind, r.relrowsecurity, r.relforcerowsecurity,
	r.reloptions,
	(SELECT string_agg(privilege_type || ' to ' || CASE grantee WHEN 0 THEN 'all' ELSE grantee::regrole::text END, ', ')
	 FROM aclexplode(r.relacl) WHERE grantee <> r.relowner) AS granted
FROM relations r WHERE r.relkind IN ('r', 'v', 'S')
ORDER BY r.relname COLLATE "C";

-- the same asked of a role without anything
SELECT r AS role, has_schema_privilege(r, 'apikeys_private', 'USAGE') AS names_tables, has_schema_privilege(r, 'apikeys_private', 'CREATE') AS adds_to_them
FROM unnest('{regress_install_nobody,regress_install_app,regress_install_admin,pg_monitor,pg_database_owner,pg_checkpoint}'::name[]) AS r;
SELECT r.relname, p AS privilege
FROM relations r, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p
WHERE r.relkind IN ('r', 'v') AND has_table_privilege('regress_install_nobody', r.oid, p)
ORDER BY r.relname COLLATE "C", p;
SELECT count(*) AS with_a_column_to_change FROM relations r
WHERE r.relkind IN ('r', 'v') AND has_any_column_privilege('regress_install_nobody', r.oid, 'INSERT, UPDATE, REFERENCES');

SELECT v.viewname || '(' || string_agg(a.attname, ', ' ORDER BY a.attnum) || ')' AS view
FROM (VALUES ('apikeys'), ('apikeys_mine'), ('apikeys_legacy')) AS v (viewname)
	JOIN pg_attribute a ON a.attrelid = v.viewname::regclass AND a.attnum > 0
GROUP BY v.viewname ORDER BY v.viewname COLLATE "C";

SELECT p.polrelid::regclass AS "table", p.polname, p.polcmd, p.polpermissive,
	p.polroles = '{0}' AS "for all", p.polwithcheck IS NOT NULL AS "with check"
FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
ORDER BY r.relname COLLATE "C", p.polname COLLATE "C";

-- A is ALWAYS, R is where session_replication_role is replica.
SELECT regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER ', '') AS trigger, t.tgenabled
FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid
WHERE NOT t.tgisinternal
ORDER BY r.relname COLLATE "C", t.tgname COLLATE "C";

--
-- Functions
--

SELECT apikey_grant_application('regress_install_app');

SELECT proname || '(' || pg_get_function_arguments(oid) || ')' AS function,
	pg_get_function_result(oid) AS result
FROM functions ORDER BY proname COLLATE "C";

-- Who: all, those to whom the application's are granted, or the owner only.
SELECT proname AS function,
	CASE WHEN has_function_privilege('regress_install_nobody', oid, 'EXECUTE') THEN 'all'
		WHEN has_function_privilege('regress_install_app', oid, 'EXECUTE') THEN 'app'
		ELSE 'owner' END AS who,
	CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
	CASE proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel,
	CASE WHEN proisstrict THEN 'strict' ELSE '' END AS strict,
	array_to_string(proconfig, '; ') AS settings
FROM functions ORDER BY proname COLLATE "C";

-- none runs with its owner's rights by declaration, nor claims to leak
-- nothing, nor may anybody pass it on
SELECT count(*) AS functions,
	count(*) FILTER (WHERE prosecdef) AS security_definer,
	count(*) FILTER (WHERE proleakproof) AS leakproof,
	count(*) FILTER (WHERE EXISTS (SELECT FROM aclexplode(proacl) WHERE is_grantable AND grantee <> proowner)) AS grantable
FROM functions;

-- a function in C sets no search path only if it never runs a statement
SELECT string_agg(proname, ', ' ORDER BY proname COLLATE "C") AS without_search_path
FROM functions WHERE proconfig IS NULL AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c');

SELECT name, setting, context, vartype FROM pg_settings
WHERE name LIKE 'apikeys.%' ORDER BY name COLLATE "C";

\pset format aligned
\pset footer on

--
-- Taken up again by a session that remembers it
--

SELECT apikey_save_org('install', 'Old', 'enterprise');
SELECT apikey_save_member('install', 'ann', 'ann@install.example', 'admin', 'regress_install_admin');
SET ROLE regress_install_admin;
SELECT apikey_create('old', 'admin') AS old \gset
RESET ROLE;
SELECT apikey_check_level(:'old', 'admin') FROM generate_series(1, 3);

DROP EXTENSION apikeys;
SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'apikey%') AS relations,
	(SELECT count(*) FROM pg_proc WHERE proname LIKE 'apikey%') AS functions,
	(SELECT count(*) FROM pg_type WHERE typname LIKE 'apikey%') AS types,
	(SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'apikey%') AS schemas;

-- A schema that needs quoting and is not on the search path, and another for
-- pgcrypto. What there is in it already is in the way, not taken over.
DROP EXTENSION pgcrypto;
CREATE SCHEMA "Crypto %1";
CREATE EXTENSION pgcrypto SCHEMA "Crypto %1";
CREATE SCHEMA "API keys %s";
\set api '"API keys %s"'

CREATE FUNCTION :api.apikey_suffix(key text) RETURNS text LANGUAGE sql RETURN 'mine';
CREATE EXTENSION apikeys SCHEMA :api;
DROP FUNCTION :api.apikey_suffix(text);
CREATE TYPE :api.apikey_level AS ENUM ('admin', 'standard');
CREATE EXTENSION apikeys SCHEMA :api;
DROP TYPE :api.apikey_level;
CREATE VIEW :api.apikeys AS SELECT 'mine' AS kind;
CREATE EXTENSION apikeys SCHEMA :api;
DROP VIEW :api.apikeys;
CREATE SCHEMA apikeys_private;
CREATE TABLE apikeys_private.apikey_key (digest bytea);
CREATE EXTENSION apikeys SCHEMA :api;
DROP TABLE apikeys_private.apikey_key;
CREATE EXTENSION apikeys SCHEMA :api;
DROP SCHEMA apikeys_private;
CREATE EXTENSION apikeys SCHEMA apikeys_private;

-- Nor do settings change what is made. (Since PostgreSQL 19 one of them is fixed.)
SET quote_all_identifiers = on;
DO $$ BEGIN SET standard_conforming_strings = off; EXCEPTION WHEN OTHERS THEN NULL; END $$;
CREATE EXTENSION apikeys SCHEMA :api;
RESET quote_all_identifiers;
RESET standard_conforming_strings;
SELECT "check", detail FROM :api.apikey_selfcheck() WHERE NOT ok;
SELECT :api.apikey_pattern(), has_table_privilege('pg_monitor', :'api' || '.apikey_stats', 'SELECT') AS monitored;
GRANT USAGE ON SCHEMA :api TO PUBLIC;
SELECT count(*) > 0 AS members, count(*) FILTER (WHERE pg_describe_object(classid, objid, 0) NOT LIKE '%"API keys \%s".%'
		AND pg_describe_object(classid, objid, 0) NOT LIKE '% apikeys\_private%') AS elsewhere
FROM members;
SET search_path = pg_catalog;

-- the key of the installation that was dropped is not one of this
SELECT :api.apikey_check_level(:'old', 'standard') FROM generate_series(1, 2);

SELECT :api.apikey_save_org('install', 'New', 'enterprise');
SELECT :api.apikey_save_member('install', 'ann', 'ann@install.example', 'admin', 'regress_install_admin');
SELECT :api.apikey_save_member('install', 'bob', 'bob@install.example', 'architect');
SELECT :api.apikey_install_capabilities();
SELECT :api.apikey_import_legacy('install', 'a key of former times');
SELECT :api.apikey_grant_application('regress_install_app');

-- a member
SET ROLE regress_install_admin;
SELECT :api.apikey_current_org(), :api.apikey_current_user(), :api.apikey_current_role(),
	:api.apikey_current_level(), :api.apikey_current_suffix(), :api.apikey_allows('create_block_rules');
SELECT :api.apikey_create('one', 'admin') AS one \gset
SELECT :api.apikey_create('two') AS two \gset
SELECT :api.apikey_create('three', 'architect', now() + '1 day') AS three \gset
SELECT :api.apikey_update(:api.apikey_suffix(:'two'), 'two renamed', 'architect');
SELECT :api.apikey_rotate(:api.apikey_suffix(:'three'), '1 hour') AS four \gset
SELECT kind, owner_id, owner_email, name, level FROM :api.apikeys ORDER BY kind, name, level;
SELECT count(*) FROM :api.apikeys_mine;
SELECT count(*) FROM :api.apikeys_legacy;
SELECT :api.apikey_delete(:api.apikey_suffix(:'three'));
RESET ROLE;

-- the application
SET ROLE regress_install_app;
SELECT v.label, :api.apikey_is_wellformed(v.key) AS wellformed,
	v.key ~ ('^' || :api.apikey_pattern() || '$') AS matches,
	:api.apikey_check_level(v.key, 'architect') AS architect,
	:api.apikey_check(v.key, 'create_block_rules') AS block,
	i.name, i.level, i.legacy, :api.apikey_me(v.key),
	(:api.apikey_inspect(v.key)).status
FROM (VALUES ('old', :'old'), ('one', :'one'), ('two', :'two'), ('three', :'three'),
		('four', :'four'), ('legacy', 'a key of former times')) AS v (label, key)
	LEFT JOIN LATERAL :api.apikey_verify(v.key) AS i ON true;
BEGIN;
SELECT name, level FROM :api.apikey_authenticate(:'one');
SELECT :api.apikey_current_org(), :api.apikey_current_suffix() = :api.apikey_suffix(:'one') AS suffix;
COMMIT;
BEGIN;
SELECT :api.apikey_act_as('install', 'bob');
SELECT :api.apikey_create('bob''s', 'architect') AS bob \gset
COMMIT;
RESET ROLE;

-- Renamed, and pgcrypto moved, in the same session: plans that it keeps name
-- both schemas.
ALTER SCHEMA :api RENAME TO "API-Schlüssel";
\set api '"API-Schlüssel"'
ALTER EXTENSION pgcrypto SET SCHEMA install_elsewhere;
SELECT :api.apikey_check_level(:'one', 'admin') FROM generate_series(1, 2);
SELECT :api.apikey_check_level(:'bob', 'architect') FROM generate_series(1, 2);
SELECT :api.apikey_save_org('install 2', 'Another');
SELECT :api.apikey_import_legacy('install 2', 'another key of former times');
SELECT :api.apikey_check('another key of former times', 'create_block_rules');
ALTER EXTENSION pgcrypto SET SCHEMA "Crypto %1";
SELECT :api.apikey_save_org('install 3', 'A third');
SELECT :api.apikey_import_legacy('install 3', 'a third key of former times');
SELECT :api.apikey_check('a third key of former times', 'create_block_rules');
SELECT :api.apikey_grant_application('regress_install_app');
SET ROLE regress_install_admin;
SELECT :api.apikey_create('five', 'architect') AS five \gset
SELECT :api.apikey_delete_all('bob');
SELECT :api.apikey_delete_legacy();
SELECT kind, owner_id, name, level FROM :api.apikeys ORDER BY kind, name, level;
RESET ROLE;
SELECT :api.apikey_check_level(:'bob', 'standard') FROM generate_series(1, 2);
SELECT :api.apikey_check_level('a key of former times', 'standard');
SELECT :api.apikey_remove_member('install', 'ann');
SELECT :api.apikey_check_level(:'one', 'standard');
SELECT :api.apikey_remove_org('install');
SELECT :api.apikey_remove_org('install 2');
SELECT :api.apikey_remove_org('install 3');

-- and back
RESET search_path;
DROP EXTENSION apikeys;
DROP EXTENSION pgcrypto;
DROP SCHEMA :api;
DROP SCHEMA "Crypto %1";
DROP SCHEMA install_elsewhere;
CREATE EXTENSION apikeys CASCADE;
SELECT apikey_save_org('install', 'New again');
SELECT apikey_check_level(:'one', 'standard'), apikey_check_level(:'five', 'standard');

-- the same names in the same schema, but other objects than those it kept
DROP EXTENSION apikeys;
CREATE EXTENSION apikeys;
SELECT apikey_remove_org('install');
SELECT apikey_save_org('install', 'Newest');
SELECT name FROM apikeys_private.apikey_org WHERE org_id = 'install';
SELECT apikey_remove_org('install');

DROP ROLE regress_install_nobody, regress_install_app, regress_install_admin;
