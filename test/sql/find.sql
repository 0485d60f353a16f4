--
-- find
--
-- Proves that values are found wherever they stand in a text or table, in all
-- spellings in which they travel, and nothing else; that a mangled value is told
-- from an unknown one; and what rules for scanners are like.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE EXTENSION hstore;
RESET client_min_messages;

CREATE ROLE regress_find_app;
SELECT apikey_grant_application('regress_find_app');
SELECT apikey_save_org('find', 'Find', 'enterprise');
SELECT apikey_save_member('find', 'ann', 'ann@find.example', 'admin');

BEGIN;
SELECT apikey_act_as('find', 'ann');
CREATE TABLE find_value AS
	SELECT n, apikey_create('key ' || n) AS value FROM generate_series(1, 3) n;
COMMIT;
GRANT SELECT ON find_value TO regress_find_app;
-- nobody's, of two prefixes
INSERT INTO find_value VALUES
	(4, 'na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/YNP8WXT'),
	(5, 'abcdefg8.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/12RH71Q');

-- What is found, by the number of the value and where it starts.
CREATE FUNCTION found(txt text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(coalesce(v.n::text, '?') || ' ' || f.status || ' at ' || f.start, ', ' ORDER BY f.start)
	FROM apikey_find(txt) f LEFT JOIN find_value v ON apikey_suffix(v.value) = f.suffix
$$;

-- What a value becomes on its way.
CREATE FUNCTION spelled(template text) RETURNS text LANGUAGE sql AS $$
	SELECT replace(replace(template, '$1', v[1]), '$4', v[4])
	FROM (SELECT array_agg(value ORDER BY n) AS v FROM find_value) x
$$;
CREATE FUNCTION with_slash(slash text) RETURNS text LANGUAGE sql AS $$
	SELECT replace(value, '/', slash) FROM find_value WHERE n = 1
$$;

--
-- Wherever it stands
--
SELECT template, found(spelled(template)) FROM (VALUES
	('$1'), (' $1 '), ('$1$1'), ('$1$4$1'), ('x$1'), ('X$1x'), ('"$1","$4"'), ('9$1'),
	('.$1'), ('a.$1'), ('/$1/'), ('$1.'), ('{"key": "$1"}'), ('\n$1\n'), ('https://x.example/?key=$1&b'),
	('postgres://$1@x'), ('Basic $1'), ('x=$1;y=$4'), ('äöü$1€$4'), ('😀😀$4')) AS t (template);

SELECT * FROM apikey_find((SELECT 'a ' || value FROM find_value WHERE n = 4));
SELECT f.start, f.suffix = apikey_suffix(v.value) AS suffix, f.status, f.org_id, f.owner_id
FROM find_value v, apikey_find('key: ' || v.value || '.') f WHERE v.n = 1;

--
-- Spellings of the slash, and what is none
--
SELECT slash, found(with_slash(slash)) FROM (VALUES
	('/'), ('%2F'), ('%2f'), ('%252F'), ('%25252f'), ('\/'), ('\\\/'), ('\u002F'), ('\\u002f'),
	('&#47;'), ('&#x2F;'), ('&#X2f;'), ('&sol;'),
	('//'), ('%'), ('%2'), ('%2E'), ('%25'), ('\'), ('u002F'), ('\u002'), ('\u002E'), ('&#47'), ('&#48;'),
	(repeat('\', 8) || '/'), (repeat('\', 9) || '/'), ('%' || repeat('25', 7) || '2F'), ('%' || repeat('25', 8) || '2F'),
	(''), ('-')) AS s (slash);

--
-- What is no value
--
SELECT what, found(txt) FROM (
	SELECT 'suffix in lower case', left(value, -7) || lower(right(value, 7)) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'another suffix', left(value, -7) || '0000000' FROM find_value WHERE n = 4 UNION ALL
	SELECT 'another prefix', 'b' || value FROM find_value WHERE n = 5 UNION ALL
	SELECT 'prefix in capitals', upper(left(value, 3)) || substr(value, 4) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'no prefix', substr(value, 4) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'no secret', substr(value, 1, 4) || right(value, 8) FROM find_value WHERE n = 4 UNION ALL
	SELECT '42 characters', substr(value, 1, 4) || substr(value, 6) FROM find_value WHERE n = 4 UNION ALL
	SELECT '44 characters', substr(value, 1, 4) || '0' || substr(value, 5) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'broken', substr(value, 1, 20) || ' ' || substr(value, 21) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'cut by one', left(value, -1) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'cut before the suffix', left(value, -7) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'cut before the slash', left(value, -8) FROM find_value WHERE n = 4 UNION ALL
	SELECT 'nothing', '' UNION ALL
	SELECT 'NULL', NULL) AS t (what, txt);
SELECT count(*) AS beginnings FROM find_value, generate_series(0, length(value) - 1) bytes, apikey_find(left(value, bytes));
SELECT count(*) AS one_character_off
FROM find_value v, generate_series(1, length(value)) place, apikey_find(overlay(value placing '-' from place for 1));

-- of a dead key, and none is a use
BEGIN;
SELECT apikey_act_as('find', 'ann');
SELECT apikey_delete(apikey_suffix(value)) FROM find_value WHERE n = 3;
COMMIT;
SELECT found(string_agg(value, ' ' ORDER BY n)) FROM find_value;

-- in a long text that is compressed, or stored outside of its row
SELECT found(repeat('a', 2000000) || ' ' || value) FROM find_value WHERE n = 1;
SELECT found(string_agg(md5(line::text), '/') || '.' || value) FROM generate_series(1, 20000) line, find_value v
WHERE v.n = 1 GROUP BY value;

--
-- In a table
--
CREATE DOMAIN find_domain AS varchar(200);
CREATE TYPE find_pair AS (a int, b text);
CREATE TABLE find_in (
	id int, gone text, t text, v varchar(200), c char(100), d find_domain, n name, j json, jb jsonb, b bytea, x xml,
	a text[], h hstore, r find_pair, "Odd ""name" text, num numeric, addr inet, at timestamptz);
ALTER TABLE find_in DROP COLUMN gone;
INSERT INTO find_in (id, t) SELECT g, 'filler ' || g FROM generate_series(1, 250) g;
INSERT INTO find_in SELECT 0, 'a ' || value, 'b ' || value, value, value, left(value, 63), json_build_object('k', value),
	jsonb_build_object('k', jsonb_build_array(value)), convert_to('bytes ' || value, 'UTF8'), xmlelement(name k, value),
	ARRAY['x', value], hstore('k', value), ROW(1, value)::find_pair, value, 1, '127.0.0.1', now()
FROM find_value WHERE n = 1;
INSERT INTO find_in (id, j, jb) SELECT 1, replace(to_json(value)::text, '/', '\/')::json,
	to_jsonb(value || value) FROM find_value WHERE n = 2;
SELECT f.column_name, f.ctid = t.ctid AS in_row, f.start, v.n, f.status, f.org_id, f.owner_id
FROM apikey_find_in('find_in') f JOIN find_value v ON apikey_suffix(v.value) = f.suffix
	JOIN find_in t ON t.ctid = f.ctid
ORDER BY v.n, f.column_name::text COLLATE "C", f.start;

-- partitions are looked through; a table without such columns, or rows, has none
CREATE TABLE find_parts (id int, t text) PARTITION BY RANGE (id);
CREATE TABLE find_part PARTITION OF find_parts FOR VALUES FROM (0) TO (10);
INSERT INTO find_parts SELECT n, value FROM find_value;
SELECT count(*) FROM apikey_find_in('find_parts');
CREATE TABLE find_numbers AS SELECT 1 AS a;
SELECT count(*) FROM apikey_find_in('find_numbers');
CREATE MATERIALIZED VIEW find_kept AS SELECT value FROM find_value;
SELECT count(*) FROM apikey_find_in('find_kept');
CREATE VIEW find_view AS SELECT value FROM find_value;
SELECT apikey_find_in('find_view');
SELECT apikey_find_in('pg_class_oid_index');
SELECT apikey_find_in(NULL);
SELECT apikey_find_in(0);

--
-- Who may
--
SET ROLE regress_find_app;
SELECT count(*) FROM find_value, apikey_find(value);
SELECT apikey_find_in('find_value');
RESET ROLE;
CREATE ROLE regress_find_nobody;
SET ROLE regress_find_nobody;
SELECT apikey_find('');
RESET ROLE;
-- an owner who is not allowed to read, or not all rows
GRANT EXECUTE ON FUNCTION apikey_find_in(regclass) TO regress_find_nobody;
SET ROLE regress_find_nobody;
SELECT apikey_find_in('find_value');
RESET ROLE;
GRANT SELECT ON find_value TO regress_find_nobody;
ALTER TABLE find_value ENABLE ROW LEVEL SECURITY;
SET ROLE regress_find_nobody;
SELECT apikey_find_in('find_value');
RESET ROLE;
ALTER TABLE find_value DISABLE ROW LEVEL SECURITY;
REVOKE EXECUTE ON FUNCTION apikey_find_in(regclass) FROM regress_find_nobody;

--
-- A value that was mangled is told from one that is unknown
--
SELECT template, status FROM (VALUES
	('$1'), ('$4'), ('Bearer $1'), ('"$1"'), (' $1'), ('$1 '), ('$1,$4'), ('longer than any key:   $1')) AS t (template),
	apikey_inspect(spelled(replace(template, '   ', repeat(' ', 300))));
SELECT slash, status FROM (VALUES ('%2F'), ('\/'), ('-')) AS s (slash), apikey_inspect(with_slash(slash));
SELECT string_agg(DISTINCT status, ' ') AS cut_short
FROM find_value, generate_series(4 + 21, length(value) - 1) bytes, apikey_inspect(left(value, bytes)) WHERE n = 4;
SELECT string_agg(DISTINCT status, ' ') AS too_short
FROM find_value, generate_series(0, 4 + 20) bytes, apikey_inspect(left(value, bytes)) WHERE n = 4;
SELECT what, status FROM (VALUES
	('another suffix', 'na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/0000000'),
	('looks like none', 'na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh/YNP8WXT'),
	('a host', 'www.an-example-of-a-long-name.example'),
	('a legacy key of nobody', 'legacy key of nobody'),
	('nothing', ''), ('NULL', NULL)) AS t (what, txt), apikey_inspect(txt);
SELECT apikey_import_legacy('find', 'na1.0123456789ABCDEFGHIJKLMNOPQR');
SELECT status, legacy FROM apikey_inspect('na1.0123456789ABCDEFGHIJKLMNOPQR');

--
-- Rules for scanners
--
SET apikeys.prefix = 'na1';
\pset format unaligned
SELECT apikey_scanner_rule(tool) FROM unnest(ARRAY['gitleaks', 'trufflehog', 'github', 'detect-secrets']) tool;
\pset format aligned
SELECT apikey_scanner_rule('grep');
SELECT apikey_scanner_rule(NULL);
-- the rule finds the spellings that apikey_find() does
SELECT slash, found(with_slash(slash)) IS NOT NULL AS found, with_slash(slash) ~ rule AS by_rule
FROM (VALUES ('/'), ('%2F'), ('%2f'), ('%252F'), ('\/'), ('\\\/'), ('\u002F'), ('&#47;'), ('&#x2F;'), ('&sol;'),
	('//'), ('%2E'), ('\'), ('u002F'), ('&#47')) AS s (slash),
	(SELECT substring(apikey_scanner_rule('github') FROM 'Secret format: na1([^\n]*)') AS rule) r;
RESET apikeys.prefix;

DROP TABLE find_value CASCADE;
DROP TABLE find_in, find_parts, find_numbers;
DROP TYPE find_pair;
DROP DOMAIN find_domain;
DROP FUNCTION found(text), spelled(text), with_slash(text);
SELECT apikey_remove_org('find');
DROP EXTENSION hstore;
REVOKE ALL ON SCHEMA public FROM regress_find_app;
DROP OWNED BY regress_find_app, regress_find_nobody;
DROP ROLE regress_find_app, regress_find_nobody;
