-- What a principal may do is read when it is used; and what policies on other
-- tables, parallel workers and code of others make of it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never
\pset null -
\getenv helpers PG_ABS_SRCDIR
\set helpers :helpers '/helpers/principal.sql'
\i :helpers

--
-- The principal is who; what it may do is read when it is used.
--
CREATE FUNCTION pg_temp.may() RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.who() || format(', sees %s, creates %s', (SELECT count(*) FROM apikeys),
		pg_temp.try($q$SELECT apikey_create('may')$q$))
$$;
-- The application changes members while it acts for one.
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', NULL, 'standard') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', NULL, 'guest') \gset
SELECT pg_temp.may();
SELECT apikey_remove_member('principal-one', 'ann') \gset
SELECT pg_temp.may();
SELECT apikey_save_member('principal-one', 'ann', 'back@one.example', 'admin') \gset
SELECT pg_temp.may();
SELECT apikey_remove_org('principal-one') \gset
SELECT pg_temp.may();
ROLLBACK;
-- A session's principal that is gone is nobody, not the database role.
RESET SESSION AUTHORIZATION;
SET apikeys.session_principal = on;
SET SESSION AUTHORIZATION regress_principal_app;
SELECT apikey_save_member('principal-two', 'tmp', 'tmp@two.example', 'admin') \gset
SELECT apikey_act_as('principal-two', 'tmp', session => true) \gset
SELECT pg_temp.who();
SELECT apikey_remove_member('principal-two', 'tmp') \gset
SELECT pg_temp.who();
RESET SESSION AUTHORIZATION;
SET ROLE regress_principal_bob;
SELECT pg_temp.who() AS not_bob;
RESET ROLE;
RESET apikeys.principal;
-- A key: deleted, expired, raised, lowered, its owner removed
SELECT level FROM apikey_authenticate(:'admin', session => true);
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_low') AS low, apikey_allows('principal_middle') AS middle;
UPDATE apikeys_private.apikey_key SET expires_at = '2001-01-01' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_low') AS low;
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity', level = 'admin' WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who(), apikey_allows('principal_high') AS high;
BEGIN;
DELETE FROM apikeys_private.apikey_key WHERE suffix = apikey_suffix(:'admin') AND org_id = 'principal-one';
SELECT pg_temp.who();
ROLLBACK;
SELECT pg_temp.who();
BEGIN;
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'principal-one' AND user_id = 'ann';
SELECT pg_temp.who(), pg_temp.try('SELECT apikey_create(''may'')') AS creates;
ROLLBACK;
RESET apikeys.principal;
SELECT legacy FROM apikey_authenticate('principal-legacy-key', session => true);
SELECT pg_temp.who();
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'principal-two';
SELECT pg_temp.who();
RESET apikeys.principal;
-- A renamed database role is another, until the member is saved with its name.
ALTER ROLE regress_principal_bob RENAME TO regress_principal_rob;
SET ROLE regress_principal_rob;
SELECT pg_temp.who();
RESET ROLE;
ALTER ROLE regress_principal_rob RENAME TO regress_principal_bob;
SET ROLE regress_principal_bob;
SELECT pg_temp.who();
RESET ROLE;

--
-- A table of one's own, with policies by the principal
--
CREATE TABLE principal_orders (org_id text COLLATE "C", what text, secret boolean);
INSERT INTO principal_orders VALUES ('principal-one', 'one', false), ('principal-one', 'secret of one', true),
	('principal-two', 'two', false), ('principal-two', 'secret of two', true);
ALTER TABLE principal_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON principal_orders USING (org_id = (SELECT apikey_current_org())
	AND (SELECT apikey_current_level()) >= CASE WHEN secret THEN 'architect' ELSE 'standard' END::apikey_level);
GRANT SELECT, INSERT ON principal_orders TO regress_principal_app, regress_principal_bob, regress_principal_eve;
SET SESSION AUTHORIZATION regress_principal_app;
CREATE FUNCTION pg_temp.orders() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(what, ', ' ORDER BY what) FROM principal_orders
$$;
SELECT pg_temp.orders() AS nobody;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
SELECT pg_temp.orders() AS admin;
SELECT pg_temp.try($$INSERT INTO principal_orders VALUES ('principal-one', 'new', false)$$) AS own, pg_temp.try($$INSERT INTO principal_orders VALUES ('principal-two', 'new', false)$$) AS other;
ROLLBACK;
BEGIN;
SELECT apikey_act_as('principal-one', 'gus') \gset
SELECT pg_temp.orders() AS guest;
COMMIT;
BEGIN;
SELECT apikey_act_as('principal-two', 'ann') \gset
SELECT pg_temp.orders() AS standard_of_two;
COMMIT;
BEGIN;
SELECT level FROM apikey_authenticate(:'standard');
SELECT pg_temp.orders() AS standard_key;
COMMIT;
BEGIN;
SELECT level FROM apikey_authenticate(:'admin');
SELECT pg_temp.orders() AS admin_key;
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_principal_bob;
SELECT pg_temp.orders() AS by_database_role;
RESET SESSION AUTHORIZATION;

