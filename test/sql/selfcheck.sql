-- apikey_selfcheck(): nothing to complain of in a new installation, wherever it
-- is, whoever asks, and after maintenance; what is amiss is told otherwise.
-- Everything broken is rolled back. See selfcheck_objects, selfcheck_grants and
-- selfcheck_settings, too.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_selfcheck_user;
CREATE ROLE regress_selfcheck_member;

-- the names of the checks, and that all are content
SELECT "check", ok, detail IS NOT NULL AS has_detail FROM apikey_selfcheck();
SELECT detail FROM apikey_selfcheck() WHERE "check" = 'preload';

-- only the owner may ask, or read and write the record
SET ROLE regress_selfcheck_user;
\set VERBOSITY sqlstate
SELECT * FROM apikey_selfcheck();
SELECT * FROM apikeys_private.apikey_definitions();
SELECT * FROM apikeys_private.apikey_definition;
SELECT apikeys_private.apikey_record_definitions();
SELECT apikeys_private.apikey_library_version();
\set VERBOSITY default
RESET ROLE;
SELECT relacl FROM pg_class WHERE oid = 'apikeys_private.apikey_definition'::regclass
	AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee <> relowner);

--
-- No false alarm
--

-- Nothing that a session sets changes what is compared.
BEGIN;
SET LOCAL quote_all_identifiers = on;
SET LOCAL datestyle = 'German, DMY';
SET LOCAL intervalstyle = 'iso_8601';
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL extra_float_digits = -15;
SET LOCAL bytea_output = 'escape';
SET LOCAL search_path = apikeys_private, public, pg_temp;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- In a schema with an odd name, before and after it is given another, such as
-- one that is an alias in our queries, or the end of another schema's name.
BEGIN;
DROP EXTENSION apikeys;
CREATE SCHEMA "Odd. name(1";
CREATE EXTENSION apikeys SCHEMA "Odd. name(1";
SELECT "check", detail FROM "Odd. name(1".apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA "Odd. name(1" RENAME TO "Odder ""'\ $1+";
SELECT "check", detail FROM "Odder ""'\ $1+".apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA "Odder ""'\ $1+" RENAME TO s;
SELECT "check", detail FROM s.apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA s RENAME TO private;
SELECT "check", detail FROM private.apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA private RENAME TO apikeys;
SELECT "check", detail FROM apikeys.apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA apikeys RENAME TO "ä";
SELECT "check", detail FROM "ä".apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- made with odd settings
BEGIN;
DROP EXTENSION apikeys;
SET LOCAL quote_all_identifiers = on;
SET LOCAL intervalstyle = 'iso_8601';
SET LOCAL search_path = apikeys_private, public;
CREATE EXTENSION apikeys SCHEMA public;
RESET quote_all_identifiers;
RESET intervalstyle;
SET LOCAL search_path = public;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- Printed and made anew, as pg_upgrade does it, functions and views print alike.
BEGIN;
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		SELECT pg_get_functiondef(p.oid) FROM apikeys_private.apikey_members() m
			JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
		UNION ALL
		SELECT format('CREATE OR REPLACE VIEW %s WITH (%s) AS %s', c.oid::regclass, array_to_string(c.reloptions, ', '), pg_get_viewdef(c.oid))
		FROM apikeys_private.apikey_members() m
			JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid AND c.relkind = 'v'
	LOOP
		EXECUTE statement;
	END LOOP;
END $$;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- what an application is granted is as delivered
BEGIN;
SELECT apikey_grant_application('regress_selfcheck_user');
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- a table of a superuser or of our own owner may have a foreign key to ours
BEGIN;
CREATE ROLE regress_selfcheck_superuser SUPERUSER;
CREATE TABLE selfcheck_mine (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org);
CREATE TABLE selfcheck_theirs (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org ON DELETE CASCADE);
ALTER TABLE selfcheck_theirs OWNER TO regress_selfcheck_superuser;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- also if our owner is no superuser
ALTER TABLE selfcheck_theirs OWNER TO regress_selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'owners';
ALTER TABLE apikeys_private.apikey_org OWNER TO regress_selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'owners';
ROLLBACK;

