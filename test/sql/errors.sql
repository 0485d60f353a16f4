--
-- errors
--
-- Proves each row of the contract's table of errors: SQLSTATE, message, detail
-- and hint; that what is missing and what is forbidden look the same; what each
-- function says to NULL in each argument; and that no diagnostic of any kind
-- ever holds a value, wherever it was put by mistake.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
SET apikeys.session_principal = on;	-- so that a principal can last

CREATE ROLE regress_errors_nobody;
CREATE ROLE regress_errors_guest;
CREATE ROLE regress_errors_standard;
CREATE ROLE regress_errors_architect;
CREATE ROLE regress_errors_admin;
CREATE ROLE regress_errors_business;
CREATE ROLE regress_errors_app;

-- How a statement ends that a role runs, or the owner of the extension; what it
-- did is undone.
CREATE FUNCTION pg_temp.try(role name, statement text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text; message text; detail text; hint text; context text;
BEGIN
	PERFORM set_config('role', CASE role WHEN 'owner' THEN session_user ELSE role END, true);
	EXECUTE statement USING args;
	RAISE EXCEPTION USING ERRCODE = '00001';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF SQLSTATE = '00001' THEN
		RETURN 'ok';
	END IF;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;

SELECT apikey_grant_application('regress_errors_app');
SELECT apikey_save_org('errors', 'Errors', 'enterprise'), apikey_save_org('errors 2', 'Errors 2', 'business'),
	apikey_save_org('errors 3', 'Errors 3', 'enterprise');
SELECT apikey_save_member('errors', 'guest', 'guest@errors.example', 'guest', 'regress_errors_guest');
SELECT apikey_save_member('errors', 'standard', 'standard@errors.example', 'standard', 'regress_errors_standard');
SELECT apikey_save_member('errors', 'architect', 'architect@errors.example', 'architect', 'regress_errors_architect');
SELECT apikey_save_member('errors', 'admin', 'admin@errors.example', 'admin', 'regress_errors_admin');
SELECT apikey_save_member('errors 2', 'business', 'business@errors.example', 'admin', 'regress_errors_business');

SET ROLE regress_errors_standard;
SELECT apikey_create('standard''s') AS standard \gset
SELECT apikey_create('expired') AS expired \gset
SET ROLE regress_errors_admin;
SELECT apikey_create('admin''s', 'admin') AS admin \gset
SELECT apikey_create('deleted') AS deleted \gset
SELECT apikey_delete(apikey_suffix(:'deleted'));
SET ROLE regress_errors_business;
SELECT apikey_create('business''s', 'admin') AS business \gset
RESET ROLE;
UPDATE apikeys_private.apikey_key SET expires_at = '2001-01-01' WHERE org_id = 'errors' AND name = 'expired';
SELECT apikey_import_legacy('errors', 'a legacy key of errors');
INSERT INTO apikeys_private.apikey_capability VALUES ('errors capability', 'standard');
\set unknown 'na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/YNP8WXT'

\pset format unaligned
\pset footer off

--
-- 28000: no principal
--

SELECT call, pg_temp.try('regress_errors_nobody', 'SELECT ' || call) FROM (VALUES
	('apikey_create(''a'')'), ('apikey_update(''1234567'', ''a'')'), ('apikey_rotate(''1234567'')'),
	('apikey_delete(''1234567'')'), ('apikey_delete_all(''standard'')'), ('apikey_delete_legacy()')) AS c (call);
-- nor is one who has been removed, or whose key has been deleted
BEGIN;
SELECT apikey_act_as('errors', 'guest');
SELECT apikey_remove_member('errors', 'guest');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_create(''a'')');
ROLLBACK;
BEGIN;
SELECT (apikey_authenticate(:'standard')).org_id IS NOT NULL AS authenticated;
DELETE FROM apikeys_private.apikey_key WHERE org_id = 'errors' AND suffix = apikey_suffix(:'standard');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_create(''a'')');
ROLLBACK;

--
-- 28000: a dead key is presented
--

SELECT state, pg_temp.try('regress_errors_app', 'SELECT apikey_authenticate($1[1])', key) FROM (VALUES
	('deleted', :'deleted'), ('expired', :'expired'), ('unknown', :'unknown'), ('unknown legacy', 'some other legacy key'),
	('wrong suffix', left(:'admin', -7) || '0000000'), ('without suffix', left(:'admin', -8)), ('malformed', 'short'), ('empty', '')) AS v (state, key);

--
-- 42501: the role does not allow it
--

-- every level that a role may not create, and what it may
SELECT r AS role, l AS level, pg_temp.try(r, 'SELECT apikey_create(''a'', $1[1]::apikey_level)', l::text)
FROM unnest('{regress_errors_guest,regress_errors_standard,regress_errors_architect,regress_errors_admin,regress_errors_business}'::name[]) WITH ORDINALITY AS r (r, n),
	unnest(enum_range(NULL::apikey_level)) AS l
ORDER BY r.n, l;
-- raised past the role of today
BEGIN;
SELECT apikey_save_member('errors', 'admin', NULL, 'standard');
SELECT pg_temp.try('regress_errors_admin', 'SELECT apikey_update($1[1], level => ''standard'')', apikey_suffix(:'admin'));
SELECT apikey_update(apikey_suffix(:'admin'), level => 'standard') FROM apikey_act_as('errors', 'admin');
SELECT pg_temp.try('regress_errors_admin', 'SELECT apikey_update($1[1], level => ''architect'')', apikey_suffix(:'admin'));
SELECT pg_temp.try('regress_errors_admin', 'SELECT apikey_update($1[1], level => ''admin'')', apikey_suffix(:'admin'));
ROLLBACK;
-- a new value under a level that its owner may no longer create
BEGIN;
SELECT apikey_save_member('errors', 'admin', NULL, 'standard');
SELECT pg_temp.try('regress_errors_admin', 'SELECT apikey_rotate($1[1])', apikey_suffix(:'admin'));
ROLLBACK;
-- guests, and who is not an admin
SELECT r AS role, call, pg_temp.try(r, 'SELECT ' || call)
FROM unnest('{regress_errors_guest,regress_errors_standard,regress_errors_architect}'::name[]) WITH ORDINALITY AS r (r, n),
	(VALUES ('apikey_update(''1234567'', ''a'')'), ('apikey_rotate(''1234567'')'), ('apikey_delete(''1234567'')'),
		('apikey_delete_all(''standard'')'), ('apikey_delete_legacy()')) AS c (call)
WHERE r = 'regress_errors_guest' OR call LIKE '%delete\_%'
ORDER BY r.n, call;
-- a key, of whatever level
SET ROLE regress_errors_app;
BEGIN;
SELECT (apikey_authenticate(:'admin')).org_id IS NOT NULL AS authenticated;
SELECT call, pg_temp.try('regress_errors_app', 'SELECT ' || call) FROM (VALUES
	('apikey_create(''a'')'), ('apikey_update(''1234567'', ''a'')'), ('apikey_rotate(''1234567'')'),
	('apikey_delete(''1234567'')'), ('apikey_delete_all(''standard'')'), ('apikey_delete_legacy()')) AS c (call);
-- a second principal in a transaction
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_authenticate($1[1])', :'standard');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_act_as(''errors'', ''admin'')');
COMMIT;
RESET ROLE;
-- what the application may do, and what the owner
SELECT pg_temp.try('regress_errors_standard', 'SELECT apikey_check_level(''a'', ''standard'')');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_import_legacy(''errors'', ''a legacy key'')');
-- a principal made by hand
SELECT pg_temp.try('regress_errors_standard', 'SET apikeys.principal = ''member''');
SELECT pg_temp.try('regress_errors_standard', 'SELECT set_config(''apikeys.principal'', $1[1], true)', E'member\terrors\tadmin');

