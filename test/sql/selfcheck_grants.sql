-- Privileges: apikeys_private.apikey_grants() lists all that are delivered,
-- whatever the default privileges of the role that installs; the self-check
-- tells what differs, and apikey_apply_grants() mends it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_selfcheck_user;
CREATE ROLE regress_selfcheck_app;

-- only the owner may ask
SET ROLE regress_selfcheck_user;
\set VERBOSITY sqlstate
SELECT * FROM apikeys_private.apikey_grants();
SELECT * FROM apikeys_private.apikey_privileges();
SELECT * FROM apikeys_private.apikey_grant_differences(true);
SELECT apikeys_private.apikey_apply_grants(true);
SELECT * FROM apikeys_private.apikey_application_grants('regress_selfcheck_app');
\set VERBOSITY default
RESET ROLE;

--
-- As delivered
--

-- Each line of the list is of one object, and none is there twice.
SELECT g.object FROM apikeys_private.apikey_grants() g
	LEFT JOIN apikeys_private.apikey_privileges() p USING (object)
GROUP BY g.grantee, g.privilege, g.object HAVING count(p.object) <> 1;

-- By PostgreSQL's own word, nobody has what is not listed: functions, ...
CREATE TEMPORARY VIEW members AS
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'apikeys';
SELECT p.oid::regprocedure AS function, has_function_privilege('regress_selfcheck_user', p.oid, 'EXECUTE') AS executable
FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE has_function_privilege('regress_selfcheck_user', p.oid, 'EXECUTE')
	<> EXISTS (SELECT FROM apikeys_private.apikey_grants() g WHERE (g.grantee, g.privilege, g.object) = ('PUBLIC', 'EXECUTE', p.proname || '()'));
-- ... types, ...
SELECT t.oid::regtype AS type, has_type_privilege('regress_selfcheck_user', t.oid, 'USAGE') AS usable
FROM pg_type t JOIN members m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c' AND has_type_privilege('regress_selfcheck_user', t.oid, 'USAGE')
	<> EXISTS (SELECT FROM apikeys_private.apikey_grants() g WHERE (g.grantee, g.privilege, g.object) = ('PUBLIC', 'USAGE', 'type ' || t.typname));
-- ... tables, views and columns, the schema.
SELECT c.oid::regclass AS relation, a.attname, p AS privilege
FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
	unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p
WHERE has_column_privilege('regress_selfcheck_user', c.oid, a.attnum, p)
	<> EXISTS (SELECT FROM apikeys_private.apikey_grants() g WHERE g.grantee = 'PUBLIC' AND g.privilege = p AND g.object IN (c.relname, c.relname || '.' || a.attname));
SELECT has_schema_privilege('regress_selfcheck_user', 'apikeys_private', 'USAGE, CREATE') AS schema;

-- default privileges, of every kind, add and take nothing
BEGIN;
CREATE TEMPORARY TABLE before AS SELECT object, (SELECT array_agg(a ORDER BY a::text) FROM unnest(acl) a) AS acl FROM apikeys_private.apikey_privileges();
DROP EXTENSION apikeys;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_selfcheck_user;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_selfcheck_user;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_selfcheck_user WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_selfcheck_user WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_selfcheck_user, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
CREATE EXTENSION apikeys;
SELECT object, b.acl, n.acl FROM before b FULL JOIN
	(SELECT object, (SELECT array_agg(a ORDER BY a::text) FROM unnest(acl) a) AS acl FROM apikeys_private.apikey_privileges()) n USING (object)
WHERE b.acl IS DISTINCT FROM n.acl;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- nor what the role itself may do
BEGIN;
DROP EXTENSION apikeys;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE EXTENSION apikeys;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

--
-- What differs
--

-- on a table, a column, the sequence, a view, a type, a function, the schema;
-- with grant option; to everybody what the application is granted
BEGIN;
GRANT SELECT, TRIGGER ON apikeys_private.apikey_key TO regress_selfcheck_user;
GRANT SELECT (digest) ON apikeys_private.apikey_legacy TO PUBLIC;
GRANT USAGE ON SEQUENCE apikeys_private.apikey_key_id_seq TO regress_selfcheck_user;
GRANT UPDATE ON apikeys TO regress_selfcheck_user;
GRANT USAGE ON TYPE apikey_level TO regress_selfcheck_user;
GRANT USAGE ON SCHEMA apikeys_private TO PUBLIC;
GRANT CREATE ON SCHEMA apikeys_private TO regress_selfcheck_user;
GRANT EXECUTE ON FUNCTION apikey_import_legacy(text, text) TO regress_selfcheck_user;
GRANT EXECUTE ON FUNCTION apikey_me(text) TO regress_selfcheck_app WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION apikey_act_as(text, text, boolean) TO PUBLIC;
GRANT SELECT ON apikeys_private.apikey_definition TO regress_selfcheck_user;
REVOKE SELECT ON apikeys_mine FROM PUBLIC;
REVOKE SELECT (email) ON apikeys_private.apikey_member FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION apikey_create(text, apikey_level, timestamptz) FROM PUBLIC;
REVOKE USAGE ON TYPE apikey_role FROM PUBLIC;
REVOKE SELECT ON apikey_stats FROM pg_monitor;
SELECT "check", unnest(string_to_array(detail, '; ')) AS detail FROM apikey_selfcheck() WHERE NOT ok;
-- Applying the list mends it, and leaves applications alone.
SELECT apikey_grant_application('regress_selfcheck_app');
SELECT apikeys_private.apikey_apply_grants(true);
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SELECT apikeys_private.apikey_apply_grants(true);
SELECT has_function_privilege('regress_selfcheck_app', 'apikey_me(text)', 'EXECUTE') AS application,
	has_function_privilege('regress_selfcheck_app', 'apikey_me(text)', 'EXECUTE WITH GRANT OPTION') AS "may pass on",
	has_function_privilege('regress_selfcheck_user', 'apikey_act_as(text, text, boolean)', 'EXECUTE') AS others,
	has_function_privilege('regress_selfcheck_user', 'apikey_create(text, apikey_level, timestamptz)', 'EXECUTE') AS everybody;
