-- Attack 29: what a member can learn of colleagues' keys without seeing them.
-- Nothing that a member runs may behave otherwise for a name, suffix, owner,
-- email, level or date that somebody else has than for one that nobody has: not
-- what EXPLAIN ANALYZE counts, nor what it never executes, nor the statistics of
-- tables and indexes that the session may ask for by their OIDs, nor errors.
--
-- The probes are generated: columns, conditions, settings of the planner, ways to
-- run them, principals. What is printed is how many there were, and those that
-- tell something.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_covert_ann;		-- admin
CREATE ROLE regress_covert_bob;		-- standard
CREATE ROLE regress_covert_arc;		-- architect
CREATE ROLE regress_covert_gus;		-- guest, with keys from better days
CREATE ROLE regress_covert_mel;		-- standard, in another organization
CREATE ROLE regress_covert_mal;		-- admin of the other organization
CREATE ROLE regress_covert_nobody;	-- without principal
SELECT apikey_save_org('covert_a', 'A', 'enterprise'), apikey_save_org('covert_b', 'B', 'enterprise'),
	apikey_save_org('covert_c', 'C') \g /dev/null
SELECT apikey_save_member(org, left(role, 3), left(role, 3) || '@' || org || '.example', substr(role, 5)::apikey_role,
	CASE WHEN role !~ '^eve' THEN 'regress_covert_' || left(role, 3) END)
FROM (VALUES ('covert_a', 'ann admin'), ('covert_a', 'bob standard'), ('covert_a', 'arc architect'), ('covert_a', 'gus guest'), ('covert_a', 'eve architect'),
	('covert_b', 'mel standard'), ('covert_b', 'mal admin')) AS m (org, role) \g /dev/null
SELECT apikey_import_legacy('covert_a', 'a legacy key of covert_a') \g /dev/null

-- Everybody has a few keys. Those of eve are what the others are after.
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
SELECT org_id, user_id, user_id || ' ' || i, 'standard', sha256(convert_to(org_id || user_id || i, 'UTF8')), '2021-01-01 00:00+00'::timestamptz + i * interval '1 day'
FROM apikeys_private.apikey_member, generate_series(1, 5) i
WHERE org_id IN ('covert_a', 'covert_b') AND user_id <> 'eve';
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at, expires_at)
SELECT 'covert_a', 'eve', 'secret plan', 'architect', sha256(convert_to('eve' || i, 'UTF8')), '2020-02-02 02:02:02.020202+00', '2099-09-09 09:09:09.090909+00'
FROM generate_series(1, 3) i;
-- others, so that estimates are of many rows, and the planner has a choice
INSERT INTO apikeys_private.apikey_member (org_id, user_id, email)
SELECT 'covert_c', 'zed' || i, 'zed' || i || '@covert_c.example' FROM generate_series(1000, 4999) i;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at, expires_at)
SELECT 'covert_c', 'zed1000', 'zzz', 'standard', sha256(convert_to('zed' || i, 'UTF8')), '2022-02-02', '2088-08-08'
FROM generate_series(1, 4000) i;
VACUUM ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_member, apikeys_private.apikey_legacy, apikeys_private.apikey_org;

--
-- Estimates: EXPLAIN shows them to whoever may read a column
--

-- so PostgreSQL samples none of the columns that all may read, however many
-- there will be
SELECT count(*) AS readable,
	count(*) FILTER (WHERE s.starelid IS NOT NULL) AS sampled,
	(SELECT count(*) FROM pg_statistic_ext WHERE stxnamespace = 'apikeys_private'::regnamespace) AS sampled_together
FROM pg_attribute a
	JOIN pg_class c ON c.oid = a.attrelid AND c.relnamespace = 'apikeys_private'::regnamespace AND c.relkind = 'r'
	LEFT JOIN pg_statistic s ON s.starelid = c.oid AND s.staattnum = a.attnum
WHERE a.attnum > 0 AND has_column_privilege('regress_covert_nobody', c.oid, a.attnum, 'SELECT');

