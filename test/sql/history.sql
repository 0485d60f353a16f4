-- History: an event for each thing that happens, by whatever way it is made to
-- happen; who acted; what writes none; who sees which; what became of a key.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- What was written since this was last asked, without what differs from run to
-- run: times are shown as such, suffixes by the letters that they are given.
CREATE TEMP TABLE read_up_to (id bigint);
INSERT INTO read_up_to VALUES (0);
CREATE TEMP TABLE suffixes (suffix text PRIMARY KEY, letter text);
CREATE FUNCTION pg_temp.masked(value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s record;
BEGIN
	FOR s IN SELECT * FROM suffixes LOOP
		value := replace(value, s.suffix, '<' || s.letter || '>');
	END LOOP;
	RETURN regexp_replace(value, '"\d{4}-\d\d-\d\dT[0-9:.]+\+00:00"', '"time"', 'g');
END $$;
CREATE FUNCTION pg_temp.news(OUT kind text, OUT org text, OUT owner text, OUT suffix text, OUT name text,
	OUT level text, OUT actor text, OUT db_role name, OUT changes text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	upto bigint := (SELECT id FROM read_up_to);
BEGIN
	UPDATE read_up_to SET id = GREATEST(upto, (SELECT max(event_id) FROM apikeys_private.apikey_event));
	RETURN QUERY SELECT e.kind, e.org_id, e.owner_id, pg_temp.masked(e.suffix), e.name, e.level::text,
			concat_ws(' ', e.actor_kind, pg_temp.masked(e.actor_id)), e.db_role, pg_temp.masked(e.changes::text)
		FROM apikeys_private.apikey_event e WHERE e.event_id > upto
		ORDER BY e.kind, e.org_id, e.owner_id, pg_temp.masked(e.suffix), e.changes::text;
END $$;

CREATE ROLE regress_history_app;
CREATE ROLE regress_history_bob;
CREATE ROLE regress_history_dba;
SELECT apikey_grant_application('regress_history_app') \gset
SELECT count(*) >= 0 AS before FROM pg_temp.news() \gset
\pset null -

-- ----- organizations and members, by functions of the application -----

SET ROLE regress_history_app;
SELECT apikey_save_org('hist-one', 'One', 'enterprise'), apikey_save_member('hist-one', 'ann', 'ann@one.example', 'admin'),
	apikey_save_member('hist-one', 'bob', 'bob@one.example'), apikey_save_member('hist-one', 'cay', 'cay@one.example') \gset
RESET ROLE;
SELECT * FROM pg_temp.news();
-- what changes nothing, or nothing that is told, is no event
SELECT apikey_save_org('hist-one', 'Uno', 'enterprise'), apikey_save_member('hist-one', 'ann', 'a@one.example', 'admin') \gset
SELECT * FROM pg_temp.news();
SELECT apikey_save_org('hist-one', 'One', 'business'), apikey_save_member('hist-one', 'cay', 'cay@one.example', 'guest'),
	apikey_save_member('hist-one', 'bob', 'bob@one.example', db_role => 'regress_history_bob') \gset
SELECT * FROM pg_temp.news();

-- ----- keys, by their owners -----

BEGIN;
SET LOCAL ROLE regress_history_app;
SELECT apikey_act_as('hist-one', 'bob') \gset
SELECT apikey_create('first') AS a, apikey_create('second', 'standard', now() + interval '30 days') AS b \gset
SELECT apikey_update(apikey_suffix(:'a'), 'renamed', expires_at => now() + interval '60 days') \gset
SELECT apikey_update(apikey_suffix(:'a'), 'renamed') \gset
SELECT apikey_rotate(apikey_suffix(:'b'), '1 hour') AS c \gset
SELECT apikey_delete(apikey_suffix(:'a')) \gset
COMMIT;
INSERT INTO suffixes VALUES (apikey_suffix(:'a'), 'a'), (apikey_suffix(:'b'), 'b'), (apikey_suffix(:'c'), 'c');
SELECT * FROM pg_temp.news();
-- a rotation that leaves the old key's expiry is told too
BEGIN;
SELECT apikey_act_as('hist-one', 'bob') \gset
SELECT apikey_rotate(apikey_suffix(:'b'), '1 year') AS d \gset
COMMIT;
INSERT INTO suffixes VALUES (apikey_suffix(:'d'), 'd');
SELECT * FROM pg_temp.news();

-- ----- who acts -----

-- the member whose role it is; a superuser is none
SET ROLE regress_history_bob;
SELECT apikey_create('by role') AS e \gset
RESET ROLE;
INSERT INTO suffixes VALUES (apikey_suffix(:'e'), 'e');
-- a member of another organization is not told here; nor one whose transaction was sealed and reset
SELECT apikey_save_org('hist-two', 'Two'), apikey_save_member('hist-two', 'zoe', 'zoe@two.example', 'admin') \gset
BEGIN;
SELECT apikey_act_as('hist-two', 'zoe') \gset
SELECT apikey_save_member('hist-one', 'dan', 'dan@one.example'), apikey_save_member('hist-two', 'yan', 'yan@two.example') \gset
RESET apikeys.principal;
SELECT apikey_save_member('hist-two', 'xia', 'xia@two.example') \gset
COMMIT;
-- a key
BEGIN;
SELECT (apikey_authenticate(:'e')).suffix \gset
SELECT apikey_save_member('hist-one', 'dan', 'dan@one.example', 'guest') \gset
COMMIT;
SELECT * FROM pg_temp.news();
-- a role that a DBA granted too much
GRANT USAGE ON SCHEMA apikeys_private TO regress_history_dba;
GRANT SELECT, UPDATE, DELETE ON apikeys_private.apikey_member TO regress_history_dba;
ALTER ROLE regress_history_dba BYPASSRLS;
SET ROLE regress_history_dba;
UPDATE apikeys_private.apikey_member SET role = 'admin' WHERE org_id = 'hist-one' AND user_id = 'dan';
RESET ROLE;
SELECT * FROM pg_temp.news();

-- ----- plain SQL and foreign keys -----

INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest)
VALUES ('hist-one', 'dan', 'by hand', 'admin', sha256('history 1'));
INSERT INTO suffixes SELECT suffix, 'h' FROM apikeys_private.apikey_key WHERE name = 'by hand';
UPDATE apikeys_private.apikey_key SET owner_id = 'ann', level = 'standard' WHERE name = 'by hand';
UPDATE apikeys_private.apikey_key SET name = name WHERE org_id = 'hist-one';
SELECT * FROM pg_temp.news();
UPDATE apikeys_private.apikey_key SET digest = sha256('history 2') WHERE name = 'by hand';
INSERT INTO suffixes SELECT suffix, 'i' FROM apikeys_private.apikey_key WHERE name = 'by hand';
SELECT * FROM pg_temp.news();
SELECT apikey_import_legacy('hist-one', 'history-legacy-key-1') \gset
INSERT INTO suffixes SELECT suffix, 'l' FROM apikeys_private.apikey_event WHERE kind = 'legacy.import' AND org_id = 'hist-one';
UPDATE apikeys_private.apikey_legacy SET digest = sha256('history 3') WHERE org_id = 'hist-one';
INSERT INTO suffixes SELECT suffix, 'm' FROM apikeys_private.apikey_event WHERE kind = 'legacy.import' AND org_id = 'hist-one' ON CONFLICT DO NOTHING;
SELECT * FROM pg_temp.news();
UPDATE apikeys_private.apikey_member SET user_id = 'bobby' WHERE user_id = 'bob' AND org_id = 'hist-one';
SELECT * FROM pg_temp.news();
UPDATE apikeys_private.apikey_org SET org_id = 'hist-uno' WHERE org_id = 'hist-one';
SELECT * FROM pg_temp.news();
SELECT apikey_remove_member('hist-uno', 'bobby') \gset
SELECT * FROM pg_temp.news();
SELECT apikey_remove_org('hist-uno') \gset
SELECT * FROM pg_temp.news();
BEGIN;
TRUNCATE apikeys_private.apikey_key;
SELECT * FROM pg_temp.news();
ROLLBACK;
-- each kind that was written is one that the table takes
ALTER TABLE apikeys_private.apikey_event VALIDATE CONSTRAINT apikey_event_kind_check;
SELECT count(*) AS of_no_kind FROM apikeys_private.apikey_event e, pg_constraint c
WHERE c.conname = 'apikey_event_kind_check' AND strpos(pg_get_constraintdef(c.oid), quote_literal(e.kind)) = 0;

-- ----- what writes none -----

UPDATE read_up_to SET id = (SELECT last_value FROM apikeys_private.apikey_event_id_seq);
SET apikeys.history = off;
SELECT apikey_save_member('hist-two', 'off', 'off@two.example') \gset
SET apikeys.history = on;
SET session_replication_role = replica;
DELETE FROM apikeys_private.apikey_member WHERE user_id = 'off';
RESET session_replication_role;
-- a restore
INSERT INTO apikeys_private.apikey_org VALUES ('hist-old', 'Old', 'free', '2020-01-01');
INSERT INTO apikeys_private.apikey_member VALUES ('hist-old', 'old', 'old@old.example', 'standard', NULL, '2020-01-01');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
VALUES ('hist-old', 'old', 'old', 'standard', sha256('history 4'), '2020-01-01');
INSERT INTO apikeys_private.apikey_legacy (org_id, digest, created_at) VALUES ('hist-old', sha256('history 5'), '2020-01-01');
-- what another trigger turns into nothing
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER a_refuse BEFORE DELETE ON apikeys_private.apikey_key FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
DELETE FROM apikeys_private.apikey_key WHERE name = 'old';
DROP TRIGGER a_refuse ON apikeys_private.apikey_key;
-- what is rolled back
BEGIN;
SELECT apikey_save_member('hist-two', 'never', 'never@two.example') \gset
ROLLBACK;
SELECT * FROM pg_temp.news();
SET ROLE regress_history_app;
SET apikeys.history = off;
RESET ROLE;
-- the function is good for nothing else
CREATE TABLE history_other (org_id text);
CREATE TRIGGER t AFTER INSERT ON history_other FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_record_change();
INSERT INTO history_other VALUES ('x');
DROP TABLE history_other;

-- ----- who sees what -----

SELECT apikey_save_org('hist-three', 'Three'), apikey_save_member('hist-three', 'ann', 'a@three.example', 'admin'),
	apikey_save_member('hist-three', 'bob', 'b@three.example') \gset
BEGIN;
SELECT apikey_act_as('hist-three', 'bob') \gset
SELECT apikey_create('bob one') AS v, apikey_create('bob two') AS w \gset
COMMIT;
BEGIN;
SELECT apikey_act_as('hist-three', 'ann') \gset
SELECT apikey_create('ann one') AS x \gset
SELECT apikey_delete(apikey_suffix(:'w')) \gset
COMMIT;
BEGIN;
SELECT apikey_act_as('hist-three', 'ann') \gset
SET LOCAL ROLE regress_history_app;
SELECT kind, owner_id, name, actor_id FROM apikeys_history ORDER BY event_id;
SELECT kind, name FROM apikeys_history ORDER BY at DESC LIMIT 2;
SELECT kind FROM apikeys_history WHERE suffix = apikey_suffix(:'w') ORDER BY at DESC;
COMMIT;
BEGIN;
SELECT apikey_act_as('hist-three', 'bob') \gset
SET LOCAL ROLE regress_history_app;
SELECT kind, owner_id, name, actor_id FROM apikeys_history ORDER BY event_id;
SELECT kind, name FROM apikeys_history ORDER BY at DESC LIMIT 2;
COMMIT;
BEGIN;
SELECT (apikey_authenticate(:'x')).suffix \gset
SET LOCAL ROLE regress_history_app;
SELECT count(*) FROM apikeys_history;
COMMIT;
SET ROLE regress_history_app;
SELECT count(*) FROM apikeys_history;
SELECT count(*) FROM apikeys_private.apikey_event;
SELECT apikey_seal_history();
SELECT apikey_verify_history();
SELECT apikey_prune_history(now());
SELECT count(*) > 5 AS shown FROM apikey_feed();
RESET ROLE;
SET ROLE regress_history_dba;
SELECT count(*) FROM apikey_feed();
SELECT count(*) > 0 AS shown FROM apikeys_private.apikey_event;
INSERT INTO apikeys_private.apikey_event (event_id) VALUES (1);
RESET ROLE;

-- ----- what became of a key -----

SELECT status, org_id, user_id, level, name, suffix = apikey_suffix(:'w') AS suffix, legacy, created_at, expires_at,
	deleted_at <= now() AS deleted, deleted_by FROM apikey_inspect(:'w');
SELECT status, deleted_by FROM apikey_inspect(:'v');
SELECT status, org_id, level, suffix, legacy, deleted_by FROM apikey_inspect('history-legacy-key-1');
SELECT status, deleted_by FROM apikey_inspect('history-legacy-key-2');
SELECT apikey_remove_member('hist-three', 'bob') \gset
SELECT status, deleted_by FROM apikey_inspect(:'v');

-- ----- nothing that must not be there -----

SELECT count(*) AS secrets FROM apikeys_private.apikey_event e
WHERE e::text LIKE '%' || left(:'a', 40) || '%' OR e::text LIKE '%example%'
	OR e::text LIKE '%' || encode(sha256('history 1'), 'hex') || '%';

SELECT count(apikey_remove_org(o)) AS removed FROM unnest('{hist-two,hist-three,hist-old}'::text[]) o;
REVOKE ALL ON apikeys_private.apikey_member FROM regress_history_dba;
REVOKE USAGE ON SCHEMA apikeys_private FROM regress_history_dba;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok AND "check" IN ('objects', 'grants');
DROP OWNED BY regress_history_app;
DROP ROLE regress_history_app, regress_history_bob, regress_history_dba;
