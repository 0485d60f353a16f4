-- Attacks 12 to 15: gaining rights: over levels and columns, with a leaked key,
-- by what one was or the plan was, and over a legacy key. By the functions, and
-- by plain DML of those whom a DBA granted too much.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
SET apikeys.session_principal = on;	-- so that a principal can last
CREATE ROLE regress_rights_app;		-- the application
CREATE ROLE regress_rights_bob;		-- an architect
CREATE ROLE regress_rights_ann;		-- an admin
SELECT apikey_grant_application('regress_rights_app');
SELECT apikey_save_org('security_rights', 'Rights', 'enterprise');
SELECT apikey_save_org('security_rights2', 'Other', 'enterprise');
SELECT apikey_save_member('security_rights', 'ann', 'ann@example.com', 'admin', 'regress_rights_ann');
SELECT apikey_save_member('security_rights', 'bob', 'bob@example.com', 'architect', 'regress_rights_bob');
SELECT apikey_save_member('security_rights', 'eve', 'eve@example.com', 'standard');
SELECT apikey_save_member('security_rights', 'gus', 'gus@example.com', 'guest');
SELECT apikey_save_member('security_rights2', 'mal', 'mal@example.com', 'admin');
BEGIN;
SELECT apikey_act_as('security_rights', 'ann');
SELECT apikey_create('anns', 'admin') AS ann \gset
SELECT apikey_act_as('security_rights', 'bob');
SELECT apikey_create('bobs', 'architect') AS bob \gset
SELECT apikey_act_as('security_rights', 'eve');
SELECT apikey_create('eves') AS eve \gset
COMMIT;
SELECT apikey_import_legacy('security_rights', 'security_rights legacy');
CREATE FUNCTION pg_temp.outcome(query text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	rows bigint;
BEGIN
	EXECUTE format(query, VARIADIC args);
	GET DIAGNOSTICS rows = ROW_COUNT;
	RETURN 'done, rows ' || rows;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	RETURN state || ' ' || message;
END $$;
-- the keys, whoever asks
CREATE FUNCTION pg_temp.keys() RETURNS TABLE (org_id text, owner_id text, name text, level apikey_level, recent boolean) LANGUAGE sql AS $$
	SELECT org_id, owner_id, name, level, created_at > now() - interval '1 hour' FROM apikeys_private.apikey_key WHERE org_id LIKE 'security_rights%' ORDER BY 1, 2, 3 $$;

-- attack 12: a level above one's role, by every way to get one
SET ROLE regress_rights_bob;
SELECT pg_temp.outcome('SELECT apikey_create(%L, %L)', 'x', 'admin');
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => %L)', apikey_suffix(:'bob'), 'admin');
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => %L)', apikey_suffix(:'bob'), 'ADMIN');
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => %L)', apikey_suffix(:'bob'), 'owner');
-- somebody else's key, as architect and as admin: an admin deletes, no more
SELECT pg_temp.outcome('SELECT apikey_update(%L, %L)', apikey_suffix(:'ann'), 'x');
SET ROLE regress_rights_ann;
SELECT pg_temp.outcome('SELECT apikey_update(%L, %L)', apikey_suffix(:'bob'), 'x');
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => %L)', apikey_suffix(:'bob'), 'admin');
SELECT pg_temp.outcome('SELECT apikey_update(%L, expires_at => %L)', apikey_suffix(:'bob'), 'infinity');
SELECT pg_temp.outcome('SELECT apikey_rotate(%L)', apikey_suffix(:'bob'));
-- no function takes an owner, an organization, a digest or a date of creation
SELECT p.proname, a.name FROM pg_proc p, unnest(p.proargnames) a (name)
WHERE p.oid IN ('apikey_create'::regproc, 'apikey_update'::regproc, 'apikey_rotate'::regproc, 'apikey_delete'::regproc)
ORDER BY 1, 2;

