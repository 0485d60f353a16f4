-- Changing one's keys: renaming, raising and lowering, expiry and rotation; what
-- demoted members may still do; that only one's own keys can be changed.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
SET apikeys.session_principal = on;	-- so that a principal can last
\set SHOW_CONTEXT never

-- Runs a statement; returns "ok" or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE ROLE regress_update_app;
SELECT apikey_grant_application('regress_update_app') \gset
SELECT apikey_save_org('update-ent', 'Enterprise', 'enterprise'),
	apikey_save_member('update-ent', 'ann', 'ann@example.com', 'admin'),
	apikey_save_member('update-ent', 'arc', 'arc@example.com', 'architect'),
	apikey_save_member('update-ent', 'bob', 'bob@example.com', 'standard'),
	apikey_save_org('update-biz', 'Business', 'business'),
	apikey_save_member('update-biz', 'ann', 'ann@example.org', 'admin'),
	apikey_import_legacy('update-ent', 'update-legacy/LEGACY7') \gset

SET SESSION AUTHORIZATION regress_update_app;
SELECT apikey_act_as('update-ent', 'ann', session => true) \gset
SELECT apikey_create('deploy') AS value \gset
SELECT apikey_suffix(:'value') AS suffix \gset

--
-- Name, level and expiry, one by one and together; NULL leaves what is there,
-- and nothing else changes.
--
RESET SESSION AUTHORIZATION;
CREATE TEMP TABLE before AS SELECT * FROM apikeys_private.apikey_key WHERE org_id = 'update-ent' AND owner_id = 'ann';
CREATE FUNCTION pg_temp.changed() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s: %s', n.key, CASE WHEN n.value IS NOT DISTINCT FROM b.value THEN 'same' ELSE COALESCE(n.value, 'never') END), ', ' ORDER BY n.key)
	FROM before, jsonb_each_text(to_jsonb(before)) b,
		(SELECT k FROM apikeys_private.apikey_key k WHERE k.key_id IN (SELECT key_id FROM before)) s (k),
		jsonb_each_text(to_jsonb(k)) n
	WHERE n.key = b.key AND (n.key IN ('name', 'level', 'expires_at') OR n.value IS DISTINCT FROM b.value)
$$;
SELECT apikey_update(:'suffix') \gset
SELECT pg_temp.changed();
SELECT apikey_update(:'suffix', NULL, NULL, NULL) \gset
SELECT pg_temp.changed();
SELECT apikey_update(:'suffix', 'release') \gset
SELECT pg_temp.changed();
SELECT apikey_update(:'suffix', level => 'admin') \gset
SELECT pg_temp.changed(), apikey_check_level(:'value', 'admin');
SELECT apikey_update(:'suffix', level => 'architect') \gset
SELECT pg_temp.changed(), apikey_check_level(:'value', 'architect') AS architect, apikey_check_level(:'value', 'admin') AS admin;
SELECT apikey_update(:'suffix', expires_at => '2099-01-01 00:00+00') \gset
SET timezone = 'UTC';
SELECT pg_temp.changed(), apikey_check_level(:'value', 'architect');
SELECT apikey_update(:'suffix', 'soon') \gset
SELECT pg_temp.changed();
SELECT apikey_update(:'suffix', level => 'admin') \gset
SELECT pg_temp.changed();
SELECT apikey_update(:'suffix', 'deploy', 'standard', 'infinity') \gset
SELECT pg_temp.changed(), apikey_check_level(:'value', 'standard') AS standard, apikey_check_level(:'value', 'architect') AS architect;
SELECT user_id, level, name, expires_at FROM apikey_verify(:'value');

