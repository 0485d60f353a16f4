-- Attacks 1 to 3: objects that have our names, or those of what we use. Every
-- function must find the objects that it was written for, whatever the search
-- path, the temporary schema or the target schema hold.
SET client_min_messages = warning;
\set VERBOSITY terse
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_names_owner;
CREATE ROLE regress_names_user LOGIN;
SELECT current_user AS superuser \gset
SELECT apikey_grant_application('regress_names_user');
SELECT apikey_save_org('security_names', 'Names', 'enterprise');
SELECT apikey_save_member('security_names', 'ann', 'ann@example.com', 'admin');
INSERT INTO apikeys_private.apikey_capability VALUES ('security_names', 'architect');

-- All that an admin and an application do, told in a line. Written so that it
-- is not captured itself.
CREATE FUNCTION security_names_life() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v pg_catalog.text;
	s pg_catalog.text;
	told pg_catalog.text;
BEGIN
	PERFORM public.apikey_act_as('security_names', 'ann');
	v := public.apikey_create('key', 'architect', 'infinity');
	s := public.apikey_suffix(v);
	PERFORM public.apikey_update(s, 'renamed', 'admin', NULL);
	told := pg_catalog.concat_ws(' ',
		public.apikey_is_wellformed(v), public.apikey_check_level(v, 'admin'),
		public.apikey_check(v, 'security_names'),
		(SELECT i.status FROM public.apikey_inspect(v) i),
		(SELECT i.name FROM public.apikey_verify(v) i),
		public.apikey_me(v),
		(SELECT pg_catalog.count(*) FROM public.apikeys),
		(SELECT pg_catalog.count(*) FROM public.apikeys_mine),
		(SELECT pg_catalog.count(*) FROM public.apikeys_legacy),
		public.apikey_current_org(), public.apikey_current_user(),
		public.apikey_current_role(), public.apikey_current_level(),
		public.apikey_allows('security_names'));
	v := public.apikey_rotate(s, '1 hour');
	PERFORM public.apikey_delete(public.apikey_suffix(v));
	PERFORM public.apikey_save_org('security_names2', 'Second', 'free');
	PERFORM public.apikey_save_member('security_names2', 'bob', 'bob@example.com');
	PERFORM public.apikey_save_member('security_names2', 'bob', NULL, 'admin');
	PERFORM public.apikey_remove_member('security_names2', 'bob');
	PERFORM public.apikey_remove_org('security_names2');
	RETURN pg_catalog.concat_ws(' ', told, public.apikey_delete_all('ann'),
		public.apikey_check_level(v, 'standard'));
END $$;
SET ROLE regress_names_user;
SELECT security_names_life();
RESET ROLE;

-- attack 1: a user's temporary objects with our names, first on the path
\c - regress_names_user
SET client_min_messages = warning;
CREATE TEMP TABLE apikey_org AS SELECT 'security_names'::text AS org_id, 'x'::text AS name, 'free'::apikey_plan AS plan;
CREATE TEMP TABLE apikey_member AS SELECT 'security_names'::text AS org_id, 'mal'::text AS user_id, ''::text AS email, 'admin'::apikey_role AS role, 'regress_names_user'::name AS db_role;
CREATE TEMP TABLE apikey_key AS SELECT 1::bigint AS key_id, 'security_names'::text AS org_id, 'mal'::text AS owner_id, 'mine'::text AS name, 'admin'::apikey_level AS level,
	sha256('ak.0000000000000000000000000000000000000000000') AS digest, 'X'::text AS suffix, now() AS created_at, 'infinity'::timestamptz AS expires_at;