-- maintenance
INSERT INTO apikeys_private.apikey_org (org_id, name) SELECT 'selfcheck ' || i, 'x' FROM generate_series(1, 100) i;
ANALYZE;
DELETE FROM apikeys_private.apikey_org WHERE org_id LIKE 'selfcheck %';
VACUUM FULL apikeys_private.apikey_key, apikeys_private.apikey_org;
CLUSTER apikeys_private.apikey_key USING apikey_key_pkey;
SET client_min_messages = error;
REINDEX TABLE CONCURRENTLY apikeys_private.apikey_key;
REINDEX SCHEMA apikeys_private;
SET client_min_messages = warning;
VACUUM ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_org;
SELECT nextval('apikeys_private.apikey_key_id_seq') > 0 AS used;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ALTER TABLE apikeys_private.apikey_key SET WITHOUT CLUSTER;
-- other tablespaces
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_selfcheck LOCATION '';
BEGIN;
ALTER TABLE apikeys_private.apikey_key SET TABLESPACE regress_selfcheck;
ALTER INDEX apikeys_private.apikey_key_pkey SET TABLESPACE regress_selfcheck;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
DROP TABLESPACE regress_selfcheck;
RESET allow_in_place_tablespaces;

-- temporary objects of the same names
CREATE TEMPORARY TABLE apikey_key (digest bytea);
CREATE TEMPORARY VIEW apikeys AS SELECT 1 AS a;
CREATE TYPE pg_temp.apikey_level AS ENUM ('x');
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
DROP TYPE pg_temp.apikey_level;
DROP VIEW pg_temp.apikeys;
DROP TABLE pg_temp.apikey_key;

--
-- The record
--

-- of another major version: nothing is compared, but it is said what to do
BEGIN;
UPDATE apikeys_private.apikey_definition SET definition = 'PostgreSQL 9' WHERE object = 'server';
DROP INDEX apikeys_private.apikey_key_org_id_name_suffix_idx;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SELECT apikeys_private.apikey_record_definitions() > 100 AS recorded;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- none
BEGIN;
TRUNCATE apikeys_private.apikey_definition;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- It is of everything there is, and is made by the script, so not dumped.
SELECT count(*) FILTER (WHERE d.object IS NULL) AS forgotten
FROM pg_depend p JOIN pg_extension e ON e.oid = p.refobjid AND p.deptype = 'e' AND p.refclassid = 'pg_extension'::regclass AND e.extname = 'apikeys',
	pg_identify_object(p.classid, p.objid, 0) i
	LEFT JOIN apikeys_private.apikey_definition d ON d.object = replace(i.type || ' ' || i.identity, 'public.apikey', '@.apikey');
SELECT 'apikeys_private.apikey_definition'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'apikeys';

--
-- Owners
--

-- of extensions, the schema, and of tables whose triggers would run as ours
BEGIN;
CREATE TABLE selfcheck_theirs (org_id text COLLATE "C" REFERENCES apikeys_private.apikey_org ON DELETE CASCADE);
ALTER TABLE selfcheck_theirs OWNER TO regress_selfcheck_user;
UPDATE pg_extension SET extowner = 'regress_selfcheck_user'::regrole WHERE extname IN ('pgcrypto', 'apikeys', 'plpgsql');
ALTER SCHEMA public OWNER TO regress_selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- a superuser's, or all ours
BEGIN;
CREATE ROLE regress_selfcheck_superuser SUPERUSER;
UPDATE pg_extension SET extowner = 'regress_selfcheck_superuser'::regrole WHERE extname = 'pgcrypto';
ALTER SCHEMA public OWNER TO regress_selfcheck_superuser;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- whoever owns the database can drop its schemas anyway
BEGIN;
SELECT format('ALTER DATABASE %I OWNER TO regress_selfcheck_user', current_database()) \gexec
ALTER SCHEMA public OWNER TO regress_selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'owners';
ROLLBACK;

-- The installation refuses a pgcrypto that somebody else can drop.
BEGIN;
DROP EXTENSION apikeys;
DROP EXTENSION pgcrypto;
CREATE SCHEMA selfcheck_theirs AUTHORIZATION regress_selfcheck_user;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_selfcheck_user', current_database()) \gexec
SET ROLE regress_selfcheck_user;
CREATE EXTENSION pgcrypto SCHEMA selfcheck_theirs;
RESET ROLE;
SAVEPOINT refused;
\set VERBOSITY verbose
\set SHOW_CONTEXT never
DO $$ BEGIN CREATE EXTENSION apikeys SCHEMA public;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	DECLARE d text; h text; BEGIN
		GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
		CREATE TEMPORARY TABLE refusal AS SELECT SQLSTATE AS sqlstate, SQLERRM AS message, d AS detail, h AS hint;
	END;
