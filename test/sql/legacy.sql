-- The one legacy key that an organization may have: who imports it and what can
-- be one, how it is verified and listed, and what cannot be done to it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never
\pset null -

-- Runs a statement; returns how many rows it gave or changed, or the error's
-- SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n || CASE n WHEN 1 THEN ' row' ELSE ' rows' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE ROLE regress_legacy_app;
CREATE ROLE regress_legacy_ann;
CREATE ROLE regress_legacy_bob;
SELECT apikey_grant_application('regress_legacy_app') \gset
SELECT apikey_save_org('legacy-one', 'One', 'free'),
	apikey_save_member('legacy-one', 'ann', 'ann@one.example', 'admin', 'regress_legacy_ann'),
	apikey_save_member('legacy-one', 'bob', 'bob@one.example', 'standard', 'regress_legacy_bob'),
	apikey_save_org('legacy-two', 'Two', 'enterprise'),
	apikey_save_member('legacy-two', 'zoe', 'zoe@two.example', 'admin'),
	apikey_save_member('legacy-two', 'arc', 'arc@two.example', 'architect'),
	apikey_save_org('legacy-try', 'Try', 'free') \gset

-- Importing is the owner's: neither the application nor an admin may.
SET SESSION AUTHORIZATION regress_legacy_app;
SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-app');
SET SESSION AUTHORIZATION regress_legacy_ann;
SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-ann');
RESET SESSION AUTHORIZATION;

--
-- What can be a legacy key: 16 to 255 printable ASCII bytes, not of native
-- shape. What can be one is verified too; each import is undone.
--
CREATE FUNCTION pg_temp.import(key text, OUT imported text, OUT verified boolean) LANGUAGE plpgsql AS $$
BEGIN
	imported := pg_temp.try(format('SELECT apikey_import_legacy(%L, %L)', 'legacy-try', key));
	verified := apikey_check_level(key, 'admin');
	RAISE assert_failure;
EXCEPTION WHEN assert_failure THEN
END $$;
SELECT label, i.* FROM (VALUES
	(1, 'empty', ''),
	(2, '15 bytes', repeat('x', 15)),
	(3, '16 bytes', repeat('x', 16)),
	(4, '255 bytes', repeat('x', 255)),
	(5, '256 bytes', repeat('x', 256)),
	(6, 'a megabyte', repeat('x', 1000000)),
	(7, 'all of printable ASCII', (SELECT string_agg(chr(c), '') FROM generate_series(32, 126) c)),
	(8, 'blanks', repeat(' ', 16)),
	(9, 'newline at the end', repeat('x', 16) || E'\n'),
	(10, 'tab within', E'xxxxxxxx\txxxxxxxx'),
	(11, 'delete', E'xxxxxxxx\x7fxxxxxxxx'),
	(12, 'not ASCII', U&'xxxxxxxxxxxxxxxx\00E9'),
	(13, 'native shape, right suffix', 'ak.' || repeat('x', 43) || '/' || apikeys_private.apikey_digest_suffix(sha256(('ak.' || repeat('x', 43))::bytea))),
	(14, 'native shape, wrong suffix', 'ak.' || repeat('x', 43) || '/0000000'),
	(15, 'native shape, suffix not of base 32', 'ak.' || repeat('x', 43) || '/uuuuuuu'),
	(16, 'native shape, other prefix', 'z.' || repeat('x', 43) || '/0000000'),
	(17, 'native but for the suffix', 'ak.' || repeat('x', 43)),
	(18, 'native but for a shorter suffix', 'ak.' || repeat('x', 43) || '/000000'),
	(19, 'native but for a longer secret', 'ak.' || repeat('x', 44) || '/0000000'),
	(20, 'native but for the prefix', 'Ak.' || repeat('x', 43) || '/0000000'),
	(21, 'native but for punctuation in the suffix', 'ak.' || repeat('x', 43) || '/000-000')
) v (n, label, key), pg_temp.import(key) i ORDER BY n;
SELECT apikey_import_legacy('legacy-try', 'too short');
SELECT pg_temp.try($$SELECT apikey_import_legacy(NULL, 'legacy-key-of-none')$$) AS no_id,
	pg_temp.try($$SELECT apikey_import_legacy('legacy-try', NULL)$$) AS no_key,
	pg_temp.try($$SELECT apikey_import_legacy('', 'legacy-key-of-none')$$) AS bad_id,
	pg_temp.try($$SELECT apikey_import_legacy('legacy-none', 'legacy-key-of-none')$$) AS unknown_id;