-- or does not
SELECT count(*) AS differences, count(*) FILTER (WHERE grantee <> 'regress_selfcheck_app' OR privilege <> 'EXECUTE' OR missing) AS others
FROM apikeys_private.apikey_grant_differences(false);
SELECT apikeys_private.apikey_apply_grants(false) > 0 AS revoked;
SELECT has_function_privilege('regress_selfcheck_app', 'apikey_me(text)', 'EXECUTE') AS application;
SELECT apikeys_private.apikey_apply_grants(NULL);
ROLLBACK;
-- what somebody was granted by somebody else who could pass it on
BEGIN;
GRANT EXECUTE ON FUNCTION apikey_me(text) TO regress_selfcheck_app WITH GRANT OPTION;
SET ROLE regress_selfcheck_app;
GRANT EXECUTE ON FUNCTION apikey_me(text) TO regress_selfcheck_user;
RESET ROLE;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SELECT apikeys_private.apikey_apply_grants(false) > 0 AS revoked;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SELECT has_function_privilege('regress_selfcheck_user', 'apikey_me(text)', 'EXECUTE') AS "may still";
ROLLBACK;
-- an object that is listed and not there
BEGIN;
ALTER EXTENSION apikeys DROP FUNCTION apikey_me(text);
SELECT apikey_grant_application('regress_selfcheck_app');
ROLLBACK;
BEGIN;
ALTER EXTENSION apikeys DROP FUNCTION apikey_create(text, apikey_level, timestamptz);
SELECT apikeys_private.apikey_apply_grants(true);
ROLLBACK;

-- our settings, which the server's owner may let others set or change
BEGIN;
GRANT SET ON PARAMETER apikeys.seal_principal TO regress_selfcheck_user;
GRANT ALTER SYSTEM ON PARAMETER apikeys.revoke_remote_apply TO PUBLIC;
GRANT SET ON PARAMETER work_mem TO regress_selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- and the one by which foreign keys do not act; a superuser may set all anyway
GRANT SET ON PARAMETER session_replication_role TO regress_selfcheck_app, regress_selfcheck_user;
ALTER ROLE regress_selfcheck_user SUPERUSER;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- roles that may name and read or lock every table
BEGIN;
GRANT pg_read_all_data TO regress_selfcheck_app;
GRANT pg_write_all_data TO regress_selfcheck_user;
GRANT regress_selfcheck_user TO regress_selfcheck_app;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- also by SET ROLE only; not so the owner, who may do all that anyway
ALTER ROLE regress_selfcheck_app NOINHERIT;
REVOKE pg_read_all_data FROM regress_selfcheck_app;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
UPDATE pg_extension SET extowner = 'regress_selfcheck_user'::regrole WHERE extname = 'apikeys';
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'grants';
UPDATE pg_extension SET extowner = current_user::regrole WHERE extname = 'apikeys';
ALTER ROLE regress_selfcheck_app SUPERUSER;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

--
-- The application
--

-- gets what is listed for it and USAGE on the schema, and no more; not where it
-- has it anyway, so that nothing of ours is left when the extension is dropped
BEGIN;
SELECT apikey_grant_application('regress_selfcheck_app');
SELECT count(*) AS "on the schema" FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND grantee = 'regress_selfcheck_app'::regrole;
DROP EXTENSION apikeys;
CREATE SCHEMA "Odd schema";
CREATE EXTENSION apikeys SCHEMA "Odd schema";
ALTER SCHEMA "Odd schema" RENAME TO "Odd ""%1$s"" schema";
CREATE ROLE "regress_selfcheck ""%1$s"", PUBLIC";
SELECT "Odd ""%1$s"" schema".apikey_grant_application('"regress_selfcheck ""%1$s"", PUBLIC"');
SELECT has_schema_privilege('regress_selfcheck "%1$s", PUBLIC', 'Odd "%1$s" schema', 'USAGE') AS usage,
	has_schema_privilege('regress_selfcheck "%1$s", PUBLIC', 'Odd "%1$s" schema', 'CREATE') AS "create",
	has_schema_privilege('regress_selfcheck_user', 'Odd "%1$s" schema', 'USAGE') AS others,
	has_schema_privilege('regress_selfcheck "%1$s", PUBLIC', 'apikeys_private', 'USAGE') AS private;
SELECT count(*) AS functions, count(*) FILTER (WHERE p.pronamespace <> 'apikeys_private'::regnamespace) AS public
FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE has_function_privilege('regress_selfcheck "%1$s", PUBLIC', p.oid, 'EXECUTE')
	AND NOT has_function_privilege('regress_selfcheck_user', p.oid, 'EXECUTE');
SELECT "check", detail FROM "Odd ""%1$s"" schema".apikey_selfcheck() WHERE NOT ok;
-- it works
SET LOCAL ROLE "regress_selfcheck ""%1$s"", PUBLIC";
SELECT "Odd ""%1$s"" schema".apikey_check_level('no key', 'standard');
ROLLBACK;

DROP ROLE regress_selfcheck_user, regress_selfcheck_app;