-- Never is NULL, by whatever way infinity comes, and so it stays when something
-- else changes; a later date than all others is none.
SELECT apikey_update(:'suffix', expires_at => 'infinity') \gset
SELECT expires_at IS NULL AS never FROM apikeys_private.apikey_key WHERE suffix = :'suffix';
UPDATE apikeys_private.apikey_key SET expires_at = '2099-01-01' WHERE suffix = :'suffix';
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity' WHERE suffix = :'suffix' RETURNING expires_at IS NULL AS never;
UPDATE apikeys_private.apikey_key SET name = 'deploy' WHERE suffix = :'suffix' RETURNING expires_at IS NULL AS never;
BEGIN;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, expires_at)
VALUES ('update-ent', 'ann', 'inserted', 'standard', sha256('update-1'), 'infinity'), ('update-ent', 'ann', 'restored', 'standard', sha256('update-2'), NULL)
RETURNING name, expires_at IS NULL AS never;
SET LOCAL session_replication_role = replica;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at, expires_at)
VALUES ('update-ent', 'ann', 'replicated', 'standard', sha256('update-3'), '2001-01-01', 'infinity')
RETURNING name, expires_at IS NULL AS never;
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity' WHERE name = 'replicated' RETURNING name, expires_at IS NULL AS never;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, expires_at)
VALUES ('update-ent', 'ann', 'last', 'standard', sha256('update-4'), '294276-12-31 23:59:59.999999+00')
RETURNING name, expires_at IS NULL AS never;
ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER apikey_guard;
SELECT pg_temp.try('UPDATE apikeys_private.apikey_key SET expires_at = ''infinity'' WHERE name = ''last''') AS without_the_trigger;
ROLLBACK;
SELECT pg_temp.changed();

-- What is refused changes nothing.
SELECT what, pg_temp.try(format('SELECT apikey_update(%L, %s)', :'suffix', what)) FROM (VALUES
	(1, $$name => ''$$),
	(2, $$name => repeat('x', 101)$$),
	(3, $$name => E'a\nb'$$),
	(4, $$expires_at => now()$$),
	(5, $$expires_at => '-infinity'$$),
	(6, $$expires_at => '2001-01-01', level => 'admin', name => 'x'$$)
) v (n, what) ORDER BY n;
SELECT pg_temp.changed();

-- A key that has expired is dead, and its owner can give it more time.
SELECT apikey_update(:'suffix', expires_at => clock_timestamp() + interval '0.2 s') \gset
SELECT pg_sleep(0.25) \gset
SELECT apikey_check_level(:'value', 'standard'), (SELECT status FROM apikey_inspect(:'value'));
SELECT apikey_update(:'suffix', expires_at => 'infinity') \gset
SELECT apikey_check_level(:'value', 'standard');
-- What is rolled back has not been.
BEGIN;
SELECT apikey_update(:'suffix', level => 'admin') \gset
SAVEPOINT s;
SELECT apikey_update(:'suffix', 'lowered again', 'standard') \gset
SELECT apikey_check_level(:'value', 'admin') AS lowered;
ROLLBACK TO s;
SELECT apikey_check_level(:'value', 'admin') AS raised;
ROLLBACK;
SELECT apikey_check_level(:'value', 'admin') AS rolled_back, pg_temp.changed();

