--
-- value
--
-- Proves the text format of values: that suffix and digest are what an
-- independent computation says, that nothing but the whole value passes, that
-- created values have the shape and spread that the contract promises, and who
-- may choose the prefix.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;

CREATE ROLE regress_value_app;
CREATE ROLE regress_value_ann;
SELECT apikey_grant_application('regress_value_app');
SELECT apikey_save_org('value', 'Value', 'enterprise');
SELECT apikey_save_org('value 2', 'Value 2');
SELECT apikey_save_member('value', 'ann', 'ann@value.example', 'admin', 'regress_value_ann');

-- How a statement ends.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text; detail text; hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;

-- Crockford's base 32 of the last 35 bits, by another way than the extension's.
CREATE FUNCTION pg_temp.base32(digest bytea) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + substr(bits, 5 * i + 1, 5)::bit(5)::int, 1), '' ORDER BY i)
	FROM generate_series(0, 6) AS i,
		(SELECT right(string_agg(get_byte(digest, b)::bit(8)::text, '' ORDER BY b), 35) AS bits
		 FROM generate_series(27, 31) AS b) AS tail
$$;

-- The value with this prefix and secret.
CREATE FUNCTION pg_temp.value(prefix text, secret text) RETURNS text LANGUAGE sql AS $$
	SELECT covered || '/' || pg_temp.base32(sha256(convert_to(covered, 'UTF8')))
	FROM (SELECT prefix || '.' || secret AS covered) AS v
$$;

--
-- Known answers, computed outside of PostgreSQL. These are nobody's keys.
--

CREATE TEMPORARY TABLE known (value text, digest bytea);
INSERT INTO known VALUES
	('na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/YNP8WXT', '\x9b67489403a912a9b54974879329cedbf3f878ea74b4ead6c80785dfab6473ba'),
	('ak.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG/HJB7C1P', '\xa76165f82f0dc71a8bc4f87a6f5f567bfdb58af50b2473cba6bc23f464b3b036'),
	('abcdefg8.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/12RH71Q', '\x7842a4fa592c5ab5de22b26997d62b2c781925784f1fbcbda42e854845889c37'),
	('a.0000000000000000000000000000000000000000000/0KMH3Q6', '\x69679a3b962fde095fdc964441e8f04699b8dceabb1bf3adf585471827488ee6');
GRANT SELECT ON known TO PUBLIC;
SELECT value, octet_length(value), apikey_is_wellformed(value) AS wellformed,
	value ~ ('^(' || apikey_pattern() || ')$') AS matches,
	apikey_suffix(value), apikey_suffix(value) = apikeys_private.apikey_digest_suffix(digest) AS of_digest,
	apikey_suffix(value) = pg_temp.base32(digest) AS of_base32,
	pg_temp.value(split_part(value, '.', 1), substr(split_part(value, '/', 1), strpos(value, '.') + 1)) = value AS again
FROM known;