-- And what is estimated for many rows of others, and for none, is the same, by
-- whoever asks, also where a DBA let them name the tables.
CREATE TEMP TABLE estimate (tab text, col text, type text, many text, few text);
INSERT INTO estimate VALUES
	('apikey_key', 'org_id', 'text', 'covert_c', 'covert_x'), ('apikey_key', 'owner_id', 'text', 'zed1000', 'nemo'),
	('apikey_key', 'name', 'text', 'zzz', 'aaa'), ('apikey_key', 'level', 'apikey_level', 'standard', 'admin'),
	('apikey_key', 'suffix', 'text', 'ZZZZZZZ', ''), ('apikey_key', 'created_at', 'timestamptz', '2022-02-02', '2023-03-03'),
	('apikey_key', 'expires_at', 'timestamptz', '2088-08-08', '2077-07-07'),
	('apikey_member', 'org_id', 'text', 'covert_c', 'covert_x'), ('apikey_member', 'user_id', 'text', 'zed2', 'nemo'),
	('apikey_member', 'email', 'text', 'zed2', 'nemo');
GRANT SELECT ON estimate TO PUBLIC;
GRANT USAGE ON SCHEMA apikeys_private TO regress_covert_bob, regress_covert_mal, regress_covert_nobody;
CREATE FUNCTION pg_temp.estimated(query text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	told text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || replace(query, '?', value) LOOP
		told := told || regexp_replace(line, '''[^'']*''', '?', 'g') || E'\n';
	END LOOP;
	RETURN told;
END $$;
-- how many conditions, on the table and on the view, are estimated otherwise
CREATE FUNCTION pg_temp.told(e estimate) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*)
	FROM unnest('{=,<>,<,>=}'::text[]) AS op,
		unnest(ARRAY['apikeys_private.' || e.tab, 'apikeys', 'apikeys_mine']) AS relation,
		format('SELECT 1 FROM %s WHERE %I %s ?::%s', relation,
			CASE WHEN e.tab = 'apikey_key' OR relation ~ 'private' THEN e.col ELSE CASE e.col WHEN 'org_id' THEN 'org_id' WHEN 'user_id' THEN 'owner_id' ELSE 'owner_email' END END,
			op, e.type) AS query
	WHERE pg_temp.estimated(query, quote_literal(e.many)) <> pg_temp.estimated(query, quote_literal(e.few))
$$;
SET ROLE regress_covert_nobody;
SELECT count(*) AS columns, sum(pg_temp.told(e)) AS told FROM estimate e;
SET ROLE regress_covert_bob;
SELECT count(*) AS columns, sum(pg_temp.told(e)) AS told FROM estimate e;
SET ROLE regress_covert_mal;
SELECT count(*) AS columns, sum(pg_temp.told(e)) AS told FROM estimate e;
RESET ROLE;
-- That this would see it if PostgreSQL sampled any one of them. (It doesn't use
-- the sample of a level, while nobody has called the comparison of enums leakproof.)
CREATE FUNCTION pg_temp.told_if_sampled(e estimate) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	told bigint;
BEGIN
	EXECUTE format('ALTER TABLE apikeys_private.%I ALTER %I SET STATISTICS 100', e.tab, e.col);
	EXECUTE format('ANALYZE apikeys_private.%I', e.tab);
	PERFORM set_config('role', 'regress_covert_bob', true);
	told := pg_temp.told(e);
	PERFORM set_config('role', 'none', true);
	RAISE EXCEPTION USING ERRCODE = '00001', MESSAGE = told;
EXCEPTION WHEN SQLSTATE '00001' THEN
	RETURN CASE WHEN SQLERRM::bigint > 0 THEN 'seen' ELSE 'not seen' END;
END $$;
SELECT tab, col, pg_temp.told_if_sampled(e) FROM estimate e ORDER BY 1, 2;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_covert_bob, regress_covert_mal, regress_covert_nobody;

--
-- Probes
--

-- Fewer others will do here.
DELETE FROM apikeys_private.apikey_key WHERE org_id = 'covert_c' AND suffix > '8';
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'covert_c' AND user_id > 'zed15';
VACUUM ANALYZE apikeys_private.apikey_key, apikeys_private.apikey_member;

