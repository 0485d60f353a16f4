--
-- verify
--
-- Proves what verification says of a key in every state, to the byte, and that
-- it says so at once: within the transaction that changed the key, after a
-- savepoint rolled back, after plain DML by a superuser, TRUNCATE, or under
-- session_replication_role = replica. Each question is asked several times in
-- one session, so that what the session keeps of keys has a chance to be wrong.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
SET apikeys.session_principal = on;	-- so that a principal can last

CREATE ROLE regress_verify_app;
CREATE ROLE regress_verify_ann;
SELECT apikey_grant_application('regress_verify_app'), apikey_grant_application('regress_verify_ann');

SELECT apikey_save_org('verify', 'Verify', 'enterprise'), apikey_save_org('verify 2', 'Verify 2', 'free');
SELECT apikey_save_member('verify', 'ann', 'ann@verify.example', 'admin');
SELECT apikey_save_member('verify', 'bob', 'bob@verify.example', 'architect');
SELECT apikey_save_member('verify', 'carol', 'carol@verify.example');

-- Everything that verification says of a key, asked four times over.
CREATE FUNCTION pg_temp.say(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text; before text;
BEGIN
	FOR i IN 1..4 LOOP
		said := concat_ws(', ',
			coalesce((SELECT 'reaches ' || string_agg(l::text, ' ' ORDER BY l)
			 FROM unnest(enum_range(NULL::apikey_level)) AS l WHERE apikey_check_level(key, l)), 'refused'),
			(SELECT 'verified as ' || concat_ws(' ', org_id, user_id, level, name) FROM apikey_verify(key)),
			(SELECT 'me ' || (m ->> 'role') FROM apikey_me(key) AS m),
			(apikey_inspect(key)).status);
		IF said <> before THEN
			RETURN 'first "' || before || '", then "' || said || '"';
		END IF;
		before := said;
	END LOOP;
	RETURN said;
END $$;

-- How a statement ends.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text; message text; hint text;
BEGIN
	EXECUTE statement INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, ''));
END $$;

-- A new key of a member, for setting up.
CREATE FUNCTION pg_temp.key_of(org text, member text, name text, level apikey_level, expires_at timestamptz DEFAULT 'infinity')
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_act_as(org, member, true);
	RETURN apikey_create(name, level, expires_at);
END $$;

SELECT pg_temp.key_of('verify', 'ann', 'admin key', 'admin') AS admin,
	pg_temp.key_of('verify', 'bob', 'architect key', 'architect', '2400-01-01 00:00:00+00') AS architect,
	pg_temp.key_of('verify', 'carol', 'standard key', 'standard') AS standard,
	pg_temp.key_of('verify', 'carol', 'expired key', 'standard') AS expired,
	pg_temp.key_of('verify', 'carol', 'deleted key', 'standard') AS deleted \gset
RESET ALL;
SELECT apikey_import_legacy('verify', 'a legacy key of verify');
\set legacy 'a legacy key of verify'
\set unknown 'na1.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg/YNP8WXT'
UPDATE apikeys_private.apikey_key SET expires_at = '2001-01-01 00:00:00+00' WHERE org_id = 'verify' AND name = 'expired key';
DELETE FROM apikeys_private.apikey_key WHERE org_id = 'verify' AND name = 'deleted key';

--
-- Every state, every level
--

CREATE TEMPORARY TABLE presented (n serial, state text, key text);
INSERT INTO presented (state, key) VALUES
	('admin', :'admin'), ('architect', :'architect'), ('standard', :'standard'), ('legacy', :'legacy'),
	('expired', :'expired'), ('deleted', :'deleted'), ('unknown native', :'unknown'),
	('unknown legacy', 'some other legacy key'), ('wrong suffix', left(:'admin', -7) || '0000000'),
	('malformed', 'too short'), ('empty', ''), ('null', NULL);
GRANT SELECT ON presented TO PUBLIC;
SET ROLE regress_verify_app;
SELECT state, apikey_check_level(key, 'standard') AS standard, apikey_check_level(key, 'architect') AS architect,
	apikey_check_level(key, 'admin') AS admin