-- attack 12, by DML. Without grants there is none.
SET ROLE regress_rights_bob;
SELECT dml, pg_temp.outcome(dml) FROM unnest(ARRAY[
	'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''security_rights'', ''bob'', ''x'', ''standard'', sha256(''x''))',
	'UPDATE apikeys_private.apikey_key SET name = ''x''',
	'UPDATE apikeys_private.apikey_member SET role = ''admin''',
	'UPDATE apikeys_private.apikey_org SET plan = ''enterprise''',
	'DELETE FROM apikeys_private.apikey_key',
	'DELETE FROM apikeys_private.apikey_legacy',
	'TRUNCATE apikeys_private.apikey_key',
	'UPDATE apikeys SET name = ''x''',
	'DELETE FROM apikeys_mine',
	'INSERT INTO apikeys_legacy (org_id) VALUES (''security_rights'')',
	'SELECT 1 FROM apikeys_private.apikey_key FOR UPDATE']) dml;
RESET ROLE;
-- A DBA granted all that policies govern. What the functions refuse is refused.
BEGIN;
GRANT USAGE ON SCHEMA apikeys_private TO regress_rights_bob, regress_rights_ann;
GRANT SELECT, INSERT, UPDATE, DELETE ON apikeys_private.apikey_org, apikeys_private.apikey_member, apikeys_private.apikey_key, apikeys_private.apikey_legacy TO regress_rights_bob, regress_rights_ann;
GRANT USAGE ON SEQUENCE apikeys_private.apikey_key_id_seq TO regress_rights_bob;
SET LOCAL ROLE regress_rights_bob;
SELECT change, pg_temp.outcome('UPDATE apikeys_private.apikey_key SET ' || change || ' WHERE name = ''bobs''') FROM unnest(ARRAY[
	'level = ''admin''',
	'owner_id = ''ann''',
	'org_id = ''security_rights2'', owner_id = ''mal''',
	'digest = sha256(''x'')',
	'suffix = ''0000000''',
	'created_at = ''2000-01-01''',
	'key_id = 1',
	'key_id = DEFAULT',
	'(owner_id, level) = (''ann'', ''admin'')']) change;
SELECT dml, pg_temp.outcome(dml) FROM unnest(ARRAY[
	'UPDATE apikeys_private.apikey_key SET name = ''x'' WHERE owner_id = ''ann''',
	'UPDATE apikeys_private.apikey_key SET name = ''x'' WHERE level = ''standard''',
	'UPDATE apikeys_private.apikey_member SET role = ''admin''',
	'UPDATE apikeys_private.apikey_member SET db_role = ''regress_rights_bob''',
	'UPDATE apikeys_private.apikey_org SET plan = ''enterprise''',
	'UPDATE apikeys_private.apikey_legacy SET digest = sha256(''x'')',
	'DELETE FROM apikeys_private.apikey_key WHERE owner_id <> ''bob''',
	'DELETE FROM apikeys_private.apikey_legacy',
	'DELETE FROM apikeys_private.apikey_member',
	'DELETE FROM apikeys_private.apikey_org',
	'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at) VALUES (''security_rights'', ''bob'', ''x'', ''admin'', sha256(''x''), ''2000-01-01'')',
	'INSERT INTO apikeys_private.apikey_key SELECT * FROM apikeys_private.apikey_key ON CONFLICT DO NOTHING',
	'INSERT INTO apikeys_private.apikey_key (key_id, org_id, owner_id, name, level, digest) SELECT key_id, org_id, owner_id, name, ''admin'', digest FROM apikeys_private.apikey_key ON CONFLICT (key_id) DO UPDATE SET level = ''admin''',
	'MERGE INTO apikeys_private.apikey_key k USING (VALUES (''bobs'')) v (name) ON k.name = v.name WHEN MATCHED THEN UPDATE SET level = ''admin''',
	'MERGE INTO apikeys_private.apikey_key k USING (VALUES (''anns'')) v (name) ON k.name = v.name WHEN MATCHED THEN UPDATE SET name = ''x''',
	'MERGE INTO apikeys_private.apikey_key k USING (VALUES (''anns'')) v (name) ON k.name = v.name WHEN MATCHED THEN DELETE',
	'MERGE INTO apikeys_private.apikey_key k USING (VALUES (''new'')) v (name) ON k.name = v.name WHEN NOT MATCHED THEN INSERT (org_id, owner_id, name, level, digest) VALUES (''security_rights'', ''bob'', v.name, ''standard'', sha256(''x''))',
	'WITH x AS (UPDATE apikeys_private.apikey_key SET level = ''admin'' RETURNING 1) SELECT * FROM x']) dml;