--
-- 55000: only on plan enterprise
--

SELECT pg_temp.try('regress_errors_business', 'SELECT apikey_create(''a'', ''architect'')');
SELECT pg_temp.try('regress_errors_business', 'SELECT apikey_update($1[1], level => ''architect'')', apikey_suffix(:'business'));
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_member(''errors 2'', ''new'', ''new@errors.example'', ''architect'')');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_member(''errors 2'', ''business'', NULL, ''architect'')');
-- a plan in use, by one and by more
SELECT p AS plan, pg_temp.try('regress_errors_app', 'SELECT apikey_save_org(''errors'', NULL, $1[1]::apikey_plan)', p::text)
FROM unnest(enum_range(NULL::apikey_plan)) AS p;
BEGIN;
SELECT apikey_save_member('errors', 'another', 'another@errors.example', 'architect');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_org(''errors'', ''Errors'', ''business'')');
ROLLBACK;
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_org(''errors 3'', NULL, ''free'')');
-- the same for plain DML
SELECT pg_temp.try('owner', 'UPDATE apikeys_private.apikey_org SET plan = ''free'' WHERE org_id = ''errors''');
SELECT pg_temp.try('owner', 'UPDATE apikeys_private.apikey_member SET role = ''architect'' WHERE org_id = ''errors 2''');
SELECT pg_temp.try('owner', 'UPDATE apikeys_private.apikey_key SET level = ''architect'' WHERE org_id = ''errors 2''');
SELECT pg_temp.try('owner', 'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''errors 2'', ''business'', ''a'', ''architect'', sha256(''a''))');
SELECT pg_temp.try('owner', 'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''errors'', ''standard'', ''a'', ''admin'', sha256(''a''))');