SELECT count(*) FROM apikeys_private.apikey_legacy WHERE org_id LIKE 'legacy-%';

--
-- One for each organization, and each for one organization
--
SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-one') \gset
SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-one');
SELECT pg_temp.try($$SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-one, another')$$) AS another,
	pg_temp.try($$SELECT apikey_import_legacy('legacy-two', 'legacy-key-of-one')$$) AS the_same_elsewhere,
	pg_temp.try($$SELECT apikey_import_legacy('legacy-two', 'legacy-key-of-two')$$) AS another_elsewhere;
SELECT apikey_check_level('legacy-key-of-one, another', 'standard') AS another,
	(SELECT org_id FROM apikey_verify('legacy-key-of-one')) AS one, (SELECT org_id FROM apikey_verify('legacy-key-of-two')) AS two;
-- All that is stored is the digest of the whole text.
SELECT org_id, digest = sha256('legacy-key-of-one') AS of_one, digest = sha256('legacy-key-of-two') AS of_two
FROM apikeys_private.apikey_legacy WHERE org_id LIKE 'legacy-%' ORDER BY 1;
SELECT bool_or(l::text LIKE '%legacy-key-of%' OR l::text LIKE '%' || encode('legacy-key-of', 'hex') || '%') AS found FROM apikeys_private.apikey_legacy l;
-- It has no name, suffix, owner or level that could be changed. Its number is
-- from the same sequence as those of other keys.
SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'apikeys_private.apikey_legacy'::regclass AND attnum > 0;
SET SESSION AUTHORIZATION regress_legacy_ann;
SELECT apikey_create('native') AS native \gset
RESET SESSION AUTHORIZATION;
SELECT k.key_id > max(l.key_id) AS later, pg_get_serial_sequence('apikeys_private.apikey_key', 'key_id')
FROM apikeys_private.apikey_key k, apikeys_private.apikey_legacy l WHERE k.org_id = 'legacy-one' AND l.org_id LIKE 'legacy-%' GROUP BY k.key_id;

-- A hash index holds a hash of the digest only: where two are the same, each key
-- is itself.
SELECT count(DISTINCT hash_record(ROW(sha256(key::bytea)))) AS hashes
FROM unnest(ARRAY['legacy-key-019045', 'legacy-key-112146']) key;
BEGIN;
SELECT apikey_save_org(org_id, 'Same'), apikey_import_legacy(org_id, 'legacy-key-' || right(org_id, 6))
FROM unnest(ARRAY['legacy-019045', 'legacy-112146']) org_id \g /dev/null
SELECT (apikey_verify(key)).org_id FROM unnest(ARRAY['legacy-key-019045', 'legacy-key-112146']) key;
SELECT apikey_remove_org('legacy-019045') \gset
SELECT key, (apikey_inspect(key)).status FROM unnest(ARRAY['legacy-key-019045', 'legacy-key-112146']) key;
ROLLBACK;

--
-- Verification
--
SET SESSION AUTHORIZATION regress_legacy_app;
SELECT * FROM apikey_verify('legacy-key-of-one');
SELECT level, apikey_check_level('legacy-key-of-one', level) FROM unnest(enum_range(NULL::apikey_level)) level;
SELECT apikey_me('legacy-key-of-one');
SELECT apikey_me('legacy-key-of-one')->>'email' = '' AS email_is_empty;
SELECT status, org_id, user_id, level, name, suffix, legacy, created_at <= now() AS created, expires_at FROM apikey_inspect('legacy-key-of-one');
SELECT key, apikey_check_level(key, 'standard'), status FROM (VALUES
	(1, 'legacy-key-of-on'), (2, 'legacy-key-of-one '), (3, ' legacy-key-of-one'), (4, 'Legacy-key-of-one'),
	(5, 'legacy-key-of-one/0000000'), (6, 'legacy-key')
) v (n, key), apikey_inspect(key) ORDER BY n;
-- A native value without its suffix has the digest of the key, and is no key.
SELECT apikey_check_level(:'native', 'standard') AS native, apikey_check_level(split_part(:'native', '/', 1), 'standard') AS without_suffix;
-- Should such a text be a legacy key, each is itself, whichever was seen before.
RESET SESSION AUTHORIZATION;
SELECT apikey_import_legacy('legacy-try', split_part(:'native', '/', 1)) \gset
SELECT org_id, user_id, legacy FROM apikey_verify(:'native') UNION ALL SELECT org_id, user_id, legacy FROM apikey_verify(split_part(:'native', '/', 1));
SELECT apikey_check_level(:'native', 'admin') AS native, apikey_check_level(split_part(:'native', '/', 1), 'admin') AS without_suffix;
SELECT apikey_check_level(split_part(:'native', '/', 1), 'admin') AS without_suffix, apikey_check_level(:'native', 'admin') AS native;
SELECT apikey_remove_org('legacy-try') \gset
SELECT apikey_check_level(:'native', 'standard') AS native, apikey_check_level(split_part(:'native', '/', 1), 'standard') AS without_suffix;

--
-- Listing: by admins of the organization only
--
SET SESSION AUTHORIZATION regress_legacy_ann;
SELECT kind, org_id, owner_id, owner_email, name, level, suffix, created_at <= now() AS created, expires_at FROM apikeys_legacy;
SELECT kind, name FROM apikeys ORDER BY 1;
SELECT kind, name FROM apikeys_mine ORDER BY 1;
SET SESSION AUTHORIZATION regress_legacy_bob;
SELECT count(*) FROM apikeys_legacy;
SELECT kind, name FROM apikeys ORDER BY 1;
SET SESSION AUTHORIZATION regress_legacy_app;
BEGIN;
SELECT apikey_act_as('legacy-two', 'arc') \gset
SELECT count(*) AS to_an_architect FROM apikeys;
COMMIT;
BEGIN;
SELECT apikey_act_as('legacy-two', 'zoe') \gset
SELECT org_id AS to_the_other_admin FROM apikeys;
COMMIT;
BEGIN;
SELECT apikey_authenticate('legacy-key-of-one') \g /dev/null
SELECT count(*) AS to_itself FROM apikeys;
COMMIT;
RESET SESSION AUTHORIZATION;

--
-- It cannot be renamed, lowered, given a suffix or an expiry, or rotated; not
-- by an admin, and not by one with too many rights either.
--
GRANT USAGE ON SCHEMA apikeys_private TO regress_legacy_ann;
GRANT SELECT, INSERT, UPDATE, DELETE ON apikeys_private.apikey_legacy, apikeys_private.apikey_key TO regress_legacy_ann;
CREATE TEMP TABLE legacy_before AS SELECT * FROM apikeys_private.apikey_legacy WHERE org_id LIKE 'legacy-%';
SET SESSION AUTHORIZATION regress_legacy_ann;
SELECT statement, pg_temp.try(statement) FROM (VALUES
	(1, $$SELECT apikey_update('-of-one', 'renamed')$$),
	(2, $$SELECT apikey_update('', 'renamed')$$),
	(3, $$SELECT apikey_update(NULL, 'renamed')$$),
	(4, $$SELECT apikey_update('legacy-key-of-one', level => 'standard')$$),
	(5, $$SELECT apikey_update('-of-one', expires_at => '2099-01-01')$$),
	(6, $$SELECT apikey_update(suffix, 'renamed') FROM apikeys_legacy$$),
	(7, $$SELECT apikey_rotate('-of-one')$$),
	(8, $$SELECT apikey_rotate(suffix) FROM apikeys_legacy$$),
	(9, $$SELECT apikey_delete('-of-one')$$),
	(10, $$SELECT apikey_delete(suffix) FROM apikeys_legacy$$),
	(11, $$UPDATE apikeys_private.apikey_legacy SET digest = sha256('legacy')$$),
	(12, $$UPDATE apikeys_private.apikey_legacy SET org_id = 'legacy-one'$$),
	(13, $$UPDATE apikeys_private.apikey_legacy SET created_at = '2001-01-01'$$),
	(14, $$UPDATE apikeys_legacy SET name = 'renamed'$$),
	(15, $$UPDATE apikeys SET level = 'standard'$$),
	(16, $$DELETE FROM apikeys_legacy$$),
	(17, $$INSERT INTO apikeys_private.apikey_legacy (org_id, digest) VALUES ('legacy-one', sha256('legacy'))$$)
) v (n, statement) ORDER BY n;
RESET SESSION AUTHORIZATION;
SELECT count(*) AS same FROM legacy_before JOIN apikeys_private.apikey_legacy USING (org_id, key_id, digest, created_at);
SELECT apikey_check_level('legacy-key-of-one', 'admin');

--
-- As principal it has the rights of its level, is no member, and manages no keys.
--
INSERT INTO apikeys_private.apikey_capability VALUES ('legacy_low', 'standard'), ('legacy_middle', 'architect'), ('legacy_high', 'admin');
SET SESSION AUTHORIZATION regress_legacy_app;
BEGIN;
SELECT * FROM apikey_authenticate('legacy-key-of-one');
SELECT apikey_current_org() AS org, apikey_current_user() AS "user", apikey_current_role() AS role,
	apikey_current_level() AS level, apikey_current_suffix() AS suffix;
SELECT apikey_allows('legacy_low') AS standard, apikey_allows('legacy_middle') AS architect, apikey_allows('legacy_high') AS admin;
SELECT apikey_check('legacy-key-of-one', 'legacy_high');
SELECT pg_temp.try($$SELECT apikey_create('minted')$$) AS creates, pg_temp.try($$SELECT apikey_delete_legacy()$$) AS deletes_itself,
	pg_temp.try(format('SELECT apikey_delete(%L)', apikey_suffix(:'native'))) AS deletes, pg_temp.try($$SELECT apikey_delete_all('bob')$$) AS cleans_up;
COMMIT;
SELECT apikey_current_org();
RESET SESSION AUTHORIZATION;
DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'legacy%';

--
-- It goes by itself, with its organization, and not with its members; and there
-- can be another.
--
SELECT apikey_remove_member('legacy-two', 'zoe'), apikey_remove_member('legacy-two', 'arc') \gset
SELECT apikey_check_level('legacy-key-of-two', 'admin');
SELECT apikey_remove_org('legacy-two') \gset
SELECT apikey_check_level('legacy-key-of-two', 'admin'), status FROM apikey_inspect('legacy-key-of-two');
SET SESSION AUTHORIZATION regress_legacy_bob;
SELECT apikey_delete_legacy();
SET SESSION AUTHORIZATION regress_legacy_ann;
SELECT apikey_delete_legacy() \gset
SELECT apikey_delete_legacy();
RESET SESSION AUTHORIZATION;
SELECT apikey_check_level('legacy-key-of-one', 'admin'), apikey_me('legacy-key-of-one');
SELECT apikey_import_legacy('legacy-one', 'legacy-key-of-one') \gset
SELECT apikey_check_level('legacy-key-of-one', 'admin');
-- Plain DML deletes it, or moves it with its organization.
UPDATE apikeys_private.apikey_org SET org_id = 'legacy-uno' WHERE org_id = 'legacy-one';
SELECT org_id FROM apikey_verify('legacy-key-of-one');
DELETE FROM apikeys_private.apikey_legacy WHERE org_id = 'legacy-uno';
SELECT apikey_check_level('legacy-key-of-one', 'admin');

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'legacy-%' \g /dev/null
DROP OWNED BY regress_legacy_app, regress_legacy_ann, regress_legacy_bob;
DROP ROLE regress_legacy_app, regress_legacy_ann, regress_legacy_bob;
