-- Who may create which keys: the role table tried cell by cell, what a new key
-- is like, that its value is shown once and stored nowhere, that one call adds
-- one row, and that plain DML obeys the same rule of levels.
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

CREATE ROLE regress_create_app;
SELECT apikey_grant_application('regress_create_app') \gset
SET SESSION AUTHORIZATION regress_create_app;

--
-- The role table on every plan. Each cell is a transaction of its own: the
-- application acts as a member and creates a key. "no member" stands where the
-- plan refuses the member's role already.
--
CREATE TEMP TABLE cell (plan apikey_plan, role apikey_role, level apikey_level, result text);
SET client_min_messages = error;	-- no warning that DO is no transaction block
DO $$
DECLARE
	p apikey_plan;
	r apikey_role;
	l apikey_level;
	org text;
	saved text;
	result text;
BEGIN
	FOREACH p IN ARRAY enum_range(NULL::apikey_plan) LOOP
		org := 'create-' || p;
		PERFORM apikey_save_org(org, 'Matrix', p);
		FOREACH r IN ARRAY enum_range(NULL::apikey_role) LOOP
			saved := pg_temp.try(format('SELECT apikey_save_member(%L, %L, %L, %L)', org, r, r, r));
			FOREACH l IN ARRAY enum_range(NULL::apikey_level) LOOP
				IF saved = 'ok' THEN
					PERFORM apikey_act_as(org, r::text);
					result := pg_temp.try(format('SELECT apikey_create(%L, %L)', 'matrix', l));
				ELSE
					result := saved || ' no member';
				END IF;
				INSERT INTO cell VALUES (p, r, l, result);
				COMMIT;
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
RESET client_min_messages;
SELECT plan || ', ' || role AS member, level, result
FROM cell ORDER BY plan DESC, role, level \crosstabview

-- There is one key for each "ok", its owner's and of the level asked for, and
-- none for any other cell.
RESET SESSION AUTHORIZATION;
SELECT c.result, count(*) AS cells, sum(k.keys) AS keys, max(k.keys) AS most
FROM cell c, LATERAL (
	SELECT count(*) AS keys FROM apikeys_private.apikey_key k
	WHERE k.org_id = 'create-' || c.plan AND k.owner_id = c.role::text AND k.level = c.level) k
GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id LIKE 'create-%';
SELECT apikey_remove_org('create-' || p) FROM unnest(enum_range(NULL::apikey_plan)) p \g /dev/null

--
-- Organizations for the rest
--
SELECT apikey_save_org('create-ent', 'Enterprise', 'enterprise'),
	apikey_save_member('create-ent', 'ann', 'ann@example.com', 'admin'),
	apikey_save_member('create-ent', 'arc', 'arc@example.com', 'architect'),
	apikey_save_member('create-ent', 'bob', 'bob@example.com', 'standard'),
	apikey_save_member('create-ent', 'gus', 'gus@example.com', 'guest'),
	apikey_save_org('create-biz', 'Business', 'business'),
	apikey_save_member('create-biz', 'ann', 'ann@example.org', 'admin') \gset
SET SESSION AUTHORIZATION regress_create_app;

-- The hint lists what the role may create.
BEGIN;
SELECT apikey_act_as('create-ent', 'bob') \gset
SELECT apikey_create('k', 'admin');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('create-ent', 'arc') \gset
SELECT apikey_create('k', 'admin');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('create-ent', 'gus') \gset
SELECT apikey_create('k');
ROLLBACK;
BEGIN;
SELECT apikey_act_as('create-biz', 'ann') \gset
SELECT apikey_create('k', 'architect');
ROLLBACK;