--
-- P0002: no such key, or not yours; which, nobody is told
--

SELECT pg_temp.try(r, call, suffix) AS result, count(*) > 40 AS "in over 40 cases"
FROM unnest('{regress_errors_standard,regress_errors_architect,regress_errors_admin,regress_errors_business}'::name[]) AS r,
	(VALUES ('SELECT apikey_update($1[1], ''a'')'), ('SELECT apikey_update($1[1], NULL, ''standard'')'),
		('SELECT apikey_update($1[1])'), ('SELECT apikey_update($1[1], level => ''admin'')'), ('SELECT apikey_rotate($1[1])'), ('SELECT apikey_delete($1[1])')) AS c (call),
	(VALUES ('standard', apikey_suffix(:'standard')), ('admin', apikey_suffix(:'admin')), ('business', apikey_suffix(:'business')),
		('nobody', '0000000'), ('nobody', ''), ('nobody', 'not a suffix'), ('nobody', lower(apikey_suffix(:'standard'))), ('nobody', :'standard')) AS s (owner, suffix)
WHERE 'regress_errors_' || owner <> r
	AND NOT (r = 'regress_errors_admin' AND owner = 'standard' AND call LIKE '%delete%')
	AND suffix NOT IN (SELECT k.suffix FROM apikeys_private.apikey_key k WHERE 'regress_errors_' || owner_id = r)
GROUP BY result ORDER BY 1;
SELECT pg_temp.try('regress_errors_business', 'SELECT apikey_delete_legacy()');

--
-- 42704: no such organization, member or capability
--

SELECT r AS role, call, pg_temp.try(r, 'SELECT ' || call)
FROM (VALUES ('regress_errors_app', 'apikey_act_as(''errors no'', ''admin'')'), ('regress_errors_app', 'apikey_act_as(''errors'', ''business'')'),
	('regress_errors_app', 'apikey_act_as('''', '''')'),
	('regress_errors_app', 'apikey_save_member(''errors no'', ''a'', ''a@errors.example'')'),
	('regress_errors_app', 'apikey_save_member(''errors no'', ''a'', ''a@errors.example'', ''architect'')'),
	('regress_errors_app', 'apikey_remove_org(''errors no'')'), ('regress_errors_app', 'apikey_remove_org('''')'),
	('regress_errors_app', 'apikey_remove_member(''errors no'', ''admin'')'), ('regress_errors_app', 'apikey_remove_member(''errors'', ''business'')'),
	('owner', 'apikey_import_legacy(''errors no'', ''a legacy key of nobody'')'),
	('regress_errors_admin', 'apikey_delete_all(''business'')'), ('regress_errors_admin', 'apikey_delete_all('''')'),
	('regress_errors_app', 'apikey_check(''a'', ''errors no'')'), ('regress_errors_admin', 'apikey_allows(''errors no'')'), ('regress_errors_nobody', 'apikey_allows(''errors no'')'),
	('owner', 'apikey_grant_application(''-''::regrole)'), ('owner', 'apikey_grant_application(''errors_no''::regrole)')) AS c (r, call);