FROM presented, generate_series(1, 2) AS again ORDER BY again, n;
SELECT state, v.org_id, v.user_id, v.level, v.name, v.suffix = apikey_suffix(key) AS suffix, v.legacy, v.expires_at
FROM presented LEFT JOIN LATERAL apikey_verify(key) AS v ON true ORDER BY n;
SELECT state, apikey_me(key) AS me FROM presented ORDER BY n;
SELECT state, i.status, i.org_id, i.user_id, i.level, i.name, i.suffix = apikey_suffix(key) AS suffix, i.legacy,
	i.created_at <= now() AS created, i.expires_at
FROM presented, apikey_inspect(key) AS i ORDER BY n;
RESET ROLE;
-- what inspection says of dates is what is stored
SELECT i.status, i.created_at = k.created_at AS created, i.expires_at = k.expires_at AS expires
FROM apikey_inspect(:'expired') AS i JOIN apikeys_private.apikey_key k ON k.org_id = i.org_id AND k.suffix = i.suffix;
SELECT i.status, i.created_at = l.created_at AS created
FROM apikey_inspect(:'legacy') AS i JOIN apikeys_private.apikey_legacy l USING (org_id);

-- a level that is not given is an error, before anything is said of the key
SELECT state, pg_temp.try(format('SELECT apikey_check_level(%L, NULL)', key)) AS no_level
FROM presented WHERE state IN ('admin', 'malformed', 'null') ORDER BY n;

-- The level of the key decides, not its owner's role of today.
SELECT apikey_save_member('verify', 'carol', NULL, 'guest');
SELECT pg_temp.say(:'standard');
SELECT apikey_save_member('verify', 'ann', NULL, 'guest');
SELECT pg_temp.say(:'admin');
SELECT apikey_save_member('verify', 'ann', NULL, 'admin'), apikey_save_member('verify', 'carol', NULL, 'standard');

-- Wherever a query may call it; it has a row or none.
SET ROLE regress_verify_app;
SELECT count(*) AS live FROM presented WHERE EXISTS (SELECT FROM apikey_verify(key));
SELECT n, (apikey_verify(key)).level FROM presented ORDER BY n;
SELECT a.level AS a, b.level AS b, c.level AS c
FROM ROWS FROM (apikey_verify(:'expired'), apikey_verify(:'architect'), apikey_verify(:'legacy'))
	AS f (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u),
	LATERAL (SELECT c::text AS level) AS a, LATERAL (SELECT j::text AS level) AS b, LATERAL (SELECT q::text AS level) AS c;
SELECT CASE WHEN apikey_check_level(key, 'standard') THEN 'yes' ELSE 'no' END AS answer, count(*) FROM presented GROUP BY 1 ORDER BY 1;
RESET ROLE;

--
-- The body of GET /me: exactly these bytes, and JSON whatever is in it
--

SELECT apikey_me(:'architect')::text = '{"email": "bob@verify.example", "orgId": "verify", "role": "ARCHITECT"}' AS as_documented;
SELECT apikey_me(:'standard')::text = '{"email": "carol@verify.example", "orgId": "verify", "role": "USER"}' AS as_documented;
SELECT apikey_me(:'legacy')::text = '{"email": "", "orgId": "verify", "role": "ADMIN"}' AS as_documented;

BEGIN;
UPDATE apikeys_private.apikey_org SET org_id = 'verify "q" \b /s </script> é 😀' WHERE org_id = 'verify';
SELECT what, apikey_me(:'admin')::text = format('{"email": %s, "orgId": %s, "role": "ADMIN"}', to_json(email), to_json(org_id)) AS as_json,
	apikey_me(:'admin')::jsonb ->> 'email' = email AS email_back, apikey_me(:'admin')::jsonb ->> 'orgId' = org_id AS org_back