-- what it may do by functions it may do here
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET name = ''renamed'', level = ''standard'' WHERE name = ''bobs''');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET level = ''architect'' WHERE name = ''renamed''');
-- nor a column that the DBA added
RESET ROLE;
ALTER TABLE apikeys_private.apikey_key ADD COLUMN note text DEFAULT 'a note';
SET LOCAL ROLE regress_rights_bob;
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET note = ''x'' WHERE name = ''renamed''');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET name = ''renamed'', note = note WHERE name = ''renamed''');
RESET ROLE;
ALTER TABLE apikeys_private.apikey_key DROP COLUMN note;
-- an admin changes its own, deletes any of the organization
SET LOCAL ROLE regress_rights_ann;
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET name = ''x'' WHERE owner_id <> ''ann''');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET owner_id = ''bob'' WHERE owner_id = ''ann''');
SELECT pg_temp.outcome('DELETE FROM apikeys_private.apikey_key WHERE org_id <> ''security_rights''');
RESET ROLE;
SELECT * FROM pg_temp.keys();
SELECT apikey_check_level(:'ann', 'admin') AND apikey_check_level(:'bob', 'architect') AND apikey_check_level(:'eve', 'standard') AS "same values",
	apikey_check_level(:'bob', 'admin') OR apikey_check_level(:'eve', 'architect') AS "more than before";
SET LOCAL ROLE regress_rights_ann;
SELECT pg_temp.outcome('DELETE FROM apikeys_private.apikey_key');
ROLLBACK;
-- A superuser, too, is held to the rules for a new key, and for one that is
-- raised or given to another
SELECT pg_temp.outcome('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''security_rights'', ''eve'', ''x'', ''admin'', sha256(''x''))');
SELECT pg_temp.outcome('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''security_rights'', ''gus'', ''x'', ''standard'', sha256(''x''))');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET level = ''admin'' WHERE owner_id = ''eve''');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET owner_id = ''eve'' WHERE owner_id = ''ann'' AND org_id = ''security_rights''');
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_key SET suffix = ''0000000'' WHERE owner_id = ''eve''');
SELECT * FROM pg_temp.keys();

-- attack 13: a key that was presented, of the highest level and a legacy one,
-- by functions and by DML that was granted
GRANT USAGE ON SCHEMA apikeys_private TO regress_rights_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON apikeys_private.apikey_key, apikeys_private.apikey_legacy TO regress_rights_app;
SET apikeys.seal_principal = off;
CREATE FUNCTION pg_temp.as_key(value text) RETURNS TABLE (what text, outcome text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE regress_rights_app;
	PERFORM apikey_authenticate(value);
	what := 'who';
	outcome := concat_ws(' ', apikey_current_org(), apikey_current_user(), apikey_current_level(), apikey_current_role(),
		(SELECT count(*) FROM apikeys), (SELECT count(*) FROM apikeys_mine), (SELECT count(*) FROM apikeys_legacy), (SELECT count(*) FROM apikeys_private.apikey_member));
	RETURN NEXT;
	FOREACH what IN ARRAY ARRAY[
		'SELECT apikey_create(''x'')',
		'SELECT apikey_update(%L, ''x'')',
		'SELECT apikey_rotate(%L)',
		'SELECT apikey_delete(%L)',
		'SELECT apikey_delete_all(''eve'')',
		'SELECT apikey_delete_legacy()',
		'UPDATE apikeys_private.apikey_key SET name = ''x''',
		'DELETE FROM apikeys_private.apikey_key',
		'DELETE FROM apikeys_private.apikey_legacy',
		'SELECT 1 FROM apikeys_private.apikey_key'] LOOP
		outcome := pg_temp.outcome(what, apikey_suffix(value));
		RETURN NEXT;
	END LOOP;