-- What somebody else has, and beside it on both sides what nobody has.
CREATE TEMP TABLE probed (col text, type text, has text, before text, after text);
INSERT INTO probed VALUES
	('name', 'text', 'secret plan', 'secret plam', 'secret plao'),
	('owner_id', 'text', 'eve', 'evd', 'evf'),
	('owner_email', 'text', 'eve@covert_a.example', 'eve@covert_a.exampld', 'eve@covert_a.examplf'),
	('created_at', 'timestamptz', '2020-02-02 02:02:02.020202+00', '2020-02-02 02:02:02.020201+00', '2020-02-02 02:02:02.020203+00'),
	('expires_at', 'timestamptz', '2099-09-09 09:09:09.090909+00', '2099-09-09 09:09:09.090908+00', '2099-09-09 09:09:09.09091+00'),
	('level', 'apikey_level', 'architect', 'admin', 'admin'),
	('org_id', 'text', 'covert_c', 'covert_bz', 'covert_cz'),
	('last_used_at', 'timestamptz', '2020-02-02', '2019-01-01', '2021-01-01'),
	('uses', 'bigint', '2', '1', '3');
INSERT INTO probed
SELECT 'suffix', 'text', suffix, left(suffix, 6) || chr(ascii(right(suffix, 1)) - 1), left(suffix, 6) || chr(ascii(right(suffix, 1)) + 1)
FROM apikeys_private.apikey_key WHERE org_id = 'covert_a' AND owner_id = 'eve' AND digest = sha256('eve1');
GRANT SELECT ON probed TO PUBLIC;
SELECT count(*) = (SELECT count(*) FROM pg_attribute WHERE attrelid = 'apikeys'::regclass AND attnum > 0 AND attname <> 'kind') AS every_column FROM probed;