FROM (VALUES ('plain', 'plain@verify.example'), ('empty', ''), ('quote', '"'), ('backslash', '\'), ('escaped quote', '\"'),
		('escape', 'a\u0041b'), ('control', E'tab\tline\nreturn\rbell\007escape\033delete\177'), ('HTML', '</script><!-- &'),
		('letters', 'é😀'), ('forged', '", "role": "ADMIN'), ('separators', E'\u2028\u0085')) AS e (what, email),
	LATERAL (SELECT org_id FROM apikeys_private.apikey_org WHERE name = 'Verify') AS o,
	LATERAL (SELECT apikey_save_member(org_id, 'ann', email)) AS saved;
SELECT apikey_me(:'legacy')::jsonb ->> 'orgId' AS org;
ROLLBACK;

--
-- Capabilities
--

INSERT INTO apikeys_private.apikey_capability (capability, level) VALUES
	('verify low', 'standard'), ('verify middle', 'architect'), ('verify high', 'admin');
SET ROLE regress_verify_app;
SELECT state, apikey_check(key, 'verify low') AS low, apikey_check(key, 'verify middle') AS middle, apikey_check(key, 'verify high') AS high
FROM presented, generate_series(1, 2) AS again ORDER BY again, n;
SELECT c AS capability, pg_temp.try(format('SELECT apikey_check(%L, %L)', k, c)) AS result
FROM (VALUES (1, 'verify none'), (2, 'VERIFY LOW'), (3, 'verify low '), (4, ''), (5, NULL)) AS c (n, c),
	unnest(ARRAY[:'admin', NULL]) WITH ORDINALITY AS k (k, m)
ORDER BY n, m;
RESET ROLE;
-- what the product's list says now, counts
UPDATE apikeys_private.apikey_capability SET level = 'admin' WHERE capability = 'verify low';
SELECT apikey_check(:'standard', 'verify low'), apikey_check(:'admin', 'verify low') FROM generate_series(1, 2);
UPDATE apikeys_private.apikey_capability SET level = 'standard' WHERE capability = 'verify high';
SELECT apikey_check(:'standard', 'verify high'), apikey_check(:'admin', 'verify high') FROM generate_series(1, 2);
DELETE FROM apikeys_private.apikey_capability WHERE capability LIKE 'verify %';
SELECT pg_temp.try(format('SELECT apikey_check(%L, %L)', :'admin', 'verify low')) AS gone;

--
-- Transactions of every kind
--

SET ROLE regress_verify_app;
BEGIN READ ONLY;
SELECT pg_temp.say(:'architect'), pg_temp.say(:'legacy'), pg_temp.say(:'expired'), pg_temp.say(:'deleted');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.say(:'architect'), pg_temp.say(:'legacy'), pg_temp.say(:'expired'), pg_temp.say(:'deleted');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT pg_temp.say(:'architect'), pg_temp.say(:'legacy'), pg_temp.say(:'expired'), pg_temp.say(:'deleted');
COMMIT;
RESET ROLE;

-- verification takes part in no transaction: neither locks nor an id are left
SET ROLE regress_verify_app;
BEGIN;
SELECT apikey_check_level(:'architect', 'standard'), apikey_check_level(:'unknown', 'standard'),
	(apikey_inspect(:'legacy')).status, apikey_me(:'standard') IS NOT NULL AS me;
RESET ROLE;
SELECT count(*) AS locks FROM pg_locks
WHERE pid = pg_backend_pid() AND relation IN ('apikeys_private.apikey_key'::regclass, 'apikeys_private.apikey_legacy'::regclass, 'apikeys_private.apikey_key_digest_excl'::regclass, 'apikeys_private.apikey_member'::regclass);
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id;
COMMIT;

-- In the transaction that changes the key, by its owner.
SET apikeys.session_principal = on;
SET ROLE regress_verify_ann;
SELECT apikey_act_as('verify', 'ann', session => true);
BEGIN;
SELECT apikey_create('one', 'admin') AS one \gset
SELECT pg_temp.say(:'one');
SAVEPOINT a;
SELECT apikey_delete(apikey_suffix(:'one'));
SELECT pg_temp.say(:'one');
ROLLBACK TO a;
SELECT pg_temp.say(:'one');
SELECT apikey_update(apikey_suffix(:'one'), level => 'standard');
SELECT pg_temp.say(:'one');
SAVEPOINT b;
SELECT apikey_update(apikey_suffix(:'one'), level => 'architect');
SELECT pg_temp.say(:'one');
RELEASE b;
SELECT pg_temp.say(:'one');
ROLLBACK TO a;
SELECT pg_temp.say(:'one');
COMMIT;
SELECT pg_temp.say(:'one');

-- created, and never committed
BEGIN;
SELECT apikey_create('two', 'admin') AS two \gset
SELECT pg_temp.say(:'two');
ROLLBACK;
SELECT pg_temp.say(:'two');
BEGIN;
SAVEPOINT a;
SELECT apikey_create('three', 'admin') AS three \gset
SELECT pg_temp.say(:'three');
ROLLBACK TO a;
SELECT pg_temp.say(:'three');
SAVEPOINT b;
SELECT apikey_create('four', 'admin') AS four \gset
SELECT pg_temp.say(:'four');
RELEASE b;
SELECT pg_temp.say(:'four');
ROLLBACK;
SELECT pg_temp.say(:'three'), pg_temp.say(:'four');

-- deleted or lowered, and rolled back; then for good
BEGIN;
SELECT apikey_delete(apikey_suffix(:'one'));
SELECT pg_temp.say(:'one');
ROLLBACK;
SELECT pg_temp.say(:'one');
BEGIN;
SELECT apikey_update(apikey_suffix(:'one'), level => 'architect');
SELECT pg_temp.say(:'one');
ROLLBACK;
SELECT pg_temp.say(:'one');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.say(:'one');
SELECT apikey_update(apikey_suffix(:'one'), 'one renamed', 'architect', '2400-01-01');
SELECT pg_temp.say(:'one');
COMMIT;
SELECT pg_temp.say(:'one');
SELECT apikey_rotate(apikey_suffix(:'one')) AS five \gset
SELECT pg_temp.say(:'one'), pg_temp.say(:'five');
SELECT apikey_delete(apikey_suffix(:'one')), apikey_delete(apikey_suffix(:'five'));
SELECT pg_temp.say(:'one'), pg_temp.say(:'five');

-- exceptions are subtransactions
SELECT apikey_create('six', 'admin') AS six \gset
SELECT set_config('verify.six', :'six', false) = :'six' AS kept;
DO $$
DECLARE
	six text := current_setting('verify.six');
	seven text;
BEGIN
	RAISE NOTICE 'at first: %', pg_temp.say(six);
	BEGIN
		PERFORM apikey_delete(apikey_suffix(six));
		seven := apikey_create('seven', 'admin');
		RAISE NOTICE 'deleted: %; created: %', pg_temp.say(six), pg_temp.say(seven);
		RAISE EXCEPTION 'rolled back';
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '%: %; %', SQLERRM, pg_temp.say(six), pg_temp.say(seven);
	END;
	PERFORM apikey_delete(apikey_suffix(six));
	RAISE NOTICE 'deleted again: %', pg_temp.say(six);
END $$;
SELECT pg_temp.say(:'six');

-- one statement: a key is alive from its creation on, and dead from its
-- deletion, also for the rows yet to come of a cursor that is open
SELECT apikey_check_level(apikey_create('eight', 'admin'), 'admin');
SELECT apikey_create('nine', 'admin') AS nine \gset
BEGIN;
DECLARE verdicts CURSOR FOR SELECT apikey_check_level(:'nine', 'admin'), v.level
	FROM generate_series(1, 4) AS n LEFT JOIN LATERAL apikey_verify(:'nine' || repeat('', n)) AS v ON true;
FETCH 2 FROM verdicts;
SELECT apikey_delete(apikey_suffix(:'nine'));
FETCH 2 FROM verdicts;
ROLLBACK;
PREPARE verdict AS SELECT apikey_check_level($1, $2);
EXECUTE verdict (:'nine', 'admin');
EXECUTE verdict (:'nine', 'admin');
EXECUTE verdict (:'nine', 'admin');
EXECUTE verdict (:'nine', 'admin');
EXECUTE verdict (:'nine', 'admin');
EXECUTE verdict (:'nine', 'admin');
SELECT apikey_delete(apikey_suffix(:'nine'));
EXECUTE verdict (:'nine', 'admin');
DEALLOCATE verdict;
RESET ROLE;

-- an expiry is a moment of the clock, not of the transaction
UPDATE apikeys_private.apikey_key SET expires_at = clock_timestamp() + interval '300 ms' WHERE org_id = 'verify' AND name = 'standard key';
SELECT set_config('verify.key', :'standard', false) = :'standard' AS kept;
DO $$
DECLARE
	key text := current_setting('verify.key');
	expiry timestamptz := (SELECT expires_at FROM apikey_verify(key));
	before boolean := true;
BEGIN
	FOR i IN 1..5 LOOP
		before := before AND apikey_check_level(key, 'standard');
	END LOOP;
	RAISE NOTICE 'before: %', before OR clock_timestamp() >= expiry;
	PERFORM pg_sleep(extract(epoch FROM expiry - clock_timestamp()) + 0.01);
	RAISE NOTICE 'after: %', pg_temp.say(key);
END $$;
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity' WHERE org_id = 'verify' AND name = 'standard key';
SELECT pg_temp.say(:'standard');

--
-- Plain DML by a superuser
--

UPDATE apikeys_private.apikey_key SET level = 'architect' WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET expires_at = '-infinity' WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET expires_at = 'infinity', level = 'admin', name = 'admin key' WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');

-- another digest is another key
BEGIN;
UPDATE apikeys_private.apikey_key SET digest = sha256(convert_to(left(:'unknown', -8), 'UTF8')) WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'unknown');
SELECT v.suffix = apikey_suffix(:'unknown') AS suffix FROM apikey_verify(:'unknown') AS v;
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'unknown');
BEGIN;
UPDATE apikeys_private.apikey_legacy SET digest = sha256(convert_to('some other legacy key', 'UTF8')) WHERE org_id = 'verify';
SELECT pg_temp.say(:'legacy'), pg_temp.say('some other legacy key');
ROLLBACK;
SELECT pg_temp.say(:'legacy'), pg_temp.say('some other legacy key');