--
-- Code of others. SECURITY DEFINER changes current_user, hence who acts by
-- database role, and not who acts by a principal that was set.
--
GRANT CREATE ON SCHEMA public TO regress_principal_bob;
SET SESSION AUTHORIZATION regress_principal_bob;
CREATE FUNCTION principal_bobs() RETURNS text LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT apikey_current_user() || ' sees ' || (SELECT count(*) FROM apikeys) $$;
CREATE FUNCTION principal_anyones() RETURNS text LANGUAGE sql AS
	$$ SELECT apikey_current_user() || ' sees ' || (SELECT count(*) FROM apikeys) $$;
SELECT principal_bobs(), principal_anyones();
SET SESSION AUTHORIZATION regress_principal_eve;
SELECT principal_bobs(), principal_anyones();
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
SELECT principal_bobs(), principal_anyones();
COMMIT;
-- In a parallel worker it is the same.
CREATE FUNCTION pg_temp.parallel(mode text) RETURNS text LANGUAGE sql AS $$
	SELECT set_config(name, mode, true) FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode')
$$;
CREATE FUNCTION pg_temp.gathers(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || statement LOOP
		IF line ~ 'Gather' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END $$;
BEGIN;
SELECT pg_temp.parallel('on'),
	pg_temp.gathers('SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(), apikey_current_suffix(), apikey_allows(''principal_high'')') AS gathers;
COMMIT;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
SELECT pg_temp.parallel('regress');
SELECT apikey_current_org(), apikey_current_user(), apikey_current_role(), apikey_current_level(), apikey_allows('principal_middle');
ROLLBACK;
BEGIN;
SELECT level FROM apikey_authenticate(:'admin');
SELECT pg_temp.parallel('regress');
SELECT apikey_current_org(), apikey_current_user(), apikey_current_level(), apikey_current_suffix() = apikey_suffix(:'admin') AS suffix, apikey_allows('principal_high');
ROLLBACK;
-- What is refreshed is nobody's, whoever refreshes it.
SET SESSION AUTHORIZATION regress_principal_bob;
CREATE MATERIALIZED VIEW principal_view AS SELECT name, apikey_current_user() AS who FROM apikeys;
SELECT * FROM principal_view;
CREATE MATERIALIZED VIEW principal_one AS SELECT apikey_current_user() AS who, apikey_current_level() AS level;
SELECT * FROM principal_one;
SELECT apikey_current_user(), (SELECT count(*) FROM apikeys);
REFRESH MATERIALIZED VIEW principal_view;
REFRESH MATERIALIZED VIEW principal_one;
SELECT count(*), (SELECT who FROM principal_one) FROM principal_view;
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT apikey_act_as('principal-one', 'ann') \gset
REFRESH MATERIALIZED VIEW principal_one;
SELECT who, apikey_current_user() FROM principal_one;
COMMIT;
-- An index expression would keep somebody's identity for all.
SELECT pg_temp.try('CREATE INDEX ON principal_orders ((apikey_current_user()))');
-- A deferred trigger runs at commit as who committed, before the principal is gone.
CREATE TABLE principal_log (who text, level apikey_level);
CREATE FUNCTION principal_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
	INSERT INTO public.principal_log VALUES (public.apikey_current_user(), public.apikey_current_level());
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER log AFTER INSERT ON principal_orders DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION principal_log();
SET SESSION AUTHORIZATION regress_principal_app;
BEGIN;
SELECT apikey_act_as('principal-one', 'arc') \gset
INSERT INTO principal_orders VALUES ('principal-one', 'deferred', true);
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT * FROM principal_log;

DROP MATERIALIZED VIEW principal_view, principal_one;
DROP TABLE principal_orders, principal_log;
DROP FUNCTION principal_log, principal_bobs, principal_anyones;
DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'principal%';
SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'principal-%' \g /dev/null
DROP OWNED BY regress_principal_app, regress_principal_bob, regress_principal_eve;
DROP ROLE regress_principal_app, regress_principal_bob, regress_principal_eve;