CREATE TEMP TABLE apikey_legacy AS SELECT 'security_names'::text AS org_id, 2::bigint AS key_id, sha256('my own legacy key') AS digest, now() AS created_at;
CREATE TEMP TABLE apikey_capability AS SELECT 'mine'::text AS capability, 'standard'::apikey_level AS level;
CREATE TEMP TABLE apikey_usage (key_id bigint);
CREATE TEMP VIEW apikeys AS SELECT 'user'::text AS kind;
CREATE TEMP SEQUENCE apikey_key_id_seq;
CREATE TYPE pg_temp.apikey_level AS ENUM ('admin');
CREATE DOMAIN pg_temp.text AS varchar(1);
CREATE DOMAIN pg_temp.bytea AS varchar(1);
CREATE FUNCTION pg_temp.captured() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
CREATE FUNCTION pg_temp.equal(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql RETURN pg_temp.captured();
CREATE FUNCTION pg_temp.apikey_visible_org() RETURNS varchar LANGUAGE sql RETURN 'other';
CREATE FUNCTION pg_temp.apikey_admin_org() RETURNS varchar LANGUAGE sql RETURN 'other';
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql RETURN '1970-01-01'::timestamptz;
CREATE FUNCTION pg_temp.sha256(pg_catalog.bytea) RETURNS pg_catalog.bytea LANGUAGE sql RETURN NULL::pg_catalog.bytea;
CREATE OPERATOR pg_temp.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = pg_temp.equal);
SET search_path = pg_temp, public, pg_catalog;
SELECT security_names_life();
-- neither the key nor the capability that the user made up is known
SELECT public.apikey_check_level('my own legacy key', 'standard');
SELECT status FROM public.apikey_inspect('my own legacy key');
SELECT public.apikey_check('my own legacy key', 'mine');
SELECT count(*) FROM pg_temp.apikey_key;
\c - :superuser
SET client_min_messages = warning;

-- attack 2: a schema owner's functions, operators, types and casts, before
-- PostgreSQL's own on the path
CREATE SCHEMA security_names_evil AUTHORIZATION regress_names_owner;
GRANT USAGE ON SCHEMA security_names_evil TO PUBLIC;
SET ROLE regress_names_owner;
SET search_path = security_names_evil;
CREATE FUNCTION captured() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
DO $$
DECLARE
	type text;
	operator text;
	signature text;
BEGIN
	FOREACH type IN ARRAY '{text,bytea,name,bigint,integer,boolean,timestamptz,interval,public.apikey_level,public.apikey_role,public.apikey_plan}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION bang(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS $f$ SELECT security_names_evil.captured(); SELECT NULL::boolean $f$', type);
		FOREACH operator IN ARRAY '{=,<>,<,<=,>,>=,||,+,-,~,~~}'::text[] LOOP
			EXECUTE format('CREATE OPERATOR %s (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = bang)', operator, type);
		END LOOP;
	END LOOP;
	FOREACH signature IN ARRAY '{now(),clock_timestamp(),nextval(regclass),nextval(text),octet_length(bytea),sha256(bytea),"digest(bytea,text)","digest(text,text)",digest(bytea),"concat(text,text)",quote_ident(text),current_setting(text),"set_config(text,text,boolean)"}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION %s RETURNS text LANGUAGE sql AS $f$ SELECT security_names_evil.captured(); SELECT NULL::text $f$', signature);
	END LOOP;