END $$;
BEGIN; SELECT * FROM pg_temp.as_key(:'ann'); ROLLBACK;
BEGIN; SELECT * FROM pg_temp.as_key('security_rights legacy'); ROLLBACK;
-- nor does it help to be a member's database role as well
BEGIN;
GRANT EXECUTE ON FUNCTION apikey_authenticate(text, boolean) TO regress_rights_ann;
SET LOCAL ROLE regress_rights_ann;
SELECT user_id FROM apikey_authenticate(:'eve');
SELECT pg_temp.outcome('SELECT apikey_create(''x'')'), (SELECT count(*) FROM apikeys);
ROLLBACK;
REVOKE SELECT, INSERT, UPDATE, DELETE ON apikeys_private.apikey_key, apikeys_private.apikey_legacy FROM regress_rights_app;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_rights_app;
RESET apikeys.seal_principal;

-- attack 14: what one was. The session goes on while its member is demoted,
-- becomes a guest, is removed, comes back; while the plan changes.
SET ROLE regress_rights_app;
SELECT apikey_act_as('security_rights', 'bob', session => true);
SELECT apikey_save_member('security_rights', 'bob', NULL, 'standard');
SELECT apikey_current_role(), apikey_current_level();
SELECT pg_temp.outcome('SELECT apikey_create(''x'', ''architect'')');
SELECT pg_temp.outcome('SELECT apikey_rotate(%L)', apikey_suffix(:'bob'));
-- the key stays, may be renamed and lowered, and not raised again
SELECT apikey_check_level(:'bob', 'architect');
SELECT pg_temp.outcome('SELECT apikey_update(%L, ''kept'')', apikey_suffix(:'bob'));
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => ''standard'')', apikey_suffix(:'bob'));
SELECT pg_temp.outcome('SELECT apikey_update(%L, level => ''architect'')', apikey_suffix(:'bob'));
SELECT apikey_save_member('security_rights', 'bob', NULL, 'guest');
SELECT apikey_current_role(), apikey_current_level() IS NULL AS no_level, (SELECT count(*) FROM apikeys) AS keys;
SELECT call, pg_temp.outcome(call, apikey_suffix(:'bob')) FROM unnest(ARRAY[
	'SELECT apikey_create(''x'')', 'SELECT apikey_update(%L, ''x'')', 'SELECT apikey_rotate(%L)', 'SELECT apikey_delete(%L)', 'SELECT apikey_delete_all(''eve'')']) call;
SELECT apikey_check_level(:'bob', 'standard') AS "key goes on";
SELECT apikey_remove_member('security_rights', 'bob');
SELECT apikey_current_user(), (SELECT count(*) FROM apikeys) AS keys;
SELECT pg_temp.outcome('SELECT apikey_create(''x'')');
SELECT apikey_check_level(:'bob', 'standard') AS "key goes on";
SELECT apikey_save_member('security_rights', 'bob', 'bob@example.com', 'architect');
SELECT apikey_current_role(), (SELECT count(*) FROM apikeys) AS keys;
SELECT apikey_check_level(:'bob', 'standard') AS "key goes on";
SELECT pg_temp.outcome('SELECT apikey_update(%L, ''x'')', apikey_suffix(:'bob'));
SELECT apikey_create('new', 'architect') AS bob \gset
-- the plan cannot go while there is an architect; then it can, keys stay, and
-- there is no new one of that level
SELECT pg_temp.outcome('SELECT apikey_save_org(''security_rights'', NULL, ''business'')');
SELECT apikey_save_member('security_rights', 'bob', NULL, 'admin');
SELECT apikey_save_org('security_rights', NULL, 'business');
SELECT apikey_check_level(:'bob', 'architect');
SELECT call, pg_temp.outcome(call, apikey_suffix(:'bob')) FROM unnest(ARRAY[
	'SELECT apikey_create(''x'', ''architect'')', 'SELECT apikey_rotate(%L)', 'SELECT apikey_update(%L, ''renamed'')',
	'SELECT apikey_update(%L, level => ''admin'')', 'SELECT apikey_update(%L, level => ''architect'')',
	'SELECT apikey_save_member(''security_rights'', ''bob'', NULL, ''architect'')']) call;