--
-- 22023: not what it must be like
--

SELECT r AS role, call, pg_temp.try(r, 'SELECT ' || call)
FROM (VALUES ('regress_errors_admin', 'apikey_create('''')'), ('regress_errors_admin', 'apikey_create(repeat(''a'', 101))'), ('regress_errors_admin', 'apikey_create(E''a\tb'')'),
	('regress_errors_admin', 'apikey_update(''1234567'', '''')'), ('regress_errors_admin', 'apikey_update(''1234567'', repeat(''a'', 101))'), ('regress_errors_admin', 'apikey_update(''1234567'', E''a\nb'')'),
	('regress_errors_admin', 'apikey_create(''a'', ''standard'', now())'), ('regress_errors_admin', 'apikey_create(''a'', ''standard'', ''2001-01-01'')'), ('regress_errors_admin', 'apikey_create(''a'', ''standard'', ''-infinity'')'),
	('regress_errors_admin', 'apikey_update(''1234567'', expires_at => ''2001-01-01'')'),
	('regress_errors_admin', 'apikey_rotate(''1234567'', ''-1 second'')'),
	('regress_errors_app', 'apikey_save_org('''', ''a'')'), ('regress_errors_app', 'apikey_save_org(repeat(''a'', 129), ''a'')'), ('regress_errors_app', 'apikey_save_org(E''a\tb'', ''a'')'),
	('regress_errors_app', 'apikey_save_member('''', ''a'', ''a'')'), ('regress_errors_app', 'apikey_save_member(''errors'', '''', ''a'')'),
	('regress_errors_app', 'apikey_save_member(''errors'', repeat(''a'', 129), ''a'')'), ('regress_errors_app', 'apikey_save_member(''errors'', E''a\177b'', ''a'')'),
	('owner', 'apikey_import_legacy('''', ''a legacy key of nobody'')'), ('owner', 'apikey_import_legacy(''errors 2'', ''fifteen bytes..'')'),
	('owner', 'apikey_import_legacy(''errors 2'', repeat(''a'', 256))'), ('owner', 'apikey_import_legacy(''errors 2'', E''not printable, this\n'')'),
	('owner', 'apikey_import_legacy(''errors 2'', ''not ASCII: é, at least'')'),
	('owner', 'apikey_import_legacy(''errors 2'', ''na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/YNP8WXT'')'),
	('owner', 'apikey_import_legacy(''errors 2'', ''na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/0000000'')'),
	('owner', 'set_config(''apikeys.prefix'', ''No'', true)')) AS c (r, call);
SELECT pg_temp.try('regress_errors_standard', 'SELECT apikey_rotate($1[1])', apikey_suffix(:'expired'));
-- constraints say the same to plain DML
SELECT split_part(pg_temp.try('owner', change), E'\n', 1) AS try FROM (VALUES
	('UPDATE apikeys_private.apikey_org SET org_id = '''' WHERE org_id = ''errors 3'''),
	('UPDATE apikeys_private.apikey_member SET user_id = E''a\nb'' WHERE org_id = ''errors'' AND user_id = ''guest'''),
	('UPDATE apikeys_private.apikey_key SET name = '''' WHERE org_id = ''errors 2''')) AS c (change);

-- 23505: a second legacy key of an organization, or a key that is in use
SELECT pg_temp.try('owner', 'SELECT apikey_import_legacy(''errors'', ''another legacy key of errors'')');
SELECT pg_temp.try('owner', 'SELECT apikey_import_legacy(''errors 2'', ''a legacy key of errors'')');
-- no error, but a warning: such a principal has no effect
SET client_min_messages = notice;
SET ROLE regress_errors_app;
SELECT apikey_act_as('errors', 'admin');
SELECT (apikey_authenticate(:'admin')).org_id IS NOT NULL AS authenticated;
RESET ROLE;
SET client_min_messages = warning;

--
-- NULL, in each argument of each function, and in all of them
--

