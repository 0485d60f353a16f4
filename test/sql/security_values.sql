-- Attacks 16 to 18: values that look like keys, and cost no more than a
-- refusal should; arguments that are out of this world; and values that turn
-- up where they have no business to be.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
-- what other tests have deleted is not told here
SELECT apikey_prune_history('infinity') >= 0 AS pruned;
SET apikeys.session_principal = on;	-- so that a principal can last
CREATE ROLE regress_values_app;
CREATE ROLE regress_values_user;
SELECT apikey_grant_application('regress_values_app');
SELECT apikey_save_org('security_values', 'Values', 'enterprise');
SELECT apikey_save_member('security_values', 'ann', 'ann@example.com', 'admin');
SELECT apikey_act_as('security_values', 'ann', session => true);
SELECT apikey_import_legacy('security_values', 'security_values legacy key');
SELECT pg_switch_wal() IS NULL AS "so that one segment holds what follows";
SET ROLE regress_values_app;
SELECT apikey_create('key', 'admin') AS v \gset
RESET ROLE;
SELECT split_part(:'v', '/', 1) AS front, apikey_suffix(:'v') AS suffix,
	substr(split_part(:'v', '/', 1), 4) AS secret \gset

-- attack 16: what is not a key. All functions agree, and none raises an error.
CREATE TEMP TABLE presented (what text, value text);
INSERT INTO presented VALUES
	('the key', :'v'),
	('the legacy key', 'security_values legacy key'),
	('wrong secret, right suffix', overlay(:'v' PLACING CASE substr(:'v', 20, 1) WHEN 'a' THEN 'b' ELSE 'a' END FROM 20 FOR 1)),
	('first character of the secret', overlay(:'v' PLACING CASE substr(:'v', 4, 1) WHEN 'a' THEN 'b' ELSE 'a' END FROM 4 FOR 1)),
	('last character of the secret', overlay(:'v' PLACING CASE substr(:'v', 46, 1) WHEN 'a' THEN 'b' ELSE 'a' END FROM 46 FOR 1)),
	('another prefix', 'am' || substr(:'v', 3)),
	('no prefix', substr(:'v', 3)),
	('longer prefix', 'ak2' || substr(:'v', 3)),
	('wrong suffix', :'front' || '/0000000'),
	('suffix in lower case', :'front' || '/' || CASE lower(:'suffix') WHEN :'suffix' THEN 'abcdefg' ELSE lower(:'suffix') END),
	('all in upper case', upper(:'v')),
	('all in lower case', CASE lower(:'v') WHEN :'v' THEN '' ELSE lower(:'v') END),
	('blank after', :'v' || ' '),
	('blank before', ' ' || :'v'),
	('newline after', :'v' || E'\n'),
	('carriage return after', :'v' || E'\r'),
	('tab before', E'\t' || :'v'),
	('no slash', replace(:'v', '/', '')),
	('no suffix', :'front'),
	('slash and no suffix', :'front' || '/'),
	('suffix only', '/' || :'suffix'),
	('many slashes', repeat('/', 60)),
	('a slash more', replace(:'v', '/', '//')),
	('suffix twice', :'v' || '/' || :'suffix'),
	('suffix too long', :'v' || '0'),
	('suffix too short', left(:'v', -1)),
	('slash for dot', replace(:'v', '.', '/')),
	('Cyrillic a in the prefix', 'а' || substr(:'v', 2)),
	('soft hyphen', overlay(:'v' PLACING U&'\00AD' FROM 20 FOR 0)),
	('zero width', :'v' || U&'\200B'),
	('multibyte of the same length', repeat('é', 27)),
	('escape sequence', E'\x1b[2J' || :'v'),
	('quoted', quote_literal(:'v')),
	('as a header', 'Bearer ' || :'v'),
	('the digest', encode(sha256(:'front'::bytea), 'hex')),
	('empty', ''),
	('one byte', 'x'),
	('one multibyte character', '€'),
	('15 bytes', repeat('x', 15)),
	('16 bytes', repeat('x', 16)),
	('255 bytes', repeat('x', 255)),
	('256 bytes', repeat('x', 256)),
	('legacy in upper case', 'SECURITY_VALUES LEGACY KEY'),
	('legacy with blank', 'security_values legacy key '),
	('half of the legacy key', 'security_values legacy'),
	('SQL', ''' OR true --'),
	('pattern', '%'),
	('null', NULL);
SELECT what, apikey_is_wellformed(value) AS wellformed, apikey_check_level(value, 'standard') AS level,
	(SELECT count(*) FROM apikey_verify(value)) AS verified, apikey_me(value) IS NOT NULL AS me,
	(SELECT status FROM apikey_inspect(value)) AS status
FROM presented;
-- presented to be a principal
CREATE FUNCTION pg_temp.outcome(query text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
BEGIN
	EXECUTE format(query, VARIADIC args);
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	RETURN state || ' ' || message;
END $$;
SELECT pg_temp.outcome('SELECT apikey_authenticate(%L)', value) AS outcome, count(*)
FROM presented WHERE what NOT IN ('the key', 'the legacy key') GROUP BY 1 ORDER BY 1;
-- what bytes cannot be text PostgreSQL refuses before we are called
\set VERBOSITY terse
SELECT apikey_check_level(E'\xff\xfe', 'standard');
SELECT apikey_check_level(convert_from('\x616b2e00', 'UTF8'), 'standard');
SELECT apikey_check_level(chr(0), 'standard');

-- attack 16: size. What is too long is not read: not a block of its TOAST table
-- is looked at, and nothing is decompressed.
CREATE TEMP TABLE long (what text, value text);
ALTER TABLE long ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TEMP TABLE compressed (what text, value text);
INSERT INTO long VALUES ('1 MB', repeat('x', 1000000)), ('native', repeat(:'v' || '/', 20000) || :'suffix');
INSERT INTO compressed SELECT * FROM long;
INSERT INTO compressed VALUES ('5 MB', repeat('x', 5000000));
SELECT what, pg_column_size(value) < length(value) / 20 AS compressed FROM compressed;
CREATE FUNCTION pg_temp.blocks(tab regclass) RETURNS bigint LANGUAGE sql
RETURN (SELECT pg_stat_get_xact_blocks_fetched(reltoastrelid) FROM pg_class WHERE oid = tab);
BEGIN;
SELECT pg_temp.blocks('long') AS long, pg_temp.blocks('compressed') AS compressed \gset before_
SELECT what, apikey_is_wellformed(value), apikey_suffix(value), apikey_check_level(value, 'standard'),
	(SELECT count(*) FROM apikey_verify(value)) AS verified, apikey_me(value), (SELECT status FROM apikey_inspect(value))
FROM (TABLE long UNION ALL TABLE compressed) t;
SELECT pg_temp.outcome('SELECT apikey_authenticate(value) FROM compressed');
SELECT pg_temp.blocks('long') - :before_long AS long, pg_temp.blocks('compressed') - :before_compressed AS compressed;
-- that this counts: whoever looks at it reads blocks
SELECT sum(ascii(right(value, 1))) > 0 FROM long;
SELECT pg_temp.blocks('long') - :before_long > 0 AS long;
COMMIT;
-- as other arguments, too
SELECT argument, pg_temp.outcome('SELECT ' || argument || ' FROM long WHERE what = ''1 MB''') FROM unnest(ARRAY[
	'apikey_allows(value)', 'apikey_check(''x'', value)', 'apikey_act_as(value, ''x'')', 'apikey_act_as(''security_values'', value)',
	'apikey_save_org(value, ''x'')', 'apikey_save_member(''security_values'', value, ''x'')', 'apikey_remove_org(value)',
	'apikey_remove_member(value, value)', 'apikey_import_legacy(''security_values'', value)', 'apikey_import_legacy(value, ''x'')']) argument;