RESET apikeys.principal;
RESET ROLE;

-- attack 15: a legacy key has no name, level or suffix to change
SET ROLE regress_rights_ann;
SELECT org_id, owner_id, name, level, suffix FROM apikeys_legacy;
SELECT apikey_suffix('security_rights legacy') IS NULL AS "no suffix";
SELECT call, pg_temp.outcome(call) FROM unnest(ARRAY[
	'SELECT apikey_update('''', ''x'')', 'SELECT apikey_update('' legacy'', level => ''standard'')',
	'SELECT apikey_update(NULL, ''x'')', 'SELECT apikey_rotate('''')', 'SELECT apikey_delete('''')',
	'SELECT apikey_delete('' legacy'')', 'UPDATE apikeys_legacy SET name = ''x''',
	'SELECT apikey_import_legacy(''security_rights'', ''another legacy key'')']) call;
RESET ROLE;
BEGIN;
GRANT USAGE ON SCHEMA apikeys_private TO regress_rights_ann;
GRANT SELECT, UPDATE ON apikeys_private.apikey_legacy TO regress_rights_ann;
SET LOCAL ROLE regress_rights_ann;
SELECT pg_temp.outcome('UPDATE apikeys_private.apikey_legacy SET created_at = now()');
SELECT pg_temp.outcome('SELECT 1 FROM apikeys_private.apikey_legacy FOR UPDATE');
ROLLBACK;
-- there is one for an organization, and none that looks like a native value
SELECT pg_temp.outcome('SELECT apikey_import_legacy(''security_rights'', ''another legacy key'')');
SELECT pg_temp.outcome('SELECT apikey_import_legacy(''security_rights2'', %L)', :'ann');
SELECT pg_temp.outcome('SELECT apikey_import_legacy(''security_rights2'', %L)', 'security_rights legacy');
SELECT apikey_check_level('security_rights legacy', 'admin');
SELECT apikey_check_level('security_rights legacy/0000000', 'standard');
SET ROLE regress_rights_ann;
SELECT apikey_delete_legacy();
RESET ROLE;
SELECT apikey_check_level('security_rights legacy', 'standard');

-- The policy of changes refuses by itself to give a key away, were our trigger not
-- there; also where nothing is read, by which that of seeing is not asked.
BEGIN;
SELECT apikey_save_member('security_rights', 'bob', 'bob@example.com', 'standard', 'regress_rights_bob');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('security_rights', 'bob', 'bobs', 'standard', sha256('rights'));
GRANT USAGE ON SCHEMA apikeys_private TO regress_rights_bob;
GRANT SELECT, UPDATE ON apikeys_private.apikey_key TO regress_rights_bob;
ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER apikey_guard;
SET LOCAL ROLE regress_rights_bob;
SELECT pg_temp.outcome($$UPDATE apikeys_private.apikey_key SET name = 'mine' WHERE owner_id = 'bob'$$) AS mine,
	pg_temp.outcome($$UPDATE apikeys_private.apikey_key SET owner_id = 'ann' WHERE owner_id = 'bob'$$) AS given_away,
	pg_temp.outcome($$UPDATE apikeys_private.apikey_key SET owner_id = 'ann'$$) AS unseen;
ROLLBACK;

SELECT apikey_remove_org('security_rights'), apikey_remove_org('security_rights2');
DROP OWNED BY regress_rights_app, regress_rights_bob, regress_rights_ann;
DROP ROLE regress_rights_app, regress_rights_bob, regress_rights_ann;
