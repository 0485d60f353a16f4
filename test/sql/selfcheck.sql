-- apikey_selfcheck(): nothing to complain of in a new installation, wherever
-- it is; and for each check, what it is there for is broken and the row turns
-- false. Everything broken is rolled back.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE selfcheck_user;
CREATE ROLE selfcheck_app;

-- the names of the checks, and that all are content
SELECT "check", ok, detail IS NOT NULL AS has_detail FROM apikey_selfcheck();
SELECT detail IN ('usage of keys is counted',
		'usage of keys is not counted: shared_preload_libraries has no "apikeys", or apikeys.usage_max_keys is 0') AS "tells what it means"
FROM apikey_selfcheck() WHERE "check" = 'preload';

-- in a schema with an odd name, before and after it is given another; with
-- settings that change how PostgreSQL prints expressions
BEGIN;
DROP EXTENSION apikeys;
CREATE SCHEMA "Odd name";
CREATE EXTENSION apikeys SCHEMA "Odd name";
SELECT "check", detail FROM "Odd name".apikey_selfcheck() WHERE NOT ok;
ALTER SCHEMA "Odd name" RENAME TO s;
SET LOCAL quote_all_identifiers = on;
SET LOCAL search_path = s, public;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- what an application is granted is as delivered
BEGIN;
SELECT apikey_grant_application('selfcheck_app');
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- but it is foreign to whoever asks for all
SELECT object, privilege, grantee FROM apikey_foreign_grants(false) ORDER BY object COLLATE "C";
ROLLBACK;

-- only the owner may ask
SET ROLE selfcheck_user;
\set VERBOSITY sqlstate
SELECT * FROM apikey_selfcheck();
SELECT * FROM apikey_foreign_grants(true);
SELECT apikey_revoke_foreign_grants(true);
SELECT apikey_library_version();
\set VERBOSITY default
RESET ROLE;

-- row_security
BEGIN;
ALTER TABLE apikey_key DISABLE ROW LEVEL SECURITY;
ALTER TABLE apikey_org FORCE ROW LEVEL SECURITY;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- policies: one gone; one for a role only; one with another expression, or
-- with one that reads the same but for the function it calls; another command
-- or kind
BEGIN;
DROP POLICY apikey_see ON apikey_member;
ALTER POLICY apikey_delete ON apikey_legacy TO selfcheck_user;
ALTER POLICY apikey_see ON apikey_key USING (true);
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
BEGIN;
CREATE FUNCTION pg_temp.apikey_admin_org() RETURNS text LANGUAGE sql RETURN 'x';
ALTER POLICY apikey_see ON apikey_legacy USING (org_id = (SELECT pg_temp.apikey_admin_org()));
ALTER POLICY apikey_change ON apikey_key WITH CHECK (true);
DROP POLICY apikey_delete ON apikey_legacy;
CREATE POLICY apikey_delete ON apikey_legacy FOR ALL USING (org_id = (SELECT apikey_admin_org()));
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
BEGIN;
DROP POLICY apikey_delete ON apikey_legacy;
CREATE POLICY apikey_delete ON apikey_legacy AS RESTRICTIVE FOR DELETE USING (org_id = (SELECT apikey_admin_org()));
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- the same again is as good as the one delivered
DROP POLICY apikey_delete ON apikey_legacy;
CREATE POLICY apikey_delete ON apikey_legacy FOR DELETE USING (org_id = (SELECT apikey_admin_org()));
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- foreign_policies, views, foreign_triggers, foreign_rules, constraints: each
-- has its row
BEGIN;
CREATE POLICY "let me" ON apikey_key TO selfcheck_user USING (true);
CREATE POLICY apikey_see ON apikey_org USING (true);
ALTER VIEW apikeys SET (security_invoker = false);
ALTER VIEW apikeys_mine RESET (security_barrier);
CREATE FUNCTION selfcheck_trigger() RETURNS trigger LANGUAGE plpgsql
	AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "tell me" BEFORE INSERT ON apikey_key
	FOR EACH ROW EXECUTE FUNCTION selfcheck_trigger();
CREATE RULE keep AS ON DELETE TO apikey_key DO INSTEAD NOTHING;
CREATE RULE give AS ON INSERT TO apikeys DO INSTEAD NOTHING;
ALTER TABLE apikey_key DROP CONSTRAINT apikey_key_owner_fkey;
ALTER TABLE apikey_legacy DROP CONSTRAINT apikey_legacy_org_id_fkey;
ALTER TABLE apikey_legacy ADD CONSTRAINT apikey_legacy_org_id_fkey
	FOREIGN KEY (org_id) REFERENCES apikey_org NOT VALID;
SELECT "check", unnest(string_to_array(detail, '; ')) AS detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- a foreign key of a table whose owner may give it triggers, which would run as
-- ours; those of a superuser's or our own owner's tables are as good as we are
BEGIN;
CREATE TABLE selfcheck_mine (org_id text COLLATE "C" REFERENCES apikey_org);
CREATE TABLE selfcheck_theirs (org_id text COLLATE "C" REFERENCES apikey_org ON DELETE CASCADE);
ALTER TABLE selfcheck_theirs OWNER TO selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- indexes: as after a failed REINDEX CONCURRENTLY; and of digests, none, or
-- one that is for a part of the rows, or no hash index
BEGIN;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'apikey_key_digest_excl'::regclass;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
BEGIN;
ALTER TABLE apikey_key DROP CONSTRAINT apikey_key_digest_excl;
ALTER TABLE apikey_key ADD CONSTRAINT apikey_key_digest_excl
	EXCLUDE USING hash (digest WITH =) WHERE (level = 'admin');