-- Conditions: %1$s is the column, %2$s what it is compared with, %3$s the view. Some
-- are tried under all settings. What somebody has is compared with what is after
-- it, or before it where that makes the difference.
CREATE TEMP TABLE condition (n int GENERATED ALWAYS AS IDENTITY, types text, everywhere boolean, query text, before boolean DEFAULT false);
INSERT INTO condition (types, everywhere, query) VALUES
	('.', true, 'SELECT * FROM %3$s a WHERE a.%1$s = %2$s'),
	('.', true, 'SELECT a.name FROM %3$s a WHERE a.%1$s < %2$s'),
	('.', true, 'SELECT a.name FROM %3$s a WHERE a.%1$s >= %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s <= %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s > %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s <> %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s IS NOT DISTINCT FROM %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s BETWEEN %2$s AND %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s IN (%2$s, %2$s)'),
	('.', true, 'SELECT a.name FROM %3$s a WHERE a.%1$s = ANY (ARRAY[%2$s, %2$s])'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s IN (SELECT v FROM (VALUES (%2$s), (%2$s)) x (v))'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE (a.%1$s, a.kind) >= (%2$s, ''user'')'),
	('.', true, 'SELECT a.name FROM %3$s a WHERE a.%1$s >= %2$s ORDER BY a.%1$s LIMIT 1'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s <= %2$s ORDER BY a.%1$s DESC, a.suffix LIMIT 1'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.org_id LIKE ''covert%%'' AND a.%1$s = %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.owner_id LIKE ''eve%%'' AND a.%1$s = %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.owner_email LIKE ''eve@%%'' AND a.%1$s = %2$s'),
	('.', false, 'SELECT count(*), min(a.name) FROM %3$s a WHERE a.%1$s = %2$s'),
	('.', false, 'SELECT count(*) FILTER (WHERE a.%1$s = %2$s) FROM %3$s a'),
	('.', false, 'SELECT a.%1$s FROM %3$s a GROUP BY a.%1$s HAVING a.%1$s = %2$s'),
	('.', false, 'SELECT EXISTS (SELECT FROM %3$s a WHERE a.%1$s = %2$s)'),
	('.', false, 'SELECT (SELECT min(a.name) FROM %3$s a WHERE a.%1$s = v) FROM (VALUES (%2$s)) x (v)'),
	('.', true, 'SELECT a.name FROM (VALUES (%2$s), (%2$s)) x (v) JOIN %3$s a ON a.%1$s = v'),
	('.', false, 'SELECT a.name FROM (VALUES (%2$s)) x (v) LEFT JOIN %3$s a ON a.%1$s = v'),
	('.', false, 'SELECT a.name FROM %3$s a JOIN %3$s b USING (%1$s) WHERE a.%1$s = %2$s'),
	('.', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s = %2$s UNION SELECT a.name FROM %3$s a WHERE a.%1$s < %2$s'),
	('text', true, 'SELECT a.name FROM %3$s a WHERE a.%1$s LIKE %2$s || ''%%'''),
	('text', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s ~ (''^'' || %2$s)'),
	('text', false, 'SELECT a.name FROM %3$s a WHERE starts_with(a.%1$s, %2$s)'),
	('text', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s = %2$s COLLATE "C"'),
	('text', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s < %2$s COLLATE "POSIX"'),
	('text', false, 'SELECT a.name FROM %3$s a WHERE a.%1$s::bpchar = %2$s::bpchar'),
	('timestamptz', false, 'SELECT a.name FROM apikey_expiring(%2$s - now()) a');
UPDATE condition SET before = true WHERE query ~ '<= %2|> %2';
GRANT SELECT ON condition TO PUBLIC;

-- Settings that are anybody's to change, by which every type of plan is taken. No
-- worker is launched, for how many there are is chance.
CREATE TEMP TABLE planner (n int GENERATED ALWAYS AS IDENTITY, settings text[]);
INSERT INTO planner (settings) VALUES
	('{}'),
	('{enable_seqscan=off,enable_bitmapscan=off}'),
	('{enable_seqscan=off,enable_indexscan=off,enable_indexonlyscan=off}'),
	('{enable_indexscan=off,enable_indexonlyscan=off,enable_bitmapscan=off}'),
	('{enable_nestloop=off,enable_mergejoin=off}'),
	('{enable_nestloop=off,enable_hashjoin=off}'),
	('{enable_hashjoin=off,enable_mergejoin=off,enable_material=off,enable_memoize=off}'),
	('{enable_sort=off,enable_incremental_sort=off,enable_hashagg=off}'),
	('{parallel_setup_cost=0,parallel_tuple_cost=0,min_parallel_table_scan_size=0,min_parallel_index_scan_size=0,max_parallel_workers=0}');
GRANT SELECT ON planner TO PUBLIC;
SET jit = off;	-- which would take its time, where a cost says that a plan type is off

-- What the session counted of our tables and indexes. Whoever asks knows their
-- OIDs: the catalogs show them.
CREATE TEMP TABLE watched AS
	SELECT row_number() OVER (ORDER BY relname COLLATE "C") AS place, oid, relname FROM pg_class
	WHERE relnamespace = 'apikeys_private'::regnamespace AND relkind IN ('r', 'i');
GRANT SELECT ON watched TO PUBLIC;
SELECT count(*) > 15 AS many FROM watched;
CREATE FUNCTION pg_temp.counted() RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(n ORDER BY place, i)
	FROM watched,
		unnest(ARRAY[pg_stat_get_xact_numscans(oid), pg_stat_get_xact_tuples_returned(oid),
			pg_stat_get_xact_tuples_fetched(oid), pg_stat_get_xact_blocks_fetched(oid),
			pg_stat_get_xact_tuples_inserted(oid), pg_stat_get_xact_tuples_updated(oid),
			pg_stat_get_xact_tuples_deleted(oid)]) WITH ORDINALITY AS u (n, i)
$$;
CREATE FUNCTION pg_temp.difference(before bigint[], after bigint[]) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg((a - b)::text, ' ' ORDER BY i) FROM unnest(before, after) WITH ORDINALITY AS u (b, a, i));

-- How a query went: the plan and what it counted, and what the session counted.
-- As a prepared statement it is given the value when it is executed.
CREATE FUNCTION pg_temp.went(query text, type text, value text, prepared boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	explain text := 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ';
	line text;
	told text := '';
	before bigint[];
BEGIN
	IF prepared THEN
		EXECUTE format('PREPARE probe (%s) AS %s', type, replace(query, '?', '$1'));
		query := format('EXECUTE probe (%s)', value);
	ELSE
		query := replace(query, '?', value);
	END IF;
	before := pg_temp.counted();
	FOR line IN EXECUTE explain || query LOOP
		told := told || regexp_replace(line, '''(?:[^'']|'''')*''', '?', 'g') || E'\n';
	END LOOP;
	told := told || 'counted: ' || pg_temp.difference(before, pg_temp.counted());
	IF prepared THEN
		DEALLOCATE probe;
	END IF;
	RETURN told;
END $$;

-- All probes, of one principal: what tells. The depth says how many conditions are
-- tried under how many settings.
CREATE TEMP TABLE told (who text, how text, col text, query text, has text, nobody_has text);
CREATE TEMP TABLE probes (n int GENERATED ALWAYS AS IDENTITY, who text, view text, depth int, probes bigint);
GRANT SELECT, INSERT ON told, probes TO PUBLIC;
CREATE PROCEDURE pg_temp.probe(view text, depth int) LANGUAGE plpgsql AS $$
DECLARE
	s planner; r record;
	mode text; query text; went text; elsewhere text; setting text;
	done bigint := 0;
BEGIN
	FOR s IN SELECT * FROM planner WHERE depth = 3 OR n <= 4 ORDER BY n LOOP
		FOREACH setting IN ARRAY s.settings LOOP
			PERFORM set_config(split_part(setting, '=', 1), split_part(setting, '=', 2), false);
		END LOOP;
		FOREACH mode IN ARRAY CASE WHEN depth < 3 THEN '{auto}' WHEN s.n = 1 THEN '{auto,force_custom_plan,force_generic_plan}' WHEN s.n <= 4 THEN '{auto,force_generic_plan}' ELSE '{auto}' END::text[] LOOP
			PERFORM set_config('plan_cache_mode', mode, false);
			FOR r IN SELECT c.query, p.col, p.type, p.has, CASE WHEN c.before THEN p.before ELSE p.after END AS nobody_has
				FROM condition c, probed p
				WHERE p.type ~ c.types AND (c.everywhere OR depth > 1 AND s.n = 1 AND mode <> 'force_custom_plan')
				ORDER BY c.n, p.col LOOP
				query := format(r.query, r.col, '?::' || r.type, view);
				-- Again if they differ: the first to come fills PostgreSQL's caches.
				FOR attempt IN 1..2 LOOP
					went := pg_temp.went(query, r.type, quote_literal(r.has) || '::' || r.type, mode <> 'auto');
					elsewhere := pg_temp.went(query, r.type, quote_literal(r.nobody_has) || '::' || r.type, mode <> 'auto');
					EXIT WHEN elsewhere = went;
				END LOOP;
				IF elsewhere <> went THEN
					INSERT INTO told VALUES (current_user, mode || ' ' || s.settings::text, r.col, query, went, elsewhere);
				END IF;
				done := done + 1;
			END LOOP;
		END LOOP;
		FOREACH setting IN ARRAY s.settings LOOP
			EXECUTE format('RESET %I', split_part(setting, '=', 1));
		END LOOP;
	END LOOP;
	RESET plan_cache_mode;
	INSERT INTO probes (who, view, depth, probes) VALUES (current_user, view, depth, done);
END $$;

SET SESSION AUTHORIZATION regress_covert_bob;
CALL pg_temp.probe('apikeys', 3);
CALL pg_temp.probe('apikeys_mine', 2);
CALL pg_temp.probe('apikeys_legacy', 1);
SET SESSION AUTHORIZATION regress_covert_arc;
CALL pg_temp.probe('apikeys', 1);
SET SESSION AUTHORIZATION regress_covert_gus;
CALL pg_temp.probe('apikeys', 1);
SET SESSION AUTHORIZATION regress_covert_mel;
CALL pg_temp.probe('apikeys', 1);
SET SESSION AUTHORIZATION regress_covert_nobody;
CALL pg_temp.probe('apikeys', 1);
CALL pg_temp.probe('apikeys_legacy', 1);
-- an admin sees all of the organization, and learns as little of the others
SET SESSION AUTHORIZATION regress_covert_mal;
CALL pg_temp.probe('apikeys', 2);
CALL pg_temp.probe('apikeys_mine', 1);
CALL pg_temp.probe('apikeys_legacy', 1);
RESET SESSION AUTHORIZATION;
SELECT who, view, depth, probes FROM probes ORDER BY n;
SELECT count(*) AS told, count(DISTINCT query) AS queries FROM told;
-- should there be any, what is to be looked at
SELECT who, query, min(how) AS how, min(has) AS has, min(nobody_has) AS nobody_has FROM told GROUP BY who, query ORDER BY who, query LIMIT 5;

-- That this would see a difference: a view over the same rows that takes in its
-- reader's conditions tells of every column it has.
CREATE VIEW regress_covert_plain WITH (security_invoker = true, security_barrier = true) AS
	SELECT 'user' AS kind, k.org_id, k.owner_id, m.email AS owner_email, k.name, k.level, k.suffix,
		k.created_at, k.expires_at, NULL::timestamptz AS last_used_at, NULL::bigint AS uses
	FROM apikeys_private.apikey_key k LEFT JOIN apikeys_private.apikey_member m ON m.org_id = k.org_id AND m.user_id = k.owner_id;
GRANT SELECT ON regress_covert_plain TO PUBLIC;
SET SESSION AUTHORIZATION regress_covert_bob;
CALL pg_temp.probe('regress_covert_plain', 1);
RESET SESSION AUTHORIZATION;
SELECT string_agg(DISTINCT col, ', ' ORDER BY col) AS told_of FROM told;
DROP VIEW regress_covert_plain;
DELETE FROM told;

--
-- Whether the organization has a legacy key: a member finds the same before and
-- after it is deleted.
--
CREATE TEMP TABLE legacy (state text, how text, query text, went text);
GRANT SELECT, INSERT ON legacy TO PUBLIC;
CREATE PROCEDURE pg_temp.ask_for_legacy(state text) LANGUAGE plpgsql AS $$
DECLARE
	s planner; setting text; query text;
BEGIN
	FOR s IN SELECT * FROM planner ORDER BY n LOOP
		FOREACH setting IN ARRAY s.settings LOOP
			PERFORM set_config(split_part(setting, '=', 1), split_part(setting, '=', 2), false);
		END LOOP;
		FOREACH query IN ARRAY ARRAY[
			'SELECT * FROM apikeys WHERE kind = ?', 'SELECT count(*) FROM apikeys WHERE kind <= ?', 'SELECT * FROM apikeys_legacy WHERE kind = ?',
			'SELECT count(*), max(created_at) FROM apikeys_legacy WHERE kind = ?', 'SELECT created_at FROM apikeys WHERE kind = ? ORDER BY created_at LIMIT 1',
			'SELECT * FROM apikeys_legacy WHERE kind = ? AND created_at > ''2001-01-01''', 'SELECT * FROM apikeys WHERE kind = ? AND created_at <= now() AND suffix IS NULL',
			'SELECT a.name FROM (VALUES (?)) x (v) LEFT JOIN apikeys a ON a.kind = v'] LOOP
			INSERT INTO legacy VALUES (state, s.settings::text, query, pg_temp.went(query, 'text', '''legacy''::text', false)),
				(state, 'prepared ' || s.settings::text, query, pg_temp.went(query, 'text', '''legacy''::text', true));
		END LOOP;
		FOREACH setting IN ARRAY s.settings LOOP
			EXECUTE format('RESET %I', split_part(setting, '=', 1));
		END LOOP;
	END LOOP;
END $$;
SET SESSION AUTHORIZATION regress_covert_bob;
CALL pg_temp.ask_for_legacy('before');
SET SESSION AUTHORIZATION regress_covert_ann;
SELECT kind, org_id FROM apikeys_legacy;
SELECT apikey_delete_legacy();
SET SESSION AUTHORIZATION regress_covert_bob;
CALL pg_temp.ask_for_legacy('after');
RESET SESSION AUTHORIZATION;
SELECT count(*) AS asked, count(*) FILTER (WHERE a.went <> b.went) AS told
FROM legacy a JOIN legacy b USING (how, query) WHERE a.state = 'before' AND b.state = 'after';

--
-- Functions: with what somebody else has, and with what nobody has, they do and
-- say the same, and look at as much
--
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text, has text, nobody_has text, writes boolean DEFAULT false);
INSERT INTO call (call, has, nobody_has)
SELECT call, has, after
FROM probed, unnest(ARRAY['apikey_update(%L, ''x'')', 'apikey_update(%L)', 'apikey_update(%L, level => ''standard'')', 'apikey_update(%L, level => ''admin'')',
	'apikey_update(%L, expires_at => ''infinity'')', 'apikey_rotate(%L)', 'apikey_rotate(%L, ''1 hour'')', 'apikey_delete(%L)']) AS call
WHERE col = 'suffix';
INSERT INTO call (call, has, nobody_has) VALUES ('apikey_delete_all(%L)', 'arc', 'nemo');
INSERT INTO call (call, has, nobody_has)
SELECT format('(SELECT string_agg(name, '','') FROM apikey_page(sort => %L, search => %%L))', sort), has, after
FROM probed, unnest('{created_at,name,suffix,owner_id,expires_at}'::text[]) AS sort
WHERE col IN ('name', 'suffix', 'owner_id', 'owner_email');
-- Where something is written, which blocks and dead rows are met depends on what was
-- written before: there, only how often tables and indexes were scanned is compared.
INSERT INTO call (call, has, nobody_has, writes) VALUES
	('apikey_is_wellformed(apikey_create(%L))', 'secret plan', 'secret plao', true),
	('apikey_update((SELECT suffix FROM apikeys_mine ORDER BY name LIMIT 1), %L)', 'secret plan', 'secret plao', true);
GRANT SELECT ON call TO PUBLIC;
CREATE FUNCTION pg_temp.ended(call text, writes boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint[] := pg_temp.counted();
	result text; message text; detail text; hint text; context text;
BEGIN
	BEGIN
		EXECUTE 'SELECT ' || call INTO result;
		RAISE EXCEPTION USING ERRCODE = '00001', MESSAGE = concat('done ', result);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
		result := concat_ws(' | ', SQLSTATE, message, detail, hint, regexp_replace(context, '''[^'']*''|line \d+ at assignment', '?', 'g'));
	END;
	RETURN result || ' counted: ' || (SELECT string_agg((a - b)::text, ' ' ORDER BY i)
		FROM unnest(before, pg_temp.counted()) WITH ORDINALITY AS u (b, a, i) WHERE NOT writes OR i % 7 = 1);
END $$;
CREATE TEMP TABLE called (who text, call text, has text, nobody_has text);
GRANT INSERT ON called TO PUBLIC;
CREATE PROCEDURE pg_temp.call_all() LANGUAGE plpgsql AS $$
DECLARE
	c call; one text; other text;
BEGIN
	FOR c IN SELECT * FROM call ORDER BY n LOOP
		FOR attempt IN 1..2 LOOP
			one := pg_temp.ended(format(c.call, c.has), c.writes);
			other := pg_temp.ended(format(c.call, c.nobody_has), c.writes);
			EXIT WHEN one = other;
		END LOOP;
		INSERT INTO called VALUES (current_user, c.call, one, other);
	END LOOP;
END $$;
SET SESSION AUTHORIZATION regress_covert_bob;
CALL pg_temp.call_all();
SET SESSION AUTHORIZATION regress_covert_arc;
CALL pg_temp.call_all();
SET SESSION AUTHORIZATION regress_covert_gus;
CALL pg_temp.call_all();
SET SESSION AUTHORIZATION regress_covert_mel;
CALL pg_temp.call_all();
SET SESSION AUTHORIZATION regress_covert_mal;
CALL pg_temp.call_all();
SET SESSION AUTHORIZATION regress_covert_nobody;
CALL pg_temp.call_all();
RESET SESSION AUTHORIZATION;
SELECT who, count(*) AS calls, count(*) FILTER (WHERE has <> nobody_has) AS told,
	string_agg(DISTINCT substr(has, 1, 5), ' ') AS ended
FROM called GROUP BY who ORDER BY who;
SELECT who, call, has, nobody_has FROM called WHERE has <> nobody_has ORDER BY who, call LIMIT 5;
-- and that this would see it: an admin's own organization does tell
SET SESSION AUTHORIZATION regress_covert_ann;
CALL pg_temp.call_all();
RESET SESSION AUTHORIZATION;
SELECT call, count(*) FROM called WHERE who = 'regress_covert_ann' AND has <> nobody_has GROUP BY call ORDER BY call;

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'covert%' \g /dev/null
DROP ROLE regress_covert_ann, regress_covert_bob, regress_covert_arc, regress_covert_gus,
	regress_covert_mel, regress_covert_mal, regress_covert_nobody;