-- Nobody creates nothing, whatever the arguments.
SELECT apikey_create('k');
SELECT pg_temp.try('SELECT apikey_create(NULL, NULL, NULL)') AS nulls, pg_temp.try('SELECT apikey_create('''')') AS empty;

--
-- What a new key is like
--

-- Defaults: level standard, for ever, from now on, the member's own.
BEGIN;
SELECT apikey_act_as('create-ent', 'ann') \gset
SELECT apikey_create('first') AS first \gset
SELECT apikey_create('second', 'admin', 'tomorrow') AS second \gset
COMMIT;
SELECT apikey_is_wellformed(:'first') AS wellformed, left(:'first', 3) AS prefix,
	:'first' <> :'second' AS differ;
RESET SESSION AUTHORIZATION;
SELECT org_id, owner_id, name, level, suffix = apikey_suffix(:'first') AS suffix, expires_at,
	created_at BETWEEN now() - interval '1 minute' AND now() AS created_now,
	digest = sha256(split_part(:'first', '/', 1)::bytea) AS digest
FROM apikeys_private.apikey_key WHERE org_id = 'create-ent' AND name = 'first';
SELECT level, expires_at = 'tomorrow' AS expires, created_at = (SELECT created_at FROM apikeys_private.apikey_key
	WHERE org_id = 'create-ent' AND name = 'first') AS created_together
FROM apikeys_private.apikey_key WHERE org_id = 'create-ent' AND name = 'second';
SELECT user_id, level, name FROM apikey_verify(:'second');

-- Names: 1 to 100 characters, however many bytes they are; no control
-- characters, but anything else; they need not be unique.
SET SESSION AUTHORIZATION regress_create_app;
SELECT apikey_act_as('create-ent', 'ann', session => true) \gset
SELECT label, pg_temp.try(format('SELECT apikey_create(%L)', name)) FROM (VALUES
	(1, 'one character', 'x'),
	(2, '100 characters', repeat('x', 100)),
	(3, '101 characters', repeat('x', 101)),
	(4, '100 characters of 4 bytes', repeat(U&'\+01F511', 100)),
	(5, '101 characters of 4 bytes', repeat(U&'\+01F511', 101)),
	(6, 'empty', ''),
	(7, 'a blank', ' '),
	(8, 'newline', E'a\nb'),
	(9, 'tab', E'a\tb'),
	(10, 'escape', E'\x1b[31mred'),
	(11, 'delete', E'a\x7fb'),
	(12, 'C1 control', U&'a\0085b'),
	(13, 'no-break space', U&'a\00A0b'),
	(14, 'quotes and wildcards', $$'";--%_\$$),
	(15, 'the same again', $$'";--%_\$$)
) v (n, label, name) ORDER BY n;
SELECT label, pg_temp.try(format('SELECT apikey_create(%L, expires_at => %L)', 'expiry', expires_at)) FROM (VALUES
	(1, 'infinity', timestamptz 'infinity'),
	(2, '-infinity', '-infinity'),
	(3, 'long ago', '1970-01-01 00:00+00'),
	(4, 'this transaction''s start', now()),
	(5, 'in an hour', now() + interval '1 hour'),
	(6, 'the last there is', '294276-12-31 23:59:59+00')
) v (n, label, expires_at) ORDER BY n;
SELECT pg_temp.try('SELECT apikey_create(NULL)') AS name,
	pg_temp.try('SELECT apikey_create(''k'', NULL)') AS level,
	pg_temp.try('SELECT apikey_create(''k'', expires_at => NULL)') AS expires_at;
SELECT name, count(*) FROM apikeys_mine WHERE name ~ '^['']' GROUP BY 1;
SELECT max(length(name)), max(octet_length(name)) FROM apikeys_mine;
RESET apikeys.principal;
RESET SESSION AUTHORIZATION;

-- A new prefix is for new values; the old ones keep working.
SET apikeys.prefix = 'eu7';
SELECT apikey_act_as('create-ent', 'ann', session => true) \gset
SELECT apikey_create('prefixed') AS prefixed \gset
RESET apikeys.prefix;
SELECT left(:'prefixed', 4), apikey_check_level(:'prefixed', 'standard') AS new_one,
	apikey_check_level(:'first', 'standard') AS old_one;

--
-- The value is nowhere: no table or view of the extension has its secret in any
-- column, as text or as bytes. The same search finds what is stored.
--
SELECT split_part(split_part(:'first', '/', 1), '.', 2) AS secret \gset
CREATE TEMP TABLE haystack (relation text, content text);
SELECT format('INSERT INTO haystack SELECT %L, t::text FROM %s t', objid::regclass, objid::regclass)
FROM pg_depend JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid
	JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
WHERE extname = 'apikeys' AND relkind IN ('r', 'v', 'm') ORDER BY 1 \gexec
SELECT length(:'secret') AS secret_length,
	bool_or(content LIKE '%first%') AS finds_names,
	bool_or(content LIKE '%' || encode(sha256(split_part(:'first', '/', 1)::bytea), 'hex') || '%') AS finds_digest,
	bool_or(content LIKE '%' || apikey_suffix(:'first') || '%') AS finds_suffix,
	bool_or(content LIKE '%' || left(:'secret', 12) || '%') AS finds_text,
	bool_or(content LIKE '%' || encode(left(:'secret', 12)::bytea, 'hex') || '%') AS finds_bytes,
	bool_or(content LIKE '%' || left(encode(:'secret'::bytea, 'base64'), 12) || '%') AS finds_base64,
	count(DISTINCT relation) FILTER (WHERE content LIKE '%create-ent%') AS relations
FROM haystack;

--
-- One row for each call
--
RESET apikeys.principal;
SELECT apikey_save_org('create-rows', 'Rows', 'business'),
	apikey_save_member('create-rows', 'ann', 'ann@example.net', 'admin') \gset
SET SESSION AUTHORIZATION regress_create_app;
SELECT apikey_act_as('create-rows', 'ann', session => true) \gset

SELECT count(DISTINCT v) FROM (SELECT apikey_create('series') AS v FROM generate_series(1, 50)) s;
SELECT a = b AS same FROM (SELECT v AS a, v AS b FROM (SELECT apikey_create('used twice') AS v) s) t;
SELECT count(*) FROM (SELECT apikey_create('not asked for')) s;
WITH made AS (SELECT apikey_create('cte') AS v) SELECT (SELECT v FROM made) = (SELECT v FROM made) AS same;
EXPLAIN (COSTS off) SELECT apikey_create('explained');
PREPARE make AS SELECT apikey_create($1) IS NOT NULL;
EXECUTE make('prepared');
EXECUTE make('prepared');
DEALLOCATE make;

-- in functions
CREATE FUNCTION pg_temp.by_sql() RETURNS text LANGUAGE sql AS $$ SELECT apikey_create('by SQL') $$;
CREATE FUNCTION pg_temp.by_plpgsql() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN apikey_create('by PL/pgSQL'); END $$;
CREATE FUNCTION pg_temp.caught() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_create('kept');
	BEGIN
		PERFORM apikey_create('rolled back by exception');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM apikey_create('after exception');
	END;
END $$;
SELECT apikey_is_wellformed(pg_temp.by_sql()), apikey_is_wellformed(pg_temp.by_plpgsql());
SELECT pg_temp.caught() \gset

-- with savepoints
BEGIN;
SELECT apikey_create('before savepoint') AS kept \gset
SAVEPOINT s;
SELECT apikey_create('rolled back to savepoint') AS undone \gset
SELECT count(*) FROM apikeys WHERE name = 'rolled back to savepoint';
ROLLBACK TO s;
SELECT apikey_create('after savepoint') AS kept \gset
RELEASE s;
SAVEPOINT s;
SELECT apikey_create('', 'admin') \g /dev/null
ROLLBACK TO s;
COMMIT;
SELECT apikey_check_level(:'undone', 'standard') AS undone, apikey_check_level(:'kept', 'standard') AS kept;
BEGIN;
SELECT apikey_create('rolled back') AS undone \gset
ROLLBACK;
SELECT apikey_check_level(:'undone', 'standard') AS undone;

-- not in a read-only transaction
BEGIN READ ONLY;
SELECT apikey_create('read only');
ROLLBACK;

SELECT name, count(*) FROM apikeys_mine GROUP BY 1 ORDER BY 1;
RESET apikeys.principal;
RESET SESSION AUTHORIZATION;

-- A member by database role creates with no more than that; another cannot.
CREATE ROLE regress_create_bob;
CREATE ROLE regress_create_eve;
SELECT apikey_save_member('create-rows', 'bob', 'bob@example.net', 'standard', 'regress_create_bob') \gset
SET SESSION AUTHORIZATION regress_create_bob;
SELECT apikey_is_wellformed(apikey_create('by database role'));
SELECT pg_temp.try($$SELECT apikey_create('too much', 'admin')$$);
SELECT owner_id, name, level FROM apikeys;
SET SESSION AUTHORIZATION regress_create_eve;
SELECT pg_temp.try($$SELECT apikey_create('by database role')$$);
RESET SESSION AUTHORIZATION;
DROP ROLE regress_create_bob, regress_create_eve;

--
-- A clash with a suffix of the organization draws again: a trigger makes the
-- first draws end in the bits of a key that is there.
--
CREATE TABLE create_clash (draws int, digest bytea);
INSERT INTO create_clash SELECT 0, digest FROM apikeys_private.apikey_key WHERE org_id = 'create-rows' AND name = 'by SQL';
CREATE FUNCTION create_clash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE public.create_clash SET draws = draws + 1;
	NEW.digest := CASE
		WHEN draws <= 3 THEN substr(NEW.digest, 1, 27) || substr(digest, 28)	-- the suffix
		WHEN draws <= 5 THEN digest	-- the whole digest
		ELSE NEW.digest END FROM public.create_clash;
	IF (SELECT draws FROM public.create_clash) BETWEEN 6 AND 8 THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER create_clash BEFORE INSERT ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION create_clash();
SET SESSION AUTHORIZATION regress_create_app;
BEGIN;
SELECT apikey_act_as('create-rows', 'ann') \gset
SELECT apikey_create('clash', 'admin') AS clash \gset
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT draws FROM create_clash;
SELECT count(*), bool_and(suffix = apikey_suffix(:'clash')) AS suffix,
	bool_and(digest = sha256(split_part(:'clash', '/', 1)::bytea)) AS digest
FROM apikeys_private.apikey_key WHERE org_id = 'create-rows' AND name = 'clash';
SELECT apikey_check_level(:'clash', 'admin') AS works;

-- Drawing for ever is none: there must be another cause, and no key.
CREATE OR REPLACE FUNCTION create_clash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN NULL;
END $$;
SET SESSION AUTHORIZATION regress_create_app;
BEGIN;
SELECT apikey_act_as('create-rows', 'ann') \gset
SELECT apikey_create('never');
ROLLBACK;
RESET SESSION AUTHORIZATION;
DROP TRIGGER create_clash ON apikeys_private.apikey_key;
DROP FUNCTION create_clash;
DROP TABLE create_clash;

-- Another organization may have the same suffix; in one it is unique.
SELECT digest FROM apikeys_private.apikey_key WHERE org_id = 'create-rows' AND name = 'clash' \gset
SELECT pg_temp.try(format('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (%L, %L, %L, %L, %L)',
	org_id, 'ann', 'same suffix', 'standard', sha256('create-' || org_id::bytea)))
FROM (VALUES ('create-biz')) v (org_id);
SELECT org, same, pg_temp.try(format('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (%L, %L, %L, %L, %L)',
	org, 'ann', 'clash', 'standard', CASE same WHEN 'suffix' THEN substr(sha256(org::bytea), 1, 27) || substr(d, 28) ELSE d END))
FROM (VALUES ('create-rows', 'suffix'), ('create-biz', 'suffix'), ('create-biz', 'digest')) v (org, same),
	CAST(:'digest' AS bytea) d;

--
-- A presented key cannot create, whatever its level
--
SELECT apikey_import_legacy('create-biz', 'create-legacy-0123456789') \gset
SELECT apikey_act_as('create-ent', 'ann', session => true) \gset
SELECT apikey_create('presented', 'standard') AS standard, apikey_create('presented', 'architect') AS architect,
	apikey_create('presented', 'admin') AS admin \gset
RESET apikeys.principal;
SET SESSION AUTHORIZATION regress_create_app;
BEGIN;
SELECT level, legacy FROM apikey_authenticate(:'standard');
SELECT pg_temp.try($$SELECT apikey_create('minted')$$);
COMMIT;
BEGIN;
SELECT level, legacy FROM apikey_authenticate(:'architect');
SELECT pg_temp.try($$SELECT apikey_create('minted')$$);
COMMIT;
BEGIN;
SELECT level, legacy FROM apikey_authenticate(:'admin');
SELECT apikey_create('minted');
ROLLBACK;
BEGIN;
SELECT level, legacy FROM apikey_authenticate('create-legacy-0123456789');
SELECT pg_temp.try($$SELECT apikey_create('minted')$$);
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM apikeys_private.apikey_key WHERE name = 'minted';

--
-- Plain DML by a superuser obeys the rule of levels too
--
CREATE FUNCTION pg_temp.insert_key(org text, owner text, level text, created_at text DEFAULT 'DEFAULT', expires_at text DEFAULT 'DEFAULT')
RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try(format('INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at, expires_at) VALUES (%L, %L, %L, %L, %L, %s, %s)',
		org, owner, 'dml', level, sha256((org || owner || level || created_at)::bytea), created_at, expires_at))
$$;
SELECT org, owner, level,
	pg_temp.insert_key(org, owner, level) AS now,
	pg_temp.insert_key(org, owner, level, $$'tomorrow'$$) AS tomorrow,
	pg_temp.insert_key(org, owner, level, $$now() - interval '1 microsecond'$$) AS past
FROM (VALUES
	(1, 'create-ent', 'gus', 'standard'),
	(2, 'create-ent', 'bob', 'standard'),
	(3, 'create-ent', 'bob', 'architect'),
	(4, 'create-ent', 'arc', 'architect'),
	(5, 'create-ent', 'arc', 'admin'),
	(6, 'create-ent', 'ann', 'admin'),
	(7, 'create-biz', 'ann', 'architect'),
	(8, 'create-biz', 'ann', 'admin'),
	(9, 'create-ent', 'nemo', 'standard'),
	(10, 'create-none', 'ann', 'standard')
) v (n, org, owner, level) ORDER BY n;
-- a restore brings back expired keys as well
SELECT pg_temp.insert_key('create-ent', 'gus', 'admin', $$'2001-02-03'$$, $$'2002-02-03'$$);

-- All rows of a statement, or none.
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES
	('create-ent', 'bob', 'many', 'standard', sha256('create many 1')),
	('create-ent', 'bob', 'many', 'admin', sha256('create many 2'));
-- COPY, as of now
COPY apikeys_private.apikey_key (org_id, owner_id, name, level, digest) FROM stdin;
create-ent	bob	many	standard	\\x00000000000000000000000000000000000000000000000000000000c0ffee01
create-ent	bob	many	admin	\\x00000000000000000000000000000000000000000000000000000000c0ffee02
\.
COPY apikeys_private.apikey_key (org_id, owner_id, name, level, digest) FROM stdin;
create-biz	ann	many	architect	\\x00000000000000000000000000000000000000000000000000000000c0ffee03
\.
SELECT count(*) FROM apikeys_private.apikey_key WHERE name = 'many';
-- COPY, as of a dump
COPY apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at) FROM stdin;
create-ent	bob	many	admin	\\x00000000000000000000000000000000000000000000000000000000c0ffee04	2020-02-02 00:00:00+00
create-biz	ann	many	architect	\\x00000000000000000000000000000000000000000000000000000000c0ffee05	2020-02-02 00:00:00+00
\.
SELECT org_id, owner_id, level, suffix FROM apikeys_private.apikey_key WHERE name = 'many' ORDER BY digest;

-- Changing and giving away: the rule is asked of who shall have the key.
SELECT what, pg_temp.try(format($$UPDATE apikeys_private.apikey_key SET %s WHERE org_id = 'create-ent' AND name = 'first'$$, what))
FROM (VALUES
	(1, $$owner_id = 'bob'$$),
	(2, $$level = 'architect', owner_id = 'bob'$$),
	(3, $$level = 'architect'$$),
	(4, $$owner_id = 'gus', level = 'standard'$$),
	(5, $$owner_id = 'arc', level = 'admin'$$),
	(6, $$owner_id = 'arc', level = 'architect'$$),
	(7, $$owner_id = 'bob'$$),
	(8, $$org_id = 'create-biz', owner_id = 'ann'$$),
	(9, $$owner_id = 'ann', level = 'admin'$$)
) v (n, what) ORDER BY n;
SELECT owner_id, level FROM apikeys_private.apikey_key WHERE org_id = 'create-ent' AND name = 'first';
SELECT user_id, level FROM apikey_verify(:'first');

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'create-%' \g /dev/null
DROP OWNED BY regress_create_app;
DROP ROLE regress_create_app;