-- bits in, characters out: most significant first, none but the last 35 count
SELECT digest, apikeys_private.apikey_digest_suffix(digest), pg_temp.base32(digest)
FROM (VALUES ('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea),
	('\xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff'),
	('\xffffffffffffffffffffffffffffffffffffffffffffffffffffff0000000000'),
	('\x0000000000000000000000000000000000000000000000000000000000000001'),
	('\x0000000000000000000000000000000000000000000000000000000400000000'),
	('\x0000000000000000000000000000000000000000000000000000000800000000'),
	('\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f')) AS d (digest);
SELECT pg_temp.try($$SELECT apikeys_private.apikey_digest_suffix(decode(repeat('00', 31), 'hex'))$$);
SELECT pg_temp.try($$SELECT apikeys_private.apikey_digest_suffix(decode(repeat('00', 33), 'hex'))$$);
SELECT pg_temp.try($$SELECT apikeys_private.apikey_digest_suffix('')$$);

--
-- apikey_suffix: the 7 alphanumerics after the last slash
--

SELECT key, apikey_suffix(key) FROM (VALUES
	('anything/1234567'), ('/1234567'), ('a/b/c/1234567'), ('//1234567'),
	('a/abcdefg'), ('a/ILOUilo'), ('1234567'), ('a/123456'), ('a/12345678'),
	('a/1234567/'), ('a/1234567 '), (' a/1234567'), (E'a/1234567\n'),
	('a/123456_'), ('a/123456-'), ('a/12345é'), ('a/123456é'), ('é/1234567'),
	('a\1234567'), ('/'), (''), (' '), (NULL)) AS v (key);
-- what the ranges of letters and digits border on
SELECT string_agg(chr(c), '' ORDER BY c) AS alphanumeric
FROM generate_series(1, 255) AS c WHERE apikey_suffix('a/123456' || chr(c)) IS NOT NULL;

--
-- apikey_is_wellformed: every character counts
--

-- each character of each known value, replaced by each other printable one,
-- by control characters and by some that take more than a byte
SELECT count(*) AS tried, count(*) FILTER (WHERE apikey_is_wellformed(overlay(value PLACING chr(c) FROM p FOR 1))) AS passed
FROM known, generate_series(1, length(value)) AS p,
	(SELECT generate_series(1, 127) UNION ALL SELECT unnest('{128, 160, 233, 8364, 65313, 128512}'::int[])) AS other (c)
WHERE substr(value, p, 1) <> chr(c);
-- each taken away, doubled, or exchanged with the next
SELECT count(*) AS tried, count(*) FILTER (WHERE apikey_is_wellformed(k)) AS passed
FROM known, generate_series(1, length(value)) AS p,
	unnest(ARRAY[overlay(value PLACING '' FROM p FOR 1),
		overlay(value PLACING repeat(substr(value, p, 1), 2) FROM p FOR 1),
		overlay(value PLACING reverse(substr(value, p, 2)) FROM p FOR 2)]) AS k
WHERE k <> value;
-- cut off at either end
SELECT count(*) AS tried, count(*) FILTER (WHERE apikey_is_wellformed(k)) AS passed
FROM known, generate_series(0, length(value) - 1) AS p,
	unnest(ARRAY[left(value, p), right(value, p)]) AS k;
-- something put around it
SELECT count(*) AS tried, count(*) FILTER (WHERE apikey_is_wellformed(k)) AS passed
FROM known, (SELECT generate_series(1, 127) UNION ALL SELECT 233) AS other (c),
	unnest(ARRAY[chr(c) || value, value || chr(c)]) AS k;
SELECT key, apikey_is_wellformed(key) FROM known,
	unnest(ARRAY[upper(value), lower(value), initcap(value), value || value,
		value || '/' || apikey_suffix(value), replace(value, '/', '//'),
		'Bearer ' || value, '"' || value || '"']) AS key
WHERE value LIKE 'na1.%';
SELECT apikey_is_wellformed(NULL), apikey_is_wellformed('');

-- Other shapes, with the suffix that would belong to them: only prefixes and
-- secrets of the right length and alphabet pass, and the pattern agrees.
SELECT prefix, length(secret), left(secret, 3) AS secret, apikey_is_wellformed(v) AS wellformed,
	v ~ ('^(' || apikey_pattern() || ')$') AS matches
FROM (VALUES ('a', repeat('x', 43)), ('z', repeat('0', 43)), ('a1234567', repeat('Z', 43)), ('abcdefgh', repeat('9', 43)),
	('a12345678', repeat('x', 43)), ('abcdefghi', repeat('x', 42)), ('', repeat('x', 43)), ('', repeat('x', 44)),
	('1a', repeat('x', 43)), ('9', repeat('x', 43)), ('A', repeat('x', 43)), ('aB', repeat('x', 43)),
	('a-b', repeat('x', 43)), ('a_', repeat('x', 43)), ('a.b', repeat('x', 43)), ('a b', repeat('x', 43)), ('é', repeat('x', 43)),
	('ak', repeat('x', 42)), ('ak', repeat('x', 44)), ('ak', ''),
	('ak', repeat('-', 43)), ('ak', repeat('_', 43)), ('ak', repeat('.', 43)), ('ak', repeat('/', 43)),
	('ak', '+' || repeat('x', 42)), ('ak', '@' || repeat('x', 42)), ('ak', '[' || repeat('x', 42)),
	('ak', '`' || repeat('x', 42)), ('ak', '{' || repeat('x', 42)), ('ak', ':' || repeat('x', 42)),
	('ak', 'é' || repeat('x', 42)), ('ak', 'é' || repeat('x', 41)), ('ak', '/' || repeat('x', 42))) AS s (prefix, secret),
	pg_temp.value(prefix, secret) AS v;

-- the pattern finds a value in running text, and says no more than it can
SELECT apikey_pattern();
SELECT (regexp_match('token=' || value || '; next', apikey_pattern()))[1] = value AS found,
	overlay(value PLACING '0000000' FROM length(value) - 6) ~ apikey_pattern() AS lookalike,
	overlay(value PLACING 'ILOUILO' FROM length(value) - 6) ~ apikey_pattern() AS no_suffix
FROM known;

--
-- Created values
--

SET ROLE regress_value_ann;
CREATE TEMPORARY TABLE created AS
	SELECT n, apikey_create('key ' || n) AS value FROM generate_series(1, 2000) AS n;
RESET ROLE;

SELECT count(*) AS values, count(DISTINCT value) AS different, min(octet_length(value)), max(octet_length(value)),
	count(*) FILTER (WHERE value ~ '^ak\.[0-9A-Za-z]{43}/[0-9ABCDEFGHJKMNPQRSTVWXYZ]{7}$') AS in_shape,
	count(*) FILTER (WHERE value ~ ('^(' || apikey_pattern() || ')$')) AS matching,
	count(*) FILTER (WHERE apikey_is_wellformed(value)) AS wellformed,
	count(*) FILTER (WHERE pg_temp.value('ak', substr(value, 4, 43)) = value) AS as_computed
FROM created;

-- what is stored of each: SHA-256 of all before the last slash, and the suffix
SELECT count(*) AS keys,
	count(*) FILTER (WHERE k.digest = sha256(convert_to(left(c.value, -8), 'UTF8'))) AS digest,
	count(*) FILTER (WHERE k.suffix = right(c.value, 7)) AS suffix,
	count(*) FILTER (WHERE k.suffix = apikeys_private.apikey_digest_suffix(k.digest)) AS of_digest,
	count(*) FILTER (WHERE k.suffix = pg_temp.base32(k.digest)) AS of_base32
FROM created c JOIN apikeys_private.apikey_key k ON k.org_id = 'value' AND k.name = 'key ' || c.n;
-- and nothing of the value but the suffix, anywhere
SELECT count(*) AS rows_with_a_secret
FROM created c JOIN apikeys_private.apikey_key k ON k.org_id = 'value' AND k.name = 'key ' || c.n
WHERE strpos(k::text, substr(c.value, 4, 43)) > 0
	OR strpos(k::text, encode(convert_to(substr(c.value, 4, 43), 'UTF8'), 'hex')) > 0;

-- The secret is drawn uniformly. Pearson's statistic has a mean of 61 here; a
-- byte taken modulo 62 would give 500 and more. Beyond 170 it is by chance once
-- in 10^11 tests.
WITH drawn AS (
	SELECT p, substr(value, 3 + p, 1) AS c FROM created, generate_series(1, 43) AS p
), expected AS (
	SELECT count(*) / 62.0 AS all_places, count(*) / 62.0 / 43 AS a_place FROM drawn
), everywhere AS (
	SELECT c, count(*) AS n FROM drawn GROUP BY c
), place AS (
	SELECT p, sum((coalesce(n, 0) - a_place) ^ 2 / a_place) AS x2
	FROM expected, generate_series(1, 43) AS p CROSS JOIN (SELECT DISTINCT c FROM drawn) AS cs
		LEFT JOIN (SELECT p, c, count(*) AS n FROM drawn GROUP BY p, c) AS seen USING (p, c)
	GROUP BY p
)
SELECT (SELECT string_agg(c, '' ORDER BY c COLLATE "C") FROM everywhere) AS alphabet,
	(SELECT sum((n - all_places) ^ 2 / all_places) < 170 FROM everywhere, expected) AS uniform,
	(SELECT max(x2) < 170 FROM place) AS in_each_place;
SELECT string_agg(DISTINCT c COLLATE "C", '' ORDER BY c COLLATE "C") AS suffix_alphabet
FROM created, regexp_split_to_table(right(value, 7), '') AS c;

-- every one is a key; none is without its suffix, nor in another case, whether
-- or not it has just been verified
GRANT SELECT ON created TO PUBLIC;
SET ROLE regress_value_app;
SELECT times, count(*) AS keys, count(*) FILTER (WHERE apikey_check_level(value, 'standard')) AS live
FROM generate_series(1, 3) AS times, created WHERE n % 10 = 0 GROUP BY times ORDER BY times;
SELECT form, bool_and(apikey_check_level(value, 'standard')) AS live,
	count(*) FILTER (WHERE apikey_check_level(key, 'standard')) AS passed,
	count(*) FILTER (WHERE EXISTS (SELECT FROM apikey_verify(key))) AS verified,
	count(apikey_me(key)) AS me, string_agg(DISTINCT (apikey_inspect(key)).status, ', ') AS status
FROM created, LATERAL (VALUES
	('without suffix', left(value, -8)),
	('without suffix, with slash', left(value, -7)),
	('suffix cut', left(value, -1)),
	('suffix in lower case', left(value, -7) || lower(right(value, 7))),
	('suffix of the next', left(value, -7) || (SELECT right(c.value, 7) FROM created c WHERE c.n = created.n + 1)),
	('secret of the next', (SELECT left(c.value, -7) FROM created c WHERE c.n = created.n + 1) || right(value, 7)),
	('another prefix', 'na1' || substr(value, 3)),
	('another prefix, its suffix', pg_temp.value('na1', substr(value, 4, 43))),
	('without prefix', substr(value, 4)),
	('upper case', upper(value)),
	('secret in lower case', lower(left(value, -7)) || right(value, 7)),
	('blank before', ' ' || value),
	('blank after', value || ' '),
	('line end after', value || E'\n'),
	('carriage return after', value || E'\r'),
	('suffix twice', value || right(value, 8)),
	('quoted', '"' || value || '"'),
	('digest', (encode(sha256(convert_to(left(value, -8), 'UTF8')), 'hex')))) AS f (form, key)
WHERE n % 100 = 0 AND key <> value
GROUP BY form ORDER BY form COLLATE "C";
-- nor does any well-formed value that was not created here
SELECT count(*) FILTER (WHERE apikey_check_level(value, 'standard')) AS passed,
	string_agg(DISTINCT (apikey_inspect(value)).status, ', ') AS status FROM known;
RESET ROLE;

-- A legacy key that is what a value covers has the same digest, and is another
-- key for all that. Asked in turn, so that what was kept of one is there when
-- the other comes.
SELECT value AS native, left(value, -8) AS covered FROM created WHERE n = 1 \gset
SELECT apikey_import_legacy('value 2', :'covered');
SELECT k.digest = l.digest AS same FROM apikeys_private.apikey_legacy l, apikeys_private.apikey_key k
WHERE l.org_id = 'value 2' AND k.org_id = 'value' AND k.name = 'key 1';
SET ROLE regress_value_app;
SELECT apikey_check_level(:'native', 'admin') AS native, apikey_check_level(:'covered', 'admin') AS covered FROM generate_series(1, 3);
SELECT v.org_id, v.level, v.legacy FROM unnest(ARRAY[:'native', :'covered', :'native', :'covered']) AS k, apikey_verify(k) AS v;
RESET ROLE;
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'value 2';
SELECT apikey_check_level(:'native', 'standard') AS native, apikey_check_level(:'covered', 'standard') AS covered FROM generate_series(1, 2);
SELECT apikey_import_legacy('value 2', :'covered');
SELECT apikey_check_level(:'covered', 'admin') AS covered FROM generate_series(1, 2);
DELETE FROM apikeys_private.apikey_key WHERE org_id = 'value' AND name = 'key 1';
SELECT apikey_check_level(:'native', 'standard') AS native, apikey_check_level(:'covered', 'admin') AS covered FROM generate_series(1, 2);

--
-- The prefix
--

SHOW apikeys.prefix;
SELECT prefix, pg_temp.try(format('SET apikeys.prefix = %L', prefix)) AS result FROM (VALUES
	('a'), ('na1'), ('a1234567'), ('abcdefgh'), ('z9'),
	(''), ('abcdefghi'), ('1a'), ('A'), ('aB'), ('a-b'), ('a.'), ('a/'), (' a'), ('a '), ('é'), (E'a\n')) AS p (prefix);
-- what was refused changed nothing
SHOW apikeys.prefix;
SELECT pg_temp.try($$ALTER ROLE regress_value_ann SET apikeys.prefix = 'no good'$$);
SELECT pg_temp.try($$SET apikeys.prefixx = 'a'$$);

-- ordinary roles may not set it, unless they are allowed to
SET ROLE regress_value_ann;
SELECT pg_temp.try($$SET apikeys.prefix = 'eu2'$$);
SELECT pg_temp.try($$SELECT set_config('apikeys.prefix', 'eu2', true)$$);
SELECT pg_temp.try($$ALTER ROLE regress_value_ann SET apikeys.prefix = 'eu2'$$);
SHOW apikeys.prefix;
RESET ROLE;
GRANT SET ON PARAMETER apikeys.prefix TO regress_value_ann;
SET ROLE regress_value_ann;
SET apikeys.prefix = 'eu2';
SELECT apikey_create('from eu2') AS eu2 \gset
SET apikeys.prefix = 'a1234567';
SELECT apikey_create('from the longest') AS longest \gset
SET apikeys.prefix = 'z';
SELECT apikey_create('from the shortest') AS shortest \gset
RESET apikeys.prefix;
SELECT apikey_create('from the default') AS other \gset
RESET ROLE;
REVOKE SET ON PARAMETER apikeys.prefix FROM regress_value_ann;

-- earlier prefixes keep working, and so do the digests of all
SET apikeys.prefix = 'na1';
SET ROLE regress_value_app;
SELECT split_part(v, '.', 1) AS prefix, octet_length(v), apikey_is_wellformed(v),
	apikey_check_level(v, 'standard'), (apikey_inspect(v)).name
FROM unnest(ARRAY[:'eu2', :'longest', :'shortest', :'other']) AS v;
RESET ROLE;
RESET apikeys.prefix;

SELECT apikey_remove_org('value');
SELECT apikey_remove_org('value 2');
DROP OWNED BY regress_value_app, regress_value_ann;
DROP ROLE regress_value_app, regress_value_ann;