-- identifiers that change take their keys along
BEGIN;
UPDATE apikeys_private.apikey_member SET user_id = 'anne' WHERE org_id = 'verify' AND user_id = 'ann';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_org SET org_id = 'verify anew' WHERE org_id = 'verify';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');

-- removed with their member, their organization, or all at once
BEGIN;
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'verify' AND user_id = 'ann';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'architect');
ROLLBACK;
SELECT pg_temp.say(:'admin');
BEGIN;
DELETE FROM apikeys_private.apikey_org WHERE org_id = 'verify';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
BEGIN;
TRUNCATE apikeys_private.apikey_key, apikeys_private.apikey_legacy;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
BEGIN;
SET LOCAL client_min_messages = warning;
TRUNCATE apikeys_private.apikey_org CASCADE;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
ROLLBACK;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');

-- where triggers and foreign keys do not act, as when a change is replicated
SET session_replication_role = replica;
BEGIN;
UPDATE apikeys_private.apikey_key SET level = 'standard' WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_key SET expires_at = '-infinity' WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
DELETE FROM apikeys_private.apikey_key WHERE org_id = 'verify' AND name = 'admin key';
SELECT pg_temp.say(:'admin');
ROLLBACK;
SELECT pg_temp.say(:'admin');
BEGIN;
UPDATE apikeys_private.apikey_member SET user_id = 'anne' WHERE org_id = 'verify' AND user_id = 'ann';
SELECT pg_temp.say(:'admin');
UPDATE apikeys_private.apikey_org SET org_id = 'verify anew' WHERE org_id = 'verify';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'verify anew' AND user_id = 'anne';
SELECT pg_temp.say(:'admin'), pg_temp.say(:'architect'), pg_temp.say(:'legacy');
DELETE FROM apikeys_private.apikey_org WHERE org_id = 'verify anew';
SELECT pg_temp.say(:'architect'), pg_temp.say(:'legacy');
ROLLBACK;
BEGIN;
TRUNCATE apikeys_private.apikey_key, apikeys_private.apikey_legacy;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');
ROLLBACK;
RESET session_replication_role;
SELECT pg_temp.say(:'admin'), pg_temp.say(:'legacy');