--
-- Whose keys: only one's own, even for an admin; what is not there and what is
-- somebody else's look the same.
--
RESET apikeys.principal;
SET SESSION AUTHORIZATION regress_update_app;
SELECT apikey_act_as('update-ent', 'bob', session => true) \gset
SELECT apikey_create('bobs') AS bobs \gset
SELECT apikey_suffix(:'bobs') AS bobs_suffix \gset
SELECT apikey_act_as('update-biz', 'ann', session => true) \gset
SELECT apikey_create('other') AS other \gset
SELECT apikey_suffix(:'other') AS other_suffix \gset
-- by the admin of the organization
SELECT apikey_act_as('update-ent', 'ann', session => true) \gset
SELECT apikey_update(:'bobs_suffix', 'taken');
SELECT apikey_update('0000000', 'taken');
SELECT whose, pg_temp.try(format('SELECT apikey_update(%L, %L)', suffix, 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_update(%L)', suffix)) AS left_alone,
	pg_temp.try(format('SELECT apikey_update(%L, level => %L)', suffix, 'standard')) AS leveled,
	pg_temp.try(format('SELECT apikey_update(%L, expires_at => now() + interval %L)', suffix, '1 day')) AS expired,
	pg_temp.try(format('SELECT apikey_rotate(%L)', suffix)) AS rotated
FROM (VALUES
	(1, 'colleague', :'bobs_suffix'), (2, 'other organization', :'other_suffix'), (3, 'nobody', '0000000'),
	(4, 'legacy', 'LEGACY7'), (5, 'trailing blank', :'suffix' || ' '), (6, 'value', :'value'),
	(7, 'empty', ''), (8, 'wildcards', '%'), (9, 'long', repeat('0', 100000))
) v (n, whose, suffix) ORDER BY n;
-- by a colleague, and by who has the same user_id elsewhere
SELECT apikey_act_as('update-ent', 'bob', session => true) \gset
SELECT pg_temp.try(format('SELECT apikey_update(%L, %L)', :'suffix', 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_rotate(%L)', :'suffix')) AS rotated;
SELECT apikey_act_as('update-biz', 'ann', session => true) \gset
SELECT pg_temp.try(format('SELECT apikey_update(%L, %L)', :'suffix', 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_rotate(%L)', :'suffix')) AS rotated;
-- by a key, the key itself and one of a higher level of the same owner
SELECT apikey_act_as('update-ent', 'ann', session => true) \gset
SELECT apikey_create('admins', 'admin') AS admins \gset
SELECT legacy FROM apikey_authenticate(:'value', session => true);
SELECT pg_temp.try(format('SELECT apikey_update(%L, %L)', :'suffix', 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_rotate(%L)', :'suffix')) AS rotated;
SELECT legacy FROM apikey_authenticate(:'admins', session => true);
SELECT apikey_update(:'suffix', 'taken');
SELECT apikey_rotate(:'suffix');
SELECT legacy FROM apikey_authenticate('update-legacy/LEGACY7', session => true);
SELECT pg_temp.try(format('SELECT apikey_update(%L, %L)', :'suffix', 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_rotate(%L)', :'suffix')) AS rotated;
-- by nobody
RESET apikeys.principal;
SELECT pg_temp.try(format('SELECT apikey_update(%L, %L)', :'suffix', 'taken')) AS renamed,
	pg_temp.try(format('SELECT apikey_rotate(%L)', :'suffix')) AS rotated;
RESET SESSION AUTHORIZATION;
SELECT owner_id, name, level, expires_at FROM apikeys_private.apikey_key WHERE org_id LIKE 'update-%' ORDER BY org_id DESC, name;

--
-- Levels: what a role may make of a key that it has, be it from better days.
-- Raising past the role is refused, lowering is not; what is the same already
-- is no change; a guest changes nothing; level architect needs the plan.
--
SELECT apikey_remove_org('update-ent'), apikey_remove_org('update-biz') \gset
CREATE TEMP TABLE relevel (plan apikey_plan, role apikey_role, was apikey_level, wanted apikey_level, result text, renamed text, rotated text);
GRANT ALL ON relevel TO regress_update_app;
SELECT apikey_save_org('update-' || p, 'Levels', p) FROM unnest(ARRAY['enterprise', 'business']::apikey_plan[]) p \g /dev/null
SELECT apikey_save_member('update-' || p, r::text, '', r)
FROM unnest(ARRAY['enterprise', 'business']::apikey_plan[]) p, unnest(enum_range(NULL::apikey_role)) r
WHERE (p, r) <> ('business', 'architect') \g /dev/null
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
SELECT m.org_id, m.user_id, format('%s to %s', was, wanted), was, sha256(format('%s %s %s %s', m.org_id, m.user_id, was, wanted)::bytea), '2020-02-02'
FROM apikeys_private.apikey_member m, unnest(enum_range(NULL::apikey_level)) was, unnest(enum_range(NULL::apikey_level)) wanted
WHERE org_id LIKE 'update-%';
CREATE TEMP TABLE old AS
SELECT o.plan, m.role, k.* FROM apikeys_private.apikey_key k JOIN apikeys_private.apikey_org o USING (org_id) JOIN apikeys_private.apikey_member m ON (m.org_id, m.user_id) = (k.org_id, k.owner_id)
WHERE k.org_id LIKE 'update-%';
GRANT SELECT ON old TO regress_update_app;
SET SESSION AUTHORIZATION regress_update_app;
SET client_min_messages = error;	-- no warning that DO is no transaction block
DO $$
DECLARE
	o old;
	l apikey_level;
	rotated text;
BEGIN
	FOR o IN SELECT * FROM old LOOP
		PERFORM apikey_act_as(o.org_id, o.owner_id);
		l := split_part(o.name, ' to ', 2);
		-- before the level changes, and undone
		BEGIN
			rotated := pg_temp.try(format('SELECT apikey_rotate(%L)', o.suffix));
			RAISE assert_failure;
		EXCEPTION WHEN assert_failure THEN
		END;
		INSERT INTO relevel VALUES (o.plan, o.role, o.level, l,
			pg_temp.try(format('SELECT apikey_update(%L, level => %L)', o.suffix, l)),
			pg_temp.try(format('SELECT apikey_update(%L, %L)', o.suffix, o.name || ', renamed')),
			rotated);
		COMMIT;
	END LOOP;
END $$;
RESET client_min_messages;
RESET SESSION AUTHORIZATION;
SELECT format('%s, %s, from %s', plan, role, was) AS key, wanted, result
FROM relevel ORDER BY plan DESC, role, was, wanted \crosstabview
-- Renaming and rotating the same keys: a name is no question of level, and a
-- rotation creates a key.
SELECT format('%s, %s', plan, role) AS member, was,
	string_agg(DISTINCT format('rename %s, rotate %s', renamed, rotated), '; ')
FROM relevel GROUP BY plan, role, was ORDER BY plan DESC, role, was \crosstabview
-- The tables agree: what was said to be changed is, and nothing else.
SELECT r.result = 'ok' AS said, k.level = r.wanted AS has_wanted, k.level = r.was AS has_old, r.wanted = r.was AS same, count(*)
FROM relevel r JOIN old o ON (o.plan, o.role, o.name) = (r.plan, r.role, format('%s to %s', was, wanted))
	JOIN apikeys_private.apikey_key k USING (key_id)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT r.renamed = 'ok' AS said, k.name = o.name || ', renamed' AS renamed, count(*)
FROM relevel r JOIN old o ON (o.plan, o.role, o.name) = (r.plan, r.role, format('%s to %s', was, wanted))
	JOIN apikeys_private.apikey_key k USING (key_id)
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) = (SELECT count(*) FROM old) AS none_added FROM apikeys_private.apikey_key WHERE org_id LIKE 'update-%';

-- The demotion counts from its commit on, the promotion too.
SELECT apikey_act_as('update-business', 'standard', session => true) \gset
SELECT suffix FROM old WHERE (plan, role, name) = ('business', 'standard', 'admin to admin') \gset
SELECT pg_temp.try(format('SELECT apikey_update(%L, level => %L)', :'suffix', 'standard')) AS lowered,
	pg_temp.try(format('SELECT apikey_update(%L, level => %L)', :'suffix', 'admin')) AS raised;
SELECT apikey_save_member('update-business', 'standard', NULL, 'admin') \gset
SELECT pg_temp.try(format('SELECT apikey_update(%L, level => %L)', :'suffix', 'admin')) AS raised;
SELECT apikey_save_member('update-business', 'standard', NULL, 'guest') \gset
SELECT pg_temp.try(format('SELECT apikey_update(%L, expires_at => %L)', :'suffix', '2099-01-01')) AS expired;
RESET apikeys.principal;

--
-- Rotation
--
SELECT apikey_save_org('update-rot', 'Rotation', 'free'),
	apikey_save_member('update-rot', 'ann', 'ann@example.net', 'admin') \gset
SET SESSION AUTHORIZATION regress_update_app;
SELECT apikey_act_as('update-rot', 'ann', session => true) \gset
SELECT apikey_create('nightly', 'admin', '2099-01-01 00:00+00') AS old \gset
-- at once
SELECT apikey_rotate(apikey_suffix(:'old')) AS new \gset
SELECT apikey_check_level(:'old', 'standard') AS old_works, apikey_check_level(:'new', 'admin') AS new_works,
	:'old' <> :'new' AS differ, (SELECT status FROM apikey_inspect(:'old'));
SELECT suffix = apikey_suffix(:'new') AS new, owner_id, name, level, expires_at <= now() AS expired,
	expires_at = '2099-01-01 00:00+00' AS same_expiry
FROM apikeys ORDER BY 1;
-- with an overlap
SELECT apikey_rotate(apikey_suffix(:'new'), '1 hour') AS newer \gset
SELECT apikey_check_level(:'new', 'admin') AS old_works, apikey_check_level(:'newer', 'admin') AS new_works;
SELECT expires_at BETWEEN now() + interval '59 min' AND now() + interval '1 hour' AS in_an_hour
FROM apikeys WHERE suffix = apikey_suffix(:'new');
SELECT apikey_rotate(apikey_suffix(:'newer'), '50 ms') AS newest \gset
SELECT pg_sleep(0.1) \gset
SELECT apikey_check_level(:'newer', 'admin') AS old_works, apikey_check_level(:'newest', 'admin') AS new_works;
-- an overlap longer than the key has to live gives it no more time
SELECT apikey_rotate(apikey_suffix(:'newest'), '1000 years') AS last \gset
SELECT count(*) FROM apikeys WHERE expires_at = '2099-01-01 00:00+00';
SELECT apikey_create('for ever') AS old \gset
SELECT apikey_rotate(apikey_suffix(:'old'), '1 day') AS new \gset
SELECT suffix = apikey_suffix(:'new') AS new, level, expires_at IS NULL AS for_ever FROM apikeys WHERE name = 'for ever' ORDER BY 1;
-- refused, and nothing happens
SELECT count(*) AS keys FROM apikeys \gset
SELECT what, pg_temp.try(format('SELECT apikey_rotate(%L, %s)', apikey_suffix(:'last'), what)) FROM (VALUES
	(1, $$'-1 microsecond'$$), (2, $$'-1 year'$$), (3, $$'1 month -31 days'$$), (4, 'NULL')
) v (n, what) ORDER BY n;
SELECT apikey_rotate(apikey_suffix(:'last'), '-1 day');
SELECT pg_temp.try('SELECT apikey_rotate(NULL)');
SELECT apikey_rotate(apikey_suffix(:'newer'));
SELECT count(*) - :keys AS added, apikey_check_level(:'last', 'admin') AS works FROM apikeys;
-- undone
BEGIN;
SELECT apikey_rotate(apikey_suffix(:'last')) AS undone \gset
SELECT apikey_check_level(:'last', 'admin') AS old_works, apikey_check_level(:'undone', 'admin') AS new_works;
ROLLBACK;
SELECT apikey_check_level(:'last', 'admin') AS old_works, apikey_check_level(:'undone', 'admin') AS new_works;
-- By the clock, not by when the transaction began: a key that expired in the
-- meantime is dead, and the overlap begins now.
BEGIN;
SELECT apikey_create('short', 'standard', clock_timestamp() + interval '20 ms') AS short \gset
SELECT apikey_create('timed') AS timed \gset
SELECT pg_sleep(0.1) \gset
SELECT expires_at > now() AS later_than_the_transaction, apikey_check_level(:'short', 'standard') AS works
FROM apikeys WHERE suffix = apikey_suffix(:'short');
SAVEPOINT s;
SELECT apikey_rotate(apikey_suffix(:'short'), '1 hour');
ROLLBACK TO s;
SELECT apikey_is_wellformed(apikey_rotate(apikey_suffix(:'timed'), '1 hour'));
SELECT expires_at >= now() + interval '1 hour 0.1 s' AS from_now_on, expires_at <= clock_timestamp() + interval '1 hour' AS no_longer
FROM apikeys WHERE suffix = apikey_suffix(:'timed');
ROLLBACK;
-- by a member who could not create it any more: refused, and the old one lives
SELECT apikey_save_member('update-rot', 'ann', NULL, 'standard') \gset
SELECT apikey_rotate(apikey_suffix(:'last'));
SELECT apikey_check_level(:'last', 'admin') AS old_works;
SELECT apikey_update(apikey_suffix(:'last'), level => 'standard') \gset
SELECT apikey_is_wellformed(apikey_rotate(apikey_suffix(:'last')));
SELECT apikey_check_level(:'last', 'standard') AS old_works;
RESET apikeys.principal;
RESET SESSION AUTHORIZATION;

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'update-%' \g /dev/null
DROP OWNED BY regress_update_app;
DROP ROLE regress_update_app;