SET ROLE regress_values_app;
SELECT pg_temp.outcome('SELECT apikey_create(repeat(''x'', 1000000))');
SELECT pg_temp.outcome('SELECT apikey_update(%L, repeat(''x'', 1000000))', :'suffix');
SELECT pg_temp.outcome('SELECT apikey_delete(repeat(''x'', 1000000))');
SELECT pg_temp.outcome('SELECT apikey_delete_all(repeat(''x'', 1000000))');
RESET ROLE;

-- attack 16: a refusal that needs no table looks at none
CREATE TEMP TABLE refused AS SELECT * FROM presented
WHERE what IN ('wrong secret, right suffix', 'wrong suffix', 'another prefix', 'newline after', '256 bytes', 'empty', 'null');
BEGIN;
SELECT pg_stat_get_xact_numscans('apikeys_private.apikey_key_digest_excl'::regclass) AS key, pg_stat_get_xact_numscans('apikeys_private.apikey_legacy_digest_excl'::regclass) AS legacy \gset before_
SELECT count(*) FROM refused, LATERAL apikey_inspect(value)
WHERE NOT apikey_check_level(value, 'standard') AND status = 'malformed';
SELECT pg_stat_get_xact_numscans('apikeys_private.apikey_key_digest_excl'::regclass) - :before_key AS key,
	pg_stat_get_xact_numscans('apikeys_private.apikey_legacy_digest_excl'::regclass) - :before_legacy AS legacy;