-- an owner that vanished behind everybody's back: no row, not an error
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE apikeys_private.apikey_member DISABLE TRIGGER apikey_carry;
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'verify' AND user_id = 'ann';
SELECT apikey_me(:'admin') IS NULL AS nobody;
ROLLBACK;

--
-- Against a model: many keys, changed at random in transactions that commit or
-- do not; after each step all verdicts are compared with a plain query.
--

CREATE TEMPORARY TABLE held (key text);
CREATE FUNCTION pg_temp.wrong_verdicts() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*)
	FROM held, unnest(enum_range(NULL::apikey_level)) AS l, generate_series(1, 2)
	WHERE apikey_check_level(key, l) IS DISTINCT FROM EXISTS (
		SELECT FROM apikeys_private.apikey_key k
		WHERE k.digest = sha256(convert_to(left(key, -8), 'UTF8'))
			AND k.level >= l AND (k.expires_at > clock_timestamp()) IS NOT FALSE)
$$;
CREATE PROCEDURE pg_temp.change_something() LANGUAGE plpgsql AS $$
DECLARE
	chosen bigint := (SELECT key_id FROM apikeys_private.apikey_key WHERE org_id = 'verify' AND name = 'model' ORDER BY random() LIMIT 1);
BEGIN
	CASE floor(random() * 6)
		WHEN 0 THEN DELETE FROM apikeys_private.apikey_key WHERE key_id = chosen;
		WHEN 1 THEN UPDATE apikeys_private.apikey_key SET level = CASE level WHEN 'admin' THEN 'standard' ELSE 'admin' END::apikey_level WHERE key_id = chosen;
		WHEN 2 THEN UPDATE apikeys_private.apikey_key SET expires_at = CASE WHEN expires_at IS NULL THEN '-infinity' ELSE 'infinity' END::timestamptz WHERE key_id = chosen;
		WHEN 3 THEN UPDATE apikeys_private.apikey_key SET digest = sha256(digest) WHERE key_id = chosen;
		WHEN 4 THEN UPDATE apikeys_private.apikey_key SET digest = sha256(convert_to(left((SELECT key FROM held ORDER BY random() LIMIT 1), -8), 'UTF8'))
			WHERE key_id = chosen AND NOT EXISTS (SELECT FROM apikeys_private.apikey_key WHERE digest IN (SELECT sha256(convert_to(left(key, -8), 'UTF8')) FROM held));
		ELSE
			PERFORM apikey_act_as('verify', 'ann');
			INSERT INTO held SELECT apikey_create('model', 'admin');
	END CASE;
