-- Pages of a list: every tab, sort and direction gives what sorting the view
-- gives, page by page, also where rows are equal by what they are sorted by;
-- searches; cursors that are none; keys that come and go between two pages.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

CREATE ROLE regress_page_app;
SELECT apikey_grant_application('regress_page_app') \gset
SELECT apikey_save_org('page', 'Page', 'enterprise'),
	apikey_save_member('page', 'ann', 'Ann@page.example', 'admin'),
	apikey_save_member('page', 'bob', 'bob@page.example', 'standard'),
	apikey_save_member('page', 'zoé', 'ZOÉ@page.example', 'architect'),
	apikey_save_member('page', 'gus', 'gus@page.example', 'guest'),
	apikey_save_org('page-two', 'Two'),
	apikey_save_member('page-two', 'ann', 'ann@two.example', 'admin'),
	apikey_import_legacy('page', 'the legacy key of page') \gset

-- Keys with equal dates, names and expiries, as an import makes them.
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at, expires_at)
SELECT o.org_id, o.owner_id, 'Key ' || i % 7, 'standard',
	sha256(convert_to(o.org_id || o.owner_id || i, 'UTF8')),
	'2026-01-01'::timestamptz + i % 5 * '1 microsecond'::interval,
	CASE WHEN i % 3 > 0 THEN '2030-01-01'::timestamptz + i % 4 * '1 microsecond'::interval END
FROM (VALUES ('page', 'ann'), ('page', 'bob'), ('page', 'zoé'), ('page-two', 'ann')) AS o (org_id, owner_id),
	generate_series(1, 40) i;

-- All pages of a list, one after the other.
CREATE FUNCTION pg_temp.pages(tab text, sort text, descending boolean, size integer, search text DEFAULT NULL)
RETURNS TABLE (n bigint, suffix text, kind text, shown text) LANGUAGE plpgsql AS $$
DECLARE
	after text;
	p record;
	rows int;
BEGIN
	n := 0;
	LOOP
		rows := 0;
		FOR p IN SELECT * FROM apikey_page(tab, sort, descending, size, after, search) LOOP
			n := n + 1;
			rows := rows + 1;
			suffix := p.suffix;
			kind := p.kind;
			shown := (p.kind, p.org_id, p.owner_id, p.owner_email, p.name, p.level, p.suffix,
				p.created_at, p.expires_at, p.last_used_at, p.uses)::text;
			after := p.cursor;
			RETURN NEXT;
		END LOOP;
		EXIT WHEN rows < size;
	END LOOP;
END $$;