-- what may be a key is looked up once, among those of its kind
SELECT status FROM apikey_inspect(:'v');
SELECT pg_stat_get_xact_numscans('apikeys_private.apikey_key_digest_excl'::regclass) - :before_key AS key,
	pg_stat_get_xact_numscans('apikeys_private.apikey_legacy_digest_excl'::regclass) - :before_legacy AS legacy;
SELECT status FROM apikey_inspect('could be a legacy key');
SELECT pg_stat_get_xact_numscans('apikeys_private.apikey_key_digest_excl'::regclass) - :before_key AS key,
	pg_stat_get_xact_numscans('apikeys_private.apikey_legacy_digest_excl'::regclass) - :before_legacy AS legacy;
COMMIT;

-- attack 17: levels, roles and plans that do not exist, NULL, dates out of this
-- world, names that do something when shown
SET ROLE regress_values_app;
SELECT call, pg_temp.outcome('SELECT ' || replace(call, '@', quote_literal(:'suffix'))) FROM unnest(ARRAY[
	'apikey_create(''x'', ''guest'')', 'apikey_create(''x'', '''')', 'apikey_create(''x'', NULL)', 'apikey_create(NULL)',
	'apikey_create(''x'', ''standard'', NULL)', 'apikey_create(''x'', expires_at => ''-infinity'')',
	'apikey_create(''x'', expires_at => ''epoch'')', 'apikey_create(''x'', expires_at => ''4713-01-01 BC'')',
	'apikey_create(''x'', expires_at => now())', 'apikey_create(''x'', expires_at => ''294276-12-31 23:59:59+00'')',
	'apikey_create(''x'', expires_at => ''294277-01-01'')', 'apikey_create(''x'', expires_at => ''infinity'')',
	'apikey_update(@, expires_at => ''-infinity'')', 'apikey_update(@, level => ''none'')', 'apikey_update(NULL)', 'apikey_update(@)',
	'apikey_rotate(@, NULL)', 'apikey_rotate(NULL)', 'apikey_rotate(@, ''-1 microsecond'')', 'apikey_rotate(@, ''1 month -40 days'')',
	'apikey_rotate(@, ''178000000 years'')', 'apikey_rotate(@, ''1000000 years'')',
	'apikey_delete(NULL)', 'apikey_delete_all(NULL)', 'apikey_allows(NULL)', 'apikey_check_level(NULL, NULL)', 'apikey_check(NULL, NULL)',
	'apikey_check_level(''x'', ''guest'')', 'apikey_act_as(NULL, ''x'')', 'apikey_act_as(''security_values'', NULL)',
	'apikey_act_as(''security_values'', ''ann'', NULL)', 'apikey_authenticate(NULL)', 'apikey_save_org(NULL, ''x'')',
	'apikey_save_org(''security_values'', NULL, ''gold'')', 'apikey_save_member(''security_values'', NULL, ''x'')',
	'apikey_save_member(''security_values'', ''ann'', NULL, ''root'')', 'apikey_remove_org(NULL)', 'apikey_remove_member(NULL, NULL)']) call;
SELECT what, pg_temp.outcome('SELECT apikey_create(%L)', name) AS outcome FROM (VALUES
	('empty', ''), ('100 characters', repeat('é', 100)), ('101', repeat('é', 101)), ('blank', ' '), ('pattern', '%_\'),
	('quotes', '''"`$$'), ('SQL', '''); DROP TABLE apikeys_private.apikey_key; --'), ('newline', E'a\nb'), ('carriage return', E'a\rb'), ('tab', E'a\tb'),
	('terminal escape', E'\x1b[31mred'), ('bell', E'\x07'), ('delete', E'\x7f'), ('C1', U&'\009B31m'), ('next line', U&'\0085'),
	('no-break space', U&'\00A0'), ('emoji', '🔑'), ('format', '%s%n$1'), ('JSON', '{"a": "\u0000"}')) AS t (what, name);
SELECT apikey_delete(suffix) FROM apikeys WHERE name <> 'key' AND kind = 'user';
RESET ROLE;
SELECT what, pg_temp.outcome('SELECT apikey_save_org(%L, ''x'')', id) AS outcome FROM (VALUES
	('empty', ''), ('128 bytes', repeat('x', 128)), ('129 bytes', repeat('x', 129)), ('130 bytes in 65 characters', repeat('é', 65)),
	('quotes', '''"\'), ('tab', E'security_values\tann'), ('newline', E'a\nb'), ('C1', U&'\009B')) AS t (what, id);
DELETE FROM apikeys_private.apikey_org WHERE org_id IN (repeat('x', 128), '''"\');
-- an identifier with quotes is no way out of the text that says who one is, or
-- of the JSON that tells
BEGIN;
SELECT apikey_save_org('security"values\', 'x', 'free');
SELECT apikey_save_member('security"values\', 'ann","role":"ADMIN', E'"\n\\ü', 'standard');
SELECT apikey_act_as('security"values\', 'ann","role":"ADMIN');
SELECT apikey_create('x') AS odd \gset
SELECT apikey_current_org(), apikey_current_user(), apikey_me(:'odd')::jsonb;
ROLLBACK;

-- attack 18: no message, detail, hint or context repeats a value, wherever it
-- was put by mistake
CREATE FUNCTION pg_temp.told(query text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
	context text;
BEGIN
	EXECUTE 'SELECT ' || query USING value;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	RETURN state || CASE WHEN concat(message, detail, hint, context) LIKE '%' || current_setting('security_values.secret') || '%' THEN ' told' ELSE ' not told' END;
END $$;
SET security_values.secret = :'secret';
SET ROLE regress_values_app;
SELECT call, pg_temp.told(call, wrong) FROM (SELECT :'front' || '/0000000' AS wrong) w, unnest(ARRAY[
	'apikey_authenticate($1)', 'apikey_allows($1)', 'apikey_check($1, $1)', 'apikey_act_as($1, $1)', 'apikey_act_as(''security_values'', $1)',
	'apikey_delete($1)', 'apikey_update($1, ''x'')', 'apikey_update($1, $1, ''admin'', ''-infinity'')', 'apikey_rotate($1)', 'apikey_rotate($1, ''-1 s'')',
	'apikey_delete_all($1)', 'apikey_create($1 || $1 || $1)', 'apikey_create($1, ''admin'', ''-infinity'')', 'apikey_save_org($1, NULL)',
	'apikey_save_org($1 || $1 || $1, ''x'')', 'apikey_save_member($1, $1, $1)', 'apikey_save_member(''security_values'', $1, NULL)',
	'apikey_remove_org($1)', 'apikey_remove_member($1, $1)', 'apikey_remove_member(''security_values'', $1)']) call;
-- that this would hear it
SELECT pg_temp.told('$1::int', :'v');
RESET ROLE;
SELECT call, pg_temp.told(call, :'v') FROM unnest(ARRAY[
	'apikey_import_legacy(''security_values'', $1)', 'apikey_import_legacy($1, ''a legacy key of some length'')',
	'apikeys_private.apikey_digest_suffix($1::bytea)']) call;
-- nor is it in what this session shows of itself, or in what is on disk; its
-- digest is
SET ROLE regress_values_app;
BEGIN;
SELECT suffix = :'suffix' FROM apikey_authenticate(:'v');
SELECT count(*) FROM pg_settings WHERE name <> 'security_values.secret' AND concat(setting, boot_val, reset_val) LIKE '%' || :'secret' || '%';
COMMIT;
RESET ROLE;
SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS wal \gset
CHECKPOINT;
CREATE FUNCTION pg_temp.holds(file text, what bytea) RETURNS boolean LANGUAGE sql
RETURN position(what IN pg_read_binary_file(file)) > 0;
SELECT c.relname, pg_temp.holds(pg_relation_filepath(c.oid), :'secret') AS value,
	pg_temp.holds(pg_relation_filepath(c.oid), sha256(:'front')) AS digest
FROM pg_class c
WHERE c.relname ~ '^apikey_(key|legacy|usage|member|org)' AND c.relkind IN ('r', 'i', 'S') AND pg_relation_size(c.oid) > 0
	AND (pg_temp.holds(pg_relation_filepath(c.oid), :'secret') OR pg_temp.holds(pg_relation_filepath(c.oid), sha256(:'front')))
ORDER BY 1;
SELECT pg_temp.holds('pg_wal/' || :'wal', :'secret') AS value, pg_temp.holds('pg_wal/' || :'wal', sha256(:'front')) AS digest;
-- others do not see the statement that it is in
SET ROLE regress_values_user;
SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || current_setting('security_values.secret') || '%' AND pid <> pg_backend_pid();
SELECT count(*) FROM pg_stat_activity WHERE query ~ 'security_values' AND usename <> current_user;
RESET ROLE;

SELECT apikey_remove_org('security_values');
DROP OWNED BY regress_values_app;
DROP ROLE regress_values_app, regress_values_user;