END $$;

CREATE TEMPORARY TABLE model (wrong_verdicts bigint, some_live boolean, some_dead boolean);
SET client_min_messages = error;
DO $$
DECLARE
	wrong bigint := 0;
	live bigint := 0;
	judged bigint := 0;
BEGIN
	PERFORM apikey_act_as('verify', 'ann');
	INSERT INTO held SELECT apikey_create('model', 'architect') FROM generate_series(1, 12);
	COMMIT;
	FOR step IN 1..80 LOOP
		CALL pg_temp.change_something();
		wrong := wrong + pg_temp.wrong_verdicts();
		live := live + (SELECT count(*) FROM held WHERE apikey_check_level(key, 'standard'));
		judged := judged + (SELECT count(*) FROM held);
		BEGIN
			CALL pg_temp.change_something();
			wrong := wrong + pg_temp.wrong_verdicts();
			IF random() < 0.5 THEN
				RAISE EXCEPTION 'rolled back';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			wrong := wrong + pg_temp.wrong_verdicts();
		END;
		wrong := wrong + pg_temp.wrong_verdicts();
		IF random() < 0.5 THEN
			COMMIT;
		ELSE
			ROLLBACK;
		END IF;
		wrong := wrong + pg_temp.wrong_verdicts();
	END LOOP;
	INSERT INTO model VALUES (wrong, live > 0, live < judged);
END $$;
RESET client_min_messages;
SELECT * FROM model;
SELECT count(*) > 12 AS held_more FROM held;

--
-- Removed for good
--

SELECT pg_temp.say(:'architect');
SELECT apikey_remove_member('verify', 'bob');
SELECT pg_temp.say(:'architect');
SELECT apikey_save_member('verify', 'bob', 'bob@verify.example', 'architect');
SELECT pg_temp.say(:'architect');
SELECT apikey_remove_org('verify'), apikey_remove_org('verify 2');
SELECT pg_temp.say(:'admin'), pg_temp.say(:'standard'), pg_temp.say(:'legacy');
DROP OWNED BY regress_verify_app, regress_verify_ann;
DROP ROLE regress_verify_app, regress_verify_ann;