-- Something that fits an argument, by its name or else by its type.
CREATE FUNCTION pg_temp.sample(function name, name text, type regtype) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN function = 'apikey_import_legacy' THEN CASE name WHEN 'org_id' THEN 'errors 2' ELSE 'one more legacy key' END
		WHEN function = 'apikey_page' AND type = 'text'::regtype THEN CASE name WHEN 'tab' THEN 'all' WHEN 'sort' THEN 'name' ELSE 'all,name,asc,,' END
		WHEN function = 'apikey_feed' AND name = 'after' THEN '9223372036854775807-0'
		WHEN function = 'apikey_scanner_rule' THEN 'github'
		WHEN type = 'regclass'::regtype THEN 'pg_class'
		WHEN type IN ('integer'::regtype, 'oid'::regtype) THEN '10'
		WHEN function = 'apikey_to_plan' THEN 'free'
		WHEN name = 'label' THEN 'admin'
		WHEN name = 'org_id' THEN 'errors'
		WHEN name = 'user_id' THEN 'standard'
		WHEN name = 'key' THEN current_setting('errors.key')
		WHEN name = 'suffix' THEN apikey_suffix(current_setting('errors.key'))
		WHEN name = 'capability' THEN 'errors capability'
		WHEN type = 'apikey_level'::regtype OR type = 'apikey_role'::regtype THEN 'standard'
		WHEN type = 'apikey_plan'::regtype THEN 'enterprise'
		WHEN type = 'regrole'::regtype THEN 'regress_errors_nobody'
		WHEN type = 'name'::regtype THEN 'regress_errors_standard'
		WHEN type = 'boolean'::regtype THEN 'false'
		WHEN type = 'interval'::regtype THEN '1 day'
		WHEN type = 'timestamptz'::regtype THEN 'infinity'
		WHEN type = 'bytea'::regtype THEN '\x' || repeat('00', 32)
		ELSE 'a ' || name
	END
$$;
SELECT set_config('errors.key', :'admin', false) = :'admin' AS kept;