END $$;
CREATE FUNCTION counting(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
CREATE AGGREGATE count(*) (SFUNC = counting, STYPE = bigint);
CREATE DOMAIN text AS varchar(1);
CREATE DOMAIN bytea AS varchar(1);
CREATE DOMAIN timestamptz AS varchar(1);
CREATE DOMAIN apikey_level AS varchar(1);
RESET ROLE;
SET ROLE regress_names_user;
SET search_path = security_names_evil, pg_catalog;
SELECT public.security_names_life();
RESET ROLE;
-- what the owner of the extension does
SELECT public.apikey_import_legacy('security_names', 'security_names legacy');
SELECT public.apikey_check_level('security_names legacy', 'admin');
BEGIN;
SELECT public.apikey_install_capabilities();
DELETE FROM apikeys_private.apikey_member WHERE user_id OPERATOR(pg_catalog.=) 'nobody';
INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES ('security_names3', 'Third');
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES ('security_names3', 'bob', '');
UPDATE apikeys_private.apikey_org SET plan = 'enterprise', org_id = 'security_names4' WHERE org_id OPERATOR(pg_catalog.=) 'security_names3';
UPDATE apikeys_private.apikey_org SET plan = 'free' WHERE org_id OPERATOR(pg_catalog.=) 'security_names4';
SELECT org_id, user_id FROM apikeys_private.apikey_member WHERE user_id OPERATOR(pg_catalog.=) 'bob';
ROLLBACK;
SELECT "check", detail FROM public.apikey_selfcheck() WHERE NOT ok;
SET search_path = security_names_evil, pg_catalog;
-- so the traps are set: what is not ours does fall into them
SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text;
SELECT count(*) FROM (VALUES (1)) AS t;
SELECT now();
RESET search_path;
DROP SCHEMA security_names_evil CASCADE;

-- attack 2, sibling: overloads that fit better, in the extension's own schemas,
-- by somebody whom a DBA let create there
BEGIN;
GRANT USAGE, CREATE ON SCHEMA public, apikeys_private TO regress_names_owner;
SET LOCAL ROLE regress_names_owner;
CREATE FUNCTION apikeys_private.apikey_visible_org(x int DEFAULT 0) RETURNS text LANGUAGE sql RETURN 'other';
CREATE FUNCTION apikeys_private.apikey_own_seat(VARIADIC x int[]) RETURNS text LANGUAGE sql RETURN 'other';
CREATE FUNCTION apikeys_private.apikey_is_name(varchar) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION apikeys_private.apikey_is_id(varchar) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION apikeys_private.apikey_digest_suffix(text) RETURNS text LANGUAGE sql RETURN 'X';
CREATE FUNCTION digest(bytea, varchar) RETURNS bytea LANGUAGE sql RETURN NULL::bytea;
RESET ROLE;
SET LOCAL ROLE regress_names_user;
SELECT security_names_life();
ROLLBACK;

-- attack 3: objects with our names in the target schema, or our other schema:
-- no extension then
BEGIN;
DROP EXTENSION apikeys;
CREATE SCHEMA security_names_target AUTHORIZATION regress_names_owner;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_names_owner', current_database()) \gexec
SET LOCAL search_path = security_names_target;
CREATE FUNCTION pg_temp.try(what pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
	state text;
BEGIN
	SET LOCAL ROLE regress_names_owner;
	EXECUTE replace(what, '@', 'security_names_target.');
	RESET ROLE;
	CREATE EXTENSION apikeys SCHEMA security_names_target;
	RETURN 'installed';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
	RETURN state;
END $$;
SELECT what, pg_temp.try(what) FROM (VALUES
	('CREATE DOMAIN @apikey_level AS text'),
	('CREATE FUNCTION @apikey_suffix(text) RETURNS text LANGUAGE sql RETURN $1'),
	('CREATE FUNCTION @apikey_selfcheck() RETURNS text LANGUAGE sql RETURN ''x'''),
	('CREATE VIEW @apikeys AS SELECT 1'),
	('CREATE TABLE @apikey_stats (org_id text)'),
	('CREATE SCHEMA apikeys_private'),
	('CREATE SCHEMA apikeys_private CREATE TABLE apikey_key (digest bytea)'),
	('CREATE SCHEMA apikeys_private CREATE VIEW of_mine AS SELECT 1'),
	('CREATE FUNCTION @apikey_create(text, text, timestamptz) RETURNS text LANGUAGE sql RETURN $1')) AS t (what);
-- the last one does not meet ours; that it fits better, the self-check tells
SELECT "check", detail FROM security_names_target.apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- attack 3: objects with other signatures, with the names of what is in our
-- other schema, or with names that the script uses: the extension does not come
-- to depend on any of them
BEGIN;
DROP EXTENSION apikeys;
CREATE SCHEMA security_names_target AUTHORIZATION regress_names_owner;
SET LOCAL ROLE regress_names_owner;
CREATE DOMAIN security_names_target.text AS varchar(1);
CREATE DOMAIN security_names_target.timestamptz AS varchar(1);
CREATE FUNCTION security_names_target.apikey_visible_org() RETURNS pg_catalog.text LANGUAGE sql RETURN 'x';
CREATE FUNCTION security_names_target.apikey_admin_org(x int DEFAULT 0) RETURNS pg_catalog.text LANGUAGE sql RETURN 'x';
CREATE TABLE security_names_target.apikey_org (org_id pg_catalog.text);
CREATE TABLE security_names_target.apikey_key_digest_excl (org_id pg_catalog.text);
CREATE TYPE security_names_target.apikey_identity AS (org_id pg_catalog.text);
CREATE SEQUENCE security_names_target.apikey_key_id_seq;
CREATE FUNCTION security_names_target.apikey_is_id(varchar) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION security_names_target.apikey_digest_suffix(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql RETURN 'x';
CREATE FUNCTION security_names_target.octet_length(bytea) RETURNS int LANGUAGE sql RETURN 32;
CREATE FUNCTION security_names_target.now() RETURNS pg_catalog.timestamptz LANGUAGE sql RETURN '1970-01-01'::pg_catalog.timestamptz;
CREATE FUNCTION security_names_target.equal(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql RETURN true;
CREATE OPERATOR security_names_target.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = security_names_target.equal);
RESET ROLE;
SET LOCAL search_path = security_names_target, pg_catalog;
CREATE EXTENSION apikeys SCHEMA security_names_target;
SET LOCAL search_path = pg_catalog;
DROP OPERATOR security_names_target.= (pg_catalog.text, pg_catalog.text);
DROP TABLE security_names_target.apikey_org, security_names_target.apikey_key_digest_excl;
DROP TYPE security_names_target.apikey_identity;
DROP SEQUENCE security_names_target.apikey_key_id_seq;
DROP FUNCTION security_names_target.apikey_visible_org(), security_names_target.apikey_admin_org(int),
	security_names_target.apikey_is_id(varchar), security_names_target.apikey_digest_suffix(text),
	security_names_target.octet_length(bytea), security_names_target.now(),
	security_names_target.equal(text, text);
DROP DOMAIN security_names_target.text, security_names_target.timestamptz;
SELECT "check", detail FROM security_names_target.apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- attack 3, sibling: default privileges give nobody more than is delivered
BEGIN;
DROP EXTENSION apikeys;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_names_user;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_names_user;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_names_user;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_names_user WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_names_user;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC;
CREATE EXTENSION apikeys;
SELECT has_schema_privilege('regress_names_user', 'apikeys_private', 'USAGE, CREATE') AS schema,
	has_table_privilege('regress_names_user', 'apikeys_private.apikey_key', 'SELECT, UPDATE, TRIGGER') AS "table",
	has_column_privilege('regress_names_user', 'apikeys_private.apikey_key', 'digest', 'SELECT') AS digest,
	has_any_column_privilege('regress_names_user', 'apikeys_private.apikey_org', 'SELECT') AS other,
	has_sequence_privilege('regress_names_user', 'apikeys_private.apikey_key_id_seq', 'USAGE') AS sequence,
	has_function_privilege('regress_names_user', 'apikey_act_as(text, text, boolean)', 'EXECUTE') AS function,
	has_function_privilege('regress_names_user', 'apikeys_private.apikey_guard_key()', 'EXECUTE') AS trigger;
SELECT object, privilege, grantee FROM apikeys_private.apikey_grant_differences(false);
ROLLBACK;

-- the functions of our triggers, by whoever was granted them, for another table
GRANT USAGE ON SCHEMA apikeys_private TO regress_names_user;
GRANT EXECUTE ON FUNCTION apikeys_private.apikey_guard_key(), apikeys_private.apikey_announce_change() TO regress_names_user;
SET ROLE regress_names_user;
CREATE TEMP TABLE security_names_table (a int);
CREATE TRIGGER a BEFORE INSERT ON security_names_table
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_guard_key();
CREATE TRIGGER b AFTER TRUNCATE ON security_names_table
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_announce_change();
INSERT INTO security_names_table VALUES (1);
TRUNCATE security_names_table;
DROP TABLE security_names_table;
RESET ROLE;
-- or for another event of our own
BEGIN;
GRANT TRIGGER ON apikeys_private.apikey_key, apikeys_private.apikey_member TO regress_names_user;
SET ROLE regress_names_user;
CREATE TRIGGER a AFTER DELETE ON apikeys_private.apikey_member
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_announce_change();
CREATE TRIGGER b BEFORE DELETE ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_guard_key();
RESET ROLE;
SELECT apikey_act_as('security_names', 'ann');
SAVEPOINT s;
DELETE FROM apikeys_private.apikey_member WHERE user_id = 'nobody';
ROLLBACK TO s;
SELECT apikey_delete(apikey_suffix(apikey_create('key')));
ROLLBACK;
REVOKE EXECUTE ON FUNCTION apikeys_private.apikey_guard_key(), apikeys_private.apikey_announce_change() FROM regress_names_user;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_names_user;

SELECT apikey_remove_org('security_names');
DELETE FROM apikeys_private.apikey_capability WHERE capability = 'security_names';
DROP FUNCTION security_names_life();
DROP OWNED BY regress_names_user;
DROP ROLE regress_names_user, regress_names_owner;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