END $$;
\set VERBOSITY default
\x
SELECT * FROM refusal;
\x
-- as the superuser that he has become
ALTER ROLE regress_selfcheck_user SUPERUSER;
CREATE EXTENSION apikeys SCHEMA public;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

--
-- Schema
--

-- where others may put an overload that fits better, and one that does
BEGIN;
GRANT CREATE ON SCHEMA public TO regress_selfcheck_user;
SET ROLE regress_selfcheck_user;
CREATE FUNCTION apikey_check(varchar, varchar) RETURNS boolean LANGUAGE sql RETURN true;
RESET ROLE;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
REVOKE CREATE ON SCHEMA public FROM regress_selfcheck_user;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
DROP FUNCTION apikey_check(varchar, varchar);
-- the extension's own owner may, whoever owns the schema
GRANT CREATE ON SCHEMA public TO regress_selfcheck_member;
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'schema';
UPDATE pg_extension SET extowner = 'regress_selfcheck_member'::regrole WHERE extname = 'apikeys';
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'schema';
ROLLBACK;

--
-- Members' database roles
--

BEGIN;
INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES ('selfcheck', 'Selfcheck');
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, db_role)
	VALUES ('selfcheck', 'ann', 'ann@selfcheck.example', 'regress_selfcheck_member'), ('selfcheck', 'bob', 'bob@selfcheck.example', NULL);
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- may act for others, by itself or by a role it is a member of
SAVEPOINT s;
GRANT EXECUTE ON FUNCTION apikey_act_as(text, text, boolean) TO regress_selfcheck_member;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK TO s;
SELECT apikey_grant_application('regress_selfcheck_user');
GRANT regress_selfcheck_user TO regress_selfcheck_member;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK TO s;
ALTER ROLE regress_selfcheck_member SUPERUSER;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK TO s;
ALTER ROLE regress_selfcheck_member RENAME TO regress_selfcheck_gone;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK TO s;
UPDATE pg_extension SET extowner = 'regress_selfcheck_member'::regrole WHERE extname = 'apikeys';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok AND "check" = 'members';
ROLLBACK TO s;
-- another role that was given the name
ALTER TABLE apikeys_private.apikey_member DISABLE TRIGGER apikey_guard;
UPDATE apikeys_private.apikey_member SET db_role_oid = 'regress_selfcheck_user'::regrole WHERE org_id = 'selfcheck' AND user_id = 'ann';
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'members';
UPDATE apikeys_private.apikey_member SET db_role_oid = 'regress_selfcheck_member'::regrole WHERE org_id = 'selfcheck' AND user_id = 'ann';
SELECT "check", detail FROM apikey_selfcheck() WHERE "check" = 'members';
-- one that was made when the member had been saved, as after a restore without
-- roles: it is not the member
ALTER TABLE apikeys_private.apikey_member ENABLE ALWAYS TRIGGER apikey_guard;
UPDATE apikeys_private.apikey_member SET db_role = 'regress_selfcheck_late' WHERE org_id = 'selfcheck' AND user_id = 'ann';
CREATE ROLE regress_selfcheck_late;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok AND "check" = 'members';
SET ROLE regress_selfcheck_late;
SELECT apikey_current_user() IS NULL AS is_nobody;
RESET ROLE;
UPDATE apikeys_private.apikey_member SET db_role = db_role WHERE org_id = 'selfcheck' AND user_id = 'ann';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok AND "check" = 'members';
ROLLBACK;

--
-- Version
--

BEGIN;
UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'apikeys';
SELECT "check", replace(detail, apikeys_private.apikey_library_version(), 'CURRENT') AS detail
FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
SELECT apikeys_private.apikey_library_version() = extversion AS "as the control file says"
FROM pg_extension WHERE extname = 'apikeys';

DROP ROLE regress_selfcheck_user, regress_selfcheck_member;