-- How a call ends that has these arguments; what it did is undone.
CREATE FUNCTION pg_temp.call(function regprocedure, types regtype[], args text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text; message text;
BEGIN
	PERFORM apikey_act_as('errors', 'admin', true);
	EXECUTE format('SELECT coalesce(string_agg(coalesce(f::text, ''null''), '' ''), ''no row'') FROM %s(%s) AS f', function::regproc,
		(SELECT string_agg(format('$1[%s]::%s', i, types[i]), ', ' ORDER BY i) FROM generate_subscripts(types, 1) AS i))
	INTO result USING args;
	RAISE EXCEPTION USING ERRCODE = '00001';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RETURN CASE SQLSTATE WHEN '00001' THEN 'ok: ' || result ELSE SQLSTATE || ': ' || message END;
END $$;

CREATE TEMPORARY VIEW functions AS
	SELECT p.oid::regprocedure AS function, p.proname, p.pronargs,
		(SELECT array_agg(t::regtype ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n)) AS types,
		(SELECT array_agg(pg_temp.sample(p.proname, p.proargnames[n], t::regtype) ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n)) AS samples
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
	WHERE x.extname = 'apikeys' AND p.pronargs > 0;

-- Without NULL none of them fails; so it is NULL that they fail for. (Usage is
-- counted only where the library is preloaded.)
SELECT function, result FROM functions, pg_temp.call(function, types, samples) AS result
WHERE result NOT LIKE 'ok: %' AND result <> '55000: usage of keys is not counted'
ORDER BY proname COLLATE "C";
SELECT f.proname || '(' || string_agg(CASE WHEN i = n OR n = 0 THEN 'NULL' ELSE '.' END, ', ' ORDER BY i) || ')' AS call,
	regexp_replace(pg_temp.call(f.function, f.types, array_agg(CASE WHEN i <> n AND n > 0 THEN f.samples[i] END ORDER BY i)), '^ok: ($|\(\d+-\d+,|\([tf],".* seals ).*', 'ok') AS result
FROM functions f, generate_series(0, pronargs) AS n, generate_subscripts(types, 1) AS i
WHERE n > 0 OR f.pronargs > 1
GROUP BY f.function, f.proname, f.types, n
ORDER BY f.proname COLLATE "C", n = 0, n;
-- for what is not there yet, there is nothing that could stay as it was
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_org(''errors new'', NULL)');
SELECT pg_temp.try('regress_errors_app', 'SELECT apikey_save_member(''errors'', ''new'', NULL)');
SELECT pg_temp.try('owner', 'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (NULL, ''admin'', ''a'', ''standard'', sha256(''a''))');
SELECT pg_temp.try('owner', 'INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES (''errors'', ''a'', ''a'', NULL)');

--
-- No value in a message, detail, hint, context, nor in what else an error tells
--

CREATE TEMPORARY TABLE told (sqlstate text, text text);
-- Call, and keep everything that an error says.
CREATE FUNCTION pg_temp.tell(function regprocedure, types regtype[], args text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	m text; d text; h text; c text; n text; k text; t text; b text; s text;
BEGIN
	EXECUTE format('SELECT FROM %s(%s) AS f', function::regproc,
		(SELECT string_agg(format('$1[%s]::%s', i, types[i]), ', ' ORDER BY i) FROM generate_subscripts(types, 1) AS i))
	USING args;
	RAISE EXCEPTION USING ERRCODE = '00001';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT, c = PG_EXCEPTION_CONTEXT,
		n = COLUMN_NAME, k = CONSTRAINT_NAME, t = PG_DATATYPE_NAME, b = TABLE_NAME, s = SCHEMA_NAME;
	INSERT INTO told VALUES (SQLSTATE, concat_ws(E'\n', m, d, h, c, n, k, t, b, s));
END $$;
-- What would give a value away: all of it, its secret, or its digest.
CREATE TEMPORARY TABLE secrets AS
	SELECT s FROM (VALUES (:'admin'), (:'expired'), (:'unknown'), ('a legacy key of errors')) AS v (value),
		unnest(ARRAY[value, substr(value, 5, 30), encode(sha256(convert_to(regexp_replace(value, '/.{7}$', ''), 'UTF8')), 'hex')]) AS s;

-- a value, of keys alive and dead and slightly wrong, in each argument that is
-- text, and in all of them; by an admin, by a key, and by nobody
CREATE PROCEDURE pg_temp.tell_all() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.tell(f.function, f.types,
		(SELECT array_agg(CASE WHEN t = 'text'::regtype AND n = 0 OR t IN ('text'::regtype, 'name'::regtype) AND n = i
				THEN v ELSE f.samples[i] END ORDER BY i)
		 FROM unnest(f.types) WITH ORDINALITY AS a (t, i)))
	FROM functions f, generate_series(0, f.pronargs) AS n, pg_temp.values_put AS v (v)
	WHERE 'text'::regtype = ANY (f.types);
END $$;
CREATE TEMPORARY TABLE values_put AS
	SELECT v FROM unnest(ARRAY[:'admin', :'expired', 'a legacy key of errors', repeat(:'admin', 3) || E'\n']) AS v;
BEGIN;
SELECT apikey_act_as('errors', 'admin');
CALL pg_temp.tell_all();
COMMIT;
BEGIN;
SELECT (apikey_authenticate(:'admin')).org_id IS NOT NULL AS authenticated;
CALL pg_temp.tell_all();
COMMIT;
CALL pg_temp.tell_all();
SELECT sqlstate, count(*) > 0 AS told, count(*) FILTER (WHERE EXISTS (SELECT FROM secrets WHERE strpos(told.text, s) > 0)) AS with_a_secret
FROM told GROUP BY sqlstate ORDER BY sqlstate;

\pset format aligned
\pset footer on
DELETE FROM apikeys_private.apikey_capability WHERE capability = 'errors capability';
SELECT apikey_remove_org('errors'), apikey_remove_org('errors 2'), apikey_remove_org('errors 3');
DROP OWNED BY regress_errors_app;
DROP ROLE regress_errors_nobody, regress_errors_guest, regress_errors_standard, regress_errors_architect, regress_errors_admin, regress_errors_business, regress_errors_app;