ALTER TABLE apikey_legacy DROP CONSTRAINT apikey_legacy_digest_excl;
ALTER TABLE apikey_legacy ADD CONSTRAINT apikey_legacy_digest_excl UNIQUE (digest);
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- grants: on a table, a column, the sequence, a view, a type, a function of
-- the owner's; with grant option; to everybody what the application is granted
BEGIN;
GRANT SELECT, TRIGGER ON apikey_key TO selfcheck_user;
GRANT SELECT (digest) ON apikey_legacy TO PUBLIC;
GRANT USAGE ON SEQUENCE apikey_key_id_seq TO selfcheck_user;
GRANT UPDATE ON apikeys TO selfcheck_user;
GRANT USAGE ON TYPE apikey_level TO selfcheck_user;
GRANT EXECUTE ON FUNCTION apikey_import_legacy(text, text) TO selfcheck_user;
GRANT EXECUTE ON FUNCTION apikey_me(text) TO selfcheck_app WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION apikey_act_as(text, text, boolean) TO PUBLIC;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- what takes them away does, and leaves the application alone
SELECT apikey_grant_application('selfcheck_app');
SELECT apikey_revoke_foreign_grants(true);
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SELECT has_function_privilege('selfcheck_app', 'apikey_act_as(text, text, boolean)', 'EXECUTE') AS application,
	has_function_privilege('selfcheck_user', 'apikey_act_as(text, text, boolean)', 'EXECUTE') AS others,
	has_function_privilege('selfcheck_user', 'apikey_current_org()', 'EXECUTE') AS everybody;
SELECT apikey_revoke_foreign_grants(NULL);
ROLLBACK;

-- owner: a function, a table, a type
BEGIN;
ALTER FUNCTION apikey_pattern() OWNER TO selfcheck_user;
ALTER TABLE apikey_org OWNER TO selfcheck_user;
ALTER TYPE apikey_plan OWNER TO selfcheck_user;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok AND "check" = 'owner';
ROLLBACK;

-- functions
BEGIN;
ALTER FUNCTION apikey_me(text) SECURITY DEFINER;
ALTER FUNCTION apikey_allows(text) LEAKPROOF;
ALTER FUNCTION apikey_create(text, apikey_level, timestamptz) RESET search_path;
ALTER FUNCTION apikey_delete(text) SET search_path = public;
CREATE OR REPLACE FUNCTION apikey_admin_org() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN 'acme';
CREATE OR REPLACE FUNCTION apikey_visible_org() RETURNS text
	AS '$libdir/apikeys', 'apikey_current_org' LANGUAGE c STABLE PARALLEL SAFE;
CREATE OR REPLACE FUNCTION apikey_pattern() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT ''x''';
CREATE OR REPLACE FUNCTION apikey_sees_nothing() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
ALTER EXTENSION apikeys ADD FUNCTION apikey_sees_nothing();
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- schema: where others may put an overload that fits better, and one that does
BEGIN;
GRANT CREATE ON SCHEMA public TO selfcheck_user;
SET ROLE selfcheck_user;
CREATE FUNCTION apikey_check(varchar, varchar) RETURNS boolean LANGUAGE sql RETURN true;
RESET ROLE;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
REVOKE CREATE ON SCHEMA public FROM selfcheck_user;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- version
BEGIN;
UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'apikeys';
SELECT "check", replace(detail, apikey_library_version(), 'CURRENT') AS detail
FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
SELECT apikey_library_version() = extversion AS "as the control file says"
FROM pg_extension WHERE extname = 'apikeys';

-- settings: here, of a role, of this database; those of another do not matter
BEGIN;
SET LOCAL apikeys.seal_principal = off;
ALTER ROLE selfcheck_app SET apikeys.revoke_remote_apply = off;
ALTER DATABASE postgres SET apikeys.seal_principal = off;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ALTER ROLE selfcheck_app SET apikeys.revoke_remote_apply = 'F';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- logging: each setting that lets bound parameters reach the log
BEGIN;
SET LOCAL log_statement = 'mod';
SET LOCAL log_min_duration_statement = 0;
SET LOCAL log_min_duration_sample = '10s';
SET LOCAL log_transaction_sample_rate = 0.5;
SET LOCAL log_parameter_max_length_on_error = -1;
SET LOCAL debug_print_parse = on;
SET LOCAL debug_print_rewritten = on;
SET LOCAL debug_print_plan = on;
SET LOCAL client_min_messages = error;
CREATE TABLE selfcheck_result AS SELECT * FROM apikey_selfcheck() WHERE NOT ok;
SET LOCAL debug_print_parse = off;
SET LOCAL debug_print_rewritten = off;
SET LOCAL debug_print_plan = off;
SELECT "check", unnest(string_to_array(detail, '; ')) AS detail FROM selfcheck_result;
-- no length, no parameters
SET LOCAL log_parameter_max_length = 0;
SET LOCAL log_parameter_max_length_on_error = 0;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- statements without parameters, and settings that log none; of a role only
BEGIN;
SET LOCAL log_statement = 'ddl';
SET LOCAL log_duration = on;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ALTER ROLE selfcheck_app SET log_statement = 'ALL';
ALTER ROLE selfcheck_app SET log_transaction_sample_rate = '0.0';
ALTER ROLE selfcheck_app SET debug_print_plan = 'OFF';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- plans
LOAD 'auto_explain';
BEGIN;
SET LOCAL auto_explain.log_min_duration = '1min';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

DROP ROLE selfcheck_user, selfcheck_app;
