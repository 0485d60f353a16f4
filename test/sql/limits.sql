--
-- limits
--
-- Proves where things end: sizes and bytes of keys, names and identifiers on
-- both sides of each limit, dates and intervals at the ends of their range,
-- and that a text too long to be a key is refused by its size alone, without
-- being read. Nothing here may do worse than be refused.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
SET apikeys.session_principal = on;	-- so that a principal can last

CREATE ROLE regress_limits_app;
CREATE ROLE regress_limits_ann;
SELECT apikey_grant_application('regress_limits_app');
SELECT apikey_save_org('limits', 'Limits', 'enterprise');
SELECT apikey_save_member('limits', 'ann', 'ann@limits.example', 'admin', 'regress_limits_ann');

-- How a statement ends that a role runs; it stays done.
CREATE FUNCTION pg_temp.try(role name, statement text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	PERFORM set_config('role', CASE role WHEN 'owner' THEN session_user ELSE role END, true);
	EXECUTE statement USING args;
	PERFORM set_config('role', session_user, true);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RETURN SQLSTATE || ': ' || message;
END $$;
-- What all functions that read a key say of it, in short.
CREATE FUNCTION pg_temp.say(key text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ', (apikey_inspect(key)).status, CASE WHEN apikey_check_level(key, 'standard') THEN 'passes' ELSE 'refused' END,
		(SELECT 'verified' FROM apikey_verify(key)), CASE WHEN apikey_me(key) IS NOT NULL THEN 'me' END,
		CASE WHEN apikey_is_wellformed(key) THEN 'wellformed' END, 'suffix ' || apikey_suffix(key))
$$;

--
-- Size
--

-- legacy keys: 16 to 255 bytes
CREATE TEMPORARY TABLE sized AS SELECT n, repeat('x', n) AS key FROM unnest('{0,1,2,7,8,9,15,16,17,44,52,53,54,60,61,127,128,254,255,256,257,1000,100000}'::int[]) AS n;
SELECT n, pg_temp.say(key) FROM sized ORDER BY n;
SELECT n, apikey_save_org('limits ' || n, 'Limits') AS saved,
	pg_temp.try('owner', 'SELECT apikey_import_legacy(''limits '' || octet_length($1[1]), $1[1])', key) FROM sized ORDER BY n;
SELECT n, pg_temp.say(key) FROM sized ORDER BY n;
SELECT n, pg_temp.say(key || 'x') AS longer, pg_temp.say(left(key, -1)) AS shorter FROM sized WHERE n IN (16, 52, 255) ORDER BY n;
SELECT count(*) AS removed FROM sized, apikey_remove_org('limits ' || n);
SELECT DISTINCT pg_temp.say(key) LIKE '%refused' AS gone FROM sized;

-- a suffix is looked for in whatever could be a key, by its length
SELECT n, apikey_suffix(repeat('x', n - 8) || '/1234567') FROM unnest('{8,9,60,61,254,255,256,1000000}'::int[]) AS n;

-- slashes
SELECT n, pg_temp.say(repeat('/', n)) FROM unnest('{1,8,16,54,60,255,256}'::int[]) AS n;
SELECT pg_temp.say(repeat('/1234567', 31)), pg_temp.say(repeat('a.b/', 63) || 'abc');

-- A long text, compressed and out of line, is not fetched: no block of its TOAST
-- table is looked at. That the measure works, a length in characters shows,
-- which cannot be told without. (250 MB behave like these 8; storing them
-- would take too long here.)
SET default_toast_compression = pglz;
CREATE TEMPORARY TABLE huge (v text);
GRANT SELECT ON huge TO PUBLIC;
INSERT INTO huge SELECT repeat('0123456789abcdef', 8 * 65536);
INSERT INTO huge SELECT string_agg(md5(n::text), '') FROM generate_series(1, 3200) AS n;
SELECT octet_length(v), pg_column_size(v) > 2000 AS out_of_line FROM huge;
CREATE FUNCTION pg_temp.fetched(expression text, condition text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	toast oid := (SELECT reltoastrelid FROM pg_class WHERE oid = 'huge'::regclass);
	before bigint := pg_stat_get_xact_blocks_fetched(toast);
BEGIN
	BEGIN
		EXECUTE format('SELECT count(%s) FROM huge WHERE octet_length(v) %s 1000000', expression, condition);
	EXCEPTION WHEN SQLSTATE '22023' OR SQLSTATE '28000' THEN
		NULL;
	END;
	RETURN pg_stat_get_xact_blocks_fetched(toast) - before;
END $$;
INSERT INTO apikeys_private.apikey_capability VALUES ('limits', 'standard');
SELECT apikey_act_as('limits', 'ann', true);
SELECT expression, pg_temp.fetched(expression, '>') AS compressed, pg_temp.fetched(expression, '<') AS external
FROM (VALUES ('apikey_check_level(v, ''standard'')'), ('apikey_check(v, ''limits'')'), ('apikey_is_wellformed(v)'), ('apikey_suffix(v)'), ('apikey_me(v)'),
		('(apikey_inspect(v)).status'), ('(SELECT level FROM apikey_verify(v))'), ('apikey_authenticate(v)'),
		('apikey_import_legacy(''limits'', v)'), ('apikey_save_org(v, ''a'')'), ('apikey_create(v)'),
		('apikeys_private.apikey_is_id(v)'), ('apikeys_private.apikey_is_name(v)')) AS e (expression);
RESET apikeys.principal;
DELETE FROM apikeys_private.apikey_capability WHERE capability = 'limits';
SELECT pg_temp.fetched('length(v)', '>') > 10 AS compressed, pg_temp.fetched('length(v)', '<') > 10 AS external;
SELECT apikey_check_level(v, 'standard'), apikey_is_wellformed(v), apikey_suffix(v), apikey_me(v), apikeys_private.apikey_is_id(v), apikeys_private.apikey_is_name(v) FROM huge;
-- the functions that are not asked so often refuse it as well
SELECT call, pg_temp.try(r, format('SELECT %s FROM huge WHERE octet_length(v) < 1000000', call)) FROM (VALUES
	('regress_limits_app', 'apikey_authenticate(v)'), ('owner', 'apikey_import_legacy(''limits'', v)'), ('regress_limits_app', 'apikey_act_as(v, v)'),
	('regress_limits_app', 'apikey_save_org(v, ''a'')'), ('regress_limits_app', 'apikey_save_member(''limits'', v, ''a'')'), ('regress_limits_app', 'apikey_remove_member(v, v)'),
	('regress_limits_app', 'apikey_check(v, v)'), ('regress_limits_ann', 'apikey_create(v)'), ('regress_limits_ann', 'apikey_update(v, v)'),
	('regress_limits_ann', 'apikey_delete(v)'), ('regress_limits_ann', 'apikey_rotate(v)'), ('regress_limits_ann', 'apikey_delete_all(v)')) AS c (r, call);
TRUNCATE huge;

-- Compressed, out of line, or packed, a key is the key that it is. The filler
-- makes PostgreSQL look for something to put away.
CREATE TEMPORARY TABLE stored (packed text, compressed text, external text, external_native text, filler text);
ALTER TABLE stored ALTER packed SET STORAGE MAIN, ALTER external SET STORAGE EXTERNAL, ALTER external_native SET STORAGE EXTERNAL, ALTER filler SET STORAGE PLAIN;
ALTER TABLE stored SET (toast_tuple_target = 128);
SET ROLE regress_limits_ann;
SELECT apikey_create('stored', 'admin') AS stored \gset
RESET ROLE;
SELECT apikey_import_legacy('limits', repeat('0123456789', 25));
INSERT INTO stored VALUES (:'stored', repeat('0123456789', 25), repeat('0123456789', 25), :'stored', repeat('f', 2000));
CREATE FUNCTION pg_temp.put_away() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(DISTINCT chunk_id) FROM %s', (SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'stored'::regclass)) INTO result;
	RETURN result;
END $$;
SELECT pg_column_compression(compressed), pg_temp.put_away(), apikey_is_wellformed(packed) AS packed, apikey_is_wellformed(external_native) AS external,
	apikey_suffix(external_native) = apikey_suffix(packed) AS suffix,
	v.name, v.level, l.org_id, x.org_id, apikey_check_level(compressed, 'admin') AS compressed, apikey_check_level(external, 'admin') AS external
FROM stored, apikey_verify(external_native) AS v, apikey_verify(compressed) AS l, apikey_verify(external) AS x;
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'limits';
SELECT pg_temp.try('owner', 'SELECT apikey_import_legacy(''limits'', external) FROM stored'), pg_temp.try('owner', 'DELETE FROM apikeys_private.apikey_legacy WHERE org_id = ''limits''');
SELECT pg_temp.try('owner', 'SELECT apikey_import_legacy(''limits'', compressed) FROM stored');
SELECT apikey_check_level(repeat('0123456789', 25), 'admin');

--
-- Bytes
--

-- A key is printable ASCII: what else is there makes it malformed, wherever.
SELECT (apikey_inspect(k)).status, apikey_check_level(k, 'standard') AS passes, pg_temp.try('owner', 'SELECT apikey_import_legacy(''limits no'', $1[1])', k) AS imported,
	range_agg(int4range(c, c, '[]')) AS characters
FROM generate_series(1, 1000) AS c, unnest(ARRAY[chr(c) || repeat('x', 40), repeat('x', 40) || chr(c), repeat('x', 20) || chr(c) || repeat('x', 20)]) AS k
GROUP BY 1, 2, 3 ORDER BY 1;
SELECT DISTINCT pg_temp.say(overlay(:'stored' PLACING c FROM p FOR 1)) LIKE 'malformed, refused, suffix _______' AS malformed
FROM unnest(ARRAY[E'\u0080', 'é', '€', '😀', E'\u00A0', E'\n', E'\t', E'\177', E'\001']) AS c, generate_series(1, 46) AS p;
SELECT pg_temp.say('😀😀😀😀😀😀'), pg_temp.say(repeat('é', 127)), pg_temp.say(repeat('é', 128));

--
-- Names of keys: 1 to 100 characters, whatever these take, none of them control
--

CREATE FUNCTION pg_temp.named(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key text; kept text;
BEGIN
	PERFORM set_config('role', 'regress_limits_ann', true);
	key := apikey_create(name);
	PERFORM apikey_update(apikey_suffix(key), 'other');
	PERFORM apikey_update(apikey_suffix(key), name);
	kept := (SELECT a.name FROM apikeys_mine a WHERE a.suffix = apikey_suffix(key));
	PERFORM apikey_delete(apikey_suffix(key));
	PERFORM set_config('role', session_user, true);
	RETURN CASE WHEN kept = name THEN 'kept' ELSE 'changed' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT c AS character, n, octet_length(repeat(c, n)) AS bytes, pg_temp.named(repeat(c, n)), apikeys_private.apikey_is_name(repeat(c, n)) AS is_name
FROM unnest('{a,é,€,😀}'::text[]) AS c, unnest('{0,1,99,100,101,400,401}'::int[]) AS n ORDER BY n, octet_length(c);
SELECT name, pg_temp.named(name) FROM unnest(ARRAY[' ', '%', '_', '\', '''', '"', '$1', '$$', '{}', ';--', '../', '<b>', '''; DROP TABLE apikeys_private.apikey_key; --', 'e' || E'\u0301']) AS name;
-- the control characters are ASCII's and C1, which terminals obey as well
SELECT range_agg(int4range(c, c, '[]')) AS control FROM generate_series(1, 65535) AS c
WHERE c NOT BETWEEN 55296 AND 57343 AND NOT apikeys_private.apikey_is_name('a' || chr(c));
SELECT pg_temp.named(E'a\001'), pg_temp.named(E'\037'), pg_temp.named(E'\177a'), pg_temp.named(E'\u0080'), pg_temp.named(E'a\u009Fb'), pg_temp.named(E'a\u00A0b');
SELECT pg_temp.named(E'\033[31mred'), pg_temp.named(E'\u009B31mred'), pg_temp.named(E'two\nlines');

--
-- Identifiers: 1 to 128 bytes, none of them control
--

CREATE FUNCTION pg_temp.identified(id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key text; found text;
BEGIN
	PERFORM apikey_save_org(id, 'Identified', 'enterprise');
	PERFORM apikey_save_member(id, id, 'a@limits.example', 'architect');
	PERFORM apikey_act_as(id, id);
	key := apikey_create('a', 'architect');
	found := (SELECT v.org_id || v.user_id FROM apikey_verify(key) AS v);
	PERFORM apikey_import_legacy(id, 'a legacy key of limits');
	PERFORM apikey_remove_member(id, id);
	PERFORM apikey_remove_org(id);
	RETURN CASE WHEN found = id || id AND NOT apikey_check_level(key, 'standard') THEN 'works' ELSE 'changed' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT c AS character, n, octet_length(repeat(c, n)) AS bytes, pg_temp.identified(repeat(c, n)), apikeys_private.apikey_is_id(repeat(c, n)) AS is_id
FROM unnest('{a,é,😀}'::text[]) AS c, unnest('{0,1,32,33,64,65,127,128,129}'::int[]) AS n ORDER BY octet_length(c), n;
SELECT id, pg_temp.identified(id) FROM unnest(ARRAY[' ', '%', '_', '\', '''', '"', '$1', '{}', ';--', 'member', 'key', E'a\u00A0b', 'A', 'a ']) AS id;
SELECT range_agg(int4range(c, c, '[]')) AS control FROM generate_series(1, 65535) AS c
WHERE c NOT BETWEEN 55296 AND 57343 AND NOT apikeys_private.apikey_is_id('a' || chr(c));
SELECT pg_temp.identified(E'a\tb'), pg_temp.identified(E'a\n'), pg_temp.identified(E'\177'), pg_temp.identified(E'a\u0080');
-- bytes are compared, not what a language takes for equal
SELECT apikey_save_org('limits X', 'Upper'), apikey_save_org('limits x', 'Lower'), apikey_save_org('limits x ', 'Blank');
SELECT org_id || '.' AS org_id, name FROM apikeys_private.apikey_org WHERE org_id LIKE 'limits _%' ORDER BY org_id;
SELECT apikey_remove_org('limits X'), apikey_remove_org('limits x'), apikey_remove_org('limits x ');

-- what has no limit of its own: an email of a megabyte, in JSON too
SELECT apikey_save_member('limits', 'ann', repeat('"', 1000000));
SELECT length(apikey_me(:'stored')::text), length(apikey_me(:'stored')::json ->> 'email');

--
-- Dates
--

CREATE FUNCTION pg_temp.until(expires_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key text; result text;
BEGIN
	PERFORM set_config('role', 'regress_limits_ann', true);
	BEGIN
		key := apikey_create('until', 'standard', expires_at);
		PERFORM set_config('role', session_user, true);
		result := (apikey_inspect(key)).status || CASE WHEN (apikey_inspect(key)).expires_at IS NOT DISTINCT FROM nullif(until.expires_at, 'infinity') THEN ', as given' ELSE ', changed' END;
	EXCEPTION WHEN OTHERS THEN
		result := SQLSTATE || ': ' || SQLERRM;
	END;
	PERFORM set_config('role', 'regress_limits_ann', true);
	BEGIN
		key := apikey_create('until');
		PERFORM apikey_update(apikey_suffix(key), expires_at => until.expires_at);
		PERFORM set_config('role', session_user, true);
		result := result || '; updated: ' || (apikey_inspect(key)).status;
	EXCEPTION WHEN OTHERS THEN
		result := result || '; updated: ' || SQLSTATE;
	END;
	PERFORM set_config('role', session_user, true);
	RETURN result;
END $$;
SELECT label, pg_temp.until(expires_at) FROM (VALUES
	(1, 'infinity', 'infinity'::timestamptz), (2, '-infinity', '-infinity'),
	(3, 'the last', '294276-12-31 23:59:59.999999+00'), (4, 'the first', '4714-11-24 00:00:00+00 BC'),
	(5, 'now', now()), (6, 'by the clock', clock_timestamp()), (7, 'yesterday', now() - interval '1 day'), (8, 'the epoch', 'epoch'),
	(9, 'in an hour', date_trunc('second', now() + interval '1 hour')), (10, 'in a thousand years', date_trunc('second', now() + interval '1000 years'))) AS d (n, label, expires_at)
ORDER BY n;

-- overlaps of a rotation
CREATE FUNCTION pg_temp.rotated("overlap" interval, expires_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	old text; new text; o record; n record;
BEGIN
	PERFORM set_config('role', 'regress_limits_ann', true);
	old := apikey_create('rotated', 'standard', rotated.expires_at);
	new := apikey_rotate(apikey_suffix(old), rotated.overlap);
	PERFORM set_config('role', session_user, true);
	o := apikey_inspect(old);
	n := apikey_inspect(new);
	RETURN format('old %s, %s; new %s%s', o.status,
		CASE WHEN o.expires_at IS NOT DISTINCT FROM nullif(rotated.expires_at, 'infinity') THEN 'its own expiry' WHEN o.expires_at BETWEEN now() + rotated.overlap AND clock_timestamp() + rotated.overlap THEN 'the overlap' ELSE o.expires_at::text END,
		n.status, CASE WHEN n.expires_at IS DISTINCT FROM nullif(rotated.expires_at, 'infinity') THEN ', changed' END);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT overlap, pg_temp.rotated(overlap, 'infinity') AS of_infinity, pg_temp.rotated(overlap, date_trunc('day', now()) + interval '30 days') AS of_thirty_days
FROM unnest('{0,1 hour,29 days,31 days,100 years,-1 microsecond,-1 month 29 days,-100 years,200000 years,178000000 years,-178000000 years}'::interval[]) AS overlap;

-- and values of enums that do not exist
SELECT pg_temp.try('regress_limits_ann', 'SELECT apikey_create(''a'', $1[1]::apikey_level)', l) FROM unnest('{guest,ADMIN,""," admin"}'::text[]) AS l;
SELECT pg_temp.try('regress_limits_app', 'SELECT apikey_save_org(''limits'', ''a'', $1[1]::apikey_plan)', 'gold'), pg_temp.try('regress_limits_app', 'SELECT apikey_save_member(''limits'', ''a'', ''a'', $1[1]::apikey_role)', 'owner');

SELECT apikey_remove_org('limits');
DROP OWNED BY regress_limits_app;
DROP ROLE regress_limits_app, regress_limits_ann;