-- The same from the view; what is never comes after all dates.
CREATE FUNCTION pg_temp.listed(tab text, sort text, descending boolean)
RETURNS TABLE (n bigint, suffix text, kind text, shown text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'SELECT row_number() OVER (ORDER BY %1$s %3$s, coalesce(a.suffix, '''') COLLATE "C" %2$s), a.suffix, a.kind, a::text FROM %4$s a',
		CASE sort WHEN 'name' THEN 'a.name' WHEN 'created_at' THEN 'a.created_at'
			WHEN 'suffix' THEN 'a.suffix COLLATE "C"' WHEN 'owner_id' THEN 'a.owner_id COLLATE "C"'
			WHEN 'expires_at' THEN 'coalesce(a.expires_at, ''infinity'')'
			ELSE 'coalesce(a.last_used_at, ''-infinity'')' END,
		CASE WHEN descending THEN 'DESC' ELSE 'ASC' END,
		CASE WHEN descending THEN 'DESC NULLS FIRST' ELSE 'ASC NULLS LAST' END,
		CASE tab WHEN 'all' THEN 'apikeys' ELSE 'apikeys_' || tab END);
END $$;

GRANT USAGE ON SCHEMA public TO regress_page_app;
SET SESSION AUTHORIZATION regress_page_app;

--
-- As each member: every tab, sort, direction and some sizes
--
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT count(*) AS lists, sum(rows) AS rows, sum(differ) AS differ
FROM unnest('{all,mine,legacy}'::text[]) tab,
	unnest('{created_at,name,suffix,owner_id,expires_at,last_used_at}'::text[]) sort,
	unnest('{f,t}'::boolean[]) descending, unnest('{1,7,40,1000}'::int[]) size,
	LATERAL (SELECT count(*) AS rows,
			count(*) FILTER (WHERE p.shown IS DISTINCT FROM l.shown) AS differ
		FROM pg_temp.pages(tab, sort, descending, size) p
			FULL JOIN pg_temp.listed(tab, sort, descending) l ON l.n = p.n) c;
COMMIT;
BEGIN;
SELECT apikey_act_as('page', 'bob');
SELECT count(*) AS lists, sum(rows) AS rows, sum(differ) AS differ
FROM unnest('{all,mine,legacy}'::text[]) tab,
	unnest('{created_at,name,suffix,owner_id,expires_at,last_used_at}'::text[]) sort,
	unnest('{f,t}'::boolean[]) descending, unnest('{1,7,40,1000}'::int[]) size,
	LATERAL (SELECT count(*) AS rows,
			count(*) FILTER (WHERE p.shown IS DISTINCT FROM l.shown) AS differ
		FROM pg_temp.pages(tab, sort, descending, size) p
			FULL JOIN pg_temp.listed(tab, sort, descending) l ON l.n = p.n) c;
COMMIT;

-- A guest, a key and nobody see nothing.
BEGIN;
SELECT apikey_act_as('page', 'gus');
SELECT count(*) FROM apikey_page();
COMMIT;
BEGIN;
SELECT legacy FROM apikey_authenticate('the legacy key of page');
SELECT count(*) FROM apikey_page();
COMMIT;
SELECT count(*) FROM apikey_page();

--
-- Searching: a part of name, owner or email in any case, a suffix, a value
--
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT apikey_create('50%_off', 'admin') AS value \gset
SELECT search, count(*) AS found
FROM unnest(ARRAY['key 3', 'KEY 3', 'bob', 'BOB@PAGE', 'zoé@', 'ZOÉ', 'page.example', '%', '_', '50%_', 'nothing', '',
	repeat('x', 300)]) WITH ORDINALITY AS s (search, ordinal),
	LATERAL apikey_page(size => 1000, search => search) GROUP BY search, ordinal ORDER BY ordinal;
SELECT count(*) FROM apikey_page(search => 'no such thing');
SELECT name FROM apikey_page(search => :'value');
SELECT name FROM apikey_page(search => apikey_suffix(:'value'));
SELECT name FROM apikey_page(search => lower(apikey_suffix(:'value')));
-- a value with a wrong suffix is nobody's
SELECT count(*) FROM apikey_page(search => left(:'value', -1) || 'U');
-- every sort finds the same
SELECT sort, count(*), count(DISTINCT suffix) FROM unnest('{created_at,name,suffix,owner_id,expires_at,last_used_at}'::text[]) sort,
	LATERAL pg_temp.pages('all', sort, true, 7, 'key 3') GROUP BY sort ORDER BY sort;
COMMIT;
-- by the owner alone, and in the longest name, whose letters have several bytes
BEGIN;
SELECT apikey_save_member('page', 'kim', 'other@page.example') \gset
SELECT apikey_act_as('page', 'kim');
SELECT apikey_is_wellformed(apikey_create(repeat('€', 94) || 'Needle'));
SELECT length(name) AS letters, octet_length(name) AS bytes FROM apikey_page(search => 'nEEDLE');
COMMIT;
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT search, count(*) AS found FROM unnest('{kim,needle,€nee}'::text[]) search,
	LATERAL apikey_page(size => 1000, search => search) GROUP BY search ORDER BY search;
SELECT apikey_delete_all('kim');
-- a whole value is no part of a name, though somebody has given it as one
SELECT apikey_is_wellformed(apikey_create(:'value'));
SELECT name = '50%_off' AS own FROM apikey_page(search => :'value');
ROLLBACK;
SELECT apikey_remove_member('page', 'kim') \gset
-- of a member's own keys only
BEGIN;
SELECT apikey_act_as('page', 'bob');
SELECT search, count(*) AS found FROM unnest('{bob,ann,key,example}'::text[]) search,
	LATERAL apikey_page(size => 1000, search => search) GROUP BY search ORDER BY search;
SELECT count(*) FROM apikey_page(search => apikey_suffix(:'value'));
COMMIT;

--
-- A page goes on from its cursor's place, whatever has become of that key
--
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT suffix, cursor FROM apikey_page(sort => 'name', descending => false, size => 10) OFFSET 9 \gset
SELECT array_agg(suffix) AS next FROM apikey_page(sort => 'name', descending => false, size => 3, after => :'cursor') \gset
SELECT apikey_delete(:'suffix');
SELECT apikey_create('AAA') \gset
SELECT array_agg(suffix) = :'next' AS same FROM apikey_page(sort => 'name', descending => false, size => 3, after => :'cursor');
-- exact to the microsecond
SELECT count(DISTINCT created_at) AS dates, count(DISTINCT cursor) AS cursors, count(*) AS rows FROM apikey_page(size => 1000);
ROLLBACK;

--
-- What is no argument
--
CREATE FUNCTION pg_temp.try(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	hint text;
BEGIN
	EXECUTE 'SELECT count(*) FROM apikey_page(' || arguments || ')' INTO n;
	RETURN n;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || SQLERRM || ' ' || hint;
END $$;
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT arguments, pg_temp.try(arguments) FROM unnest(ARRAY[
	$$tab => 'others'$$, $$tab => NULL$$, $$sort => 'digest'$$, $$sort => NULL$$, $$descending => NULL$$,
	$$size => NULL$$, $$size => 0$$, $$size => -1$$, $$size => 1001$$,
	$$after => ''$$, $$after => 'all,created_at,desc'$$, $$after => 'all,created_at,desc,'$$, $$after => 'all,created_at,desc,,'$$,
	$$after => 'all,created_at,desc,0123456,1x'$$, $$after => 'all,created_at,desc,0123456,99999999999999999999'$$,
	$$after => 'all,created_at,desc,012345,1'$$, $$after => 'all,created_at,desc,01234/6,1'$$,
	$$after => 'all,name,desc,,a', sort => 'name'$$, $$after => 'all,name,desc,0123456,' || repeat('a', 2000), sort => 'name'$$, $$after => repeat('x', 2000)$$,
	$$after => 'all,created_at,desc,0123456,-9223372036854775808'$$, $$after => 'all,created_at,desc,,9223372036854775807', size => 1000$$,
	$$after => 'all,name,desc,,', sort => 'name'$$, $$after => 'all,name,asc,,', sort => 'name', descending => false$$,
	$$after => 'all,name,asc,0123456,', sort => 'name', descending => false, size => 1000$$]) WITH ORDINALITY AS a (arguments, ordinal)
ORDER BY ordinal;
-- A cursor is good for the tab, sort and direction that it was made for.
SELECT count(*) AS cursors, count(*) FILTER (WHERE result ~ '^22023') AS refused,
	count(*) FILTER (WHERE result !~ '^22023' AND (a.tab, a.sort, a.descending) = (b.tab, b.sort, b.descending)) AS right_ones
FROM (SELECT * FROM unnest('{all,mine}'::text[]) tab, unnest('{created_at,name,last_used_at}'::text[]) sort, unnest('{f,t}'::boolean[]) descending,
		LATERAL (SELECT cursor FROM apikey_page(tab, sort, descending, size => 1)) p) a,
	(SELECT * FROM unnest('{all,mine}'::text[]) tab, unnest('{created_at,name,last_used_at}'::text[]) sort, unnest('{f,t}'::boolean[]) descending) b,
	pg_temp.try(format('tab => %L, sort => %L, descending => %L, after => %L', b.tab, b.sort, b.descending, a.cursor)) result;
COMMIT;

--
-- What cannot be found is not looked for
--
RESET SESSION AUTHORIZATION;
CREATE FUNCTION pg_temp.reads(arguments text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	tables oid[] := ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = 'apikeys_private.apikey_key'::regclass);
	before bigint := (SELECT sum(pg_stat_get_xact_tuples_returned(t)) FROM unnest(tables) t);
BEGIN
	EXECUTE 'SELECT count(*) FROM apikey_page(' || arguments || ')';
	RETURN (SELECT sum(pg_stat_get_xact_tuples_returned(t)) FROM unnest(tables) t) - before;
END $$;
GRANT USAGE ON SCHEMA apikeys_private TO regress_page_app;
SET SESSION AUTHORIZATION regress_page_app;
BEGIN;
SELECT apikey_act_as('page', 'ann');
SELECT what, pg_temp.reads(arguments) FROM (VALUES
	('a part of a name', $$search => 'key 3'$$),
	('a whole value', format('search => %L', :'value')),
	('a whole value, in one''s own', format('tab => ''mine'', search => %L', :'value')),
	('a value with a wrong suffix', format('search => left(%L, -1) || ''U''', :'value')),
	('more than a value has', $$search => repeat('x', 256)$$),
	('behind the legacy key', $$sort => 'name', descending => false, after => 'all,name,asc,,'$$)) AS v (what, arguments);
COMMIT;

RESET SESSION AUTHORIZATION;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_page_app;
SELECT apikey_remove_org('page'), apikey_remove_org('page-two') \gset
DROP OWNED BY regress_page_app;
DROP ROLE regress_page_app;
