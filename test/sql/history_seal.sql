-- Seals: what is changed, added or taken away is told by a seal that was kept,
-- and pruning is told apart. Within a transaction, as nothing else may write
-- events meanwhile, and all is as it was before at the end.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- Begin anew, with what there is pruned.
SELECT apikey_prune_history('infinity') >= 0 AS pruned;
SELECT count(*) AS left FROM apikeys_private.apikey_event;
DELETE FROM apikeys_private.apikey_seal;
SELECT ok, detail FROM apikey_verify_history();
SELECT apikey_seal_history();
SELECT ok, detail FROM apikey_verify_history('\x00');

SELECT apikey_save_org('seal', 'Seal'), apikey_save_member('seal', 'ann', 'ann@seal.example', 'admin'),
	apikey_save_member('seal', 'bób "the\tönly"', 'bob@seal.example'), apikey_save_member('seal', 'cay', 'cay@seal.example') \gset
SELECT apikey_seal_history() AS first \gset
SELECT apikey_seal_history() = :'first' AS "nothing new, no new seal";
SELECT apikey_save_member('seal', 'ann', 'ann@seal.example', 'guest'), apikey_save_member('seal', 'cay', 'cay@seal.example', 'admin') \gset
SELECT ok, detail FROM apikey_verify_history(:'first');
SELECT apikey_seal_history() AS second \gset
SELECT ok, detail FROM apikey_verify_history(:'first');
SELECT ok, detail FROM apikey_verify_history(:'second');
SELECT ok, detail FROM apikey_verify_history(sha256('another'));

-- The same by hand, as doc/history.md has it.
CREATE FUNCTION pg_temp.piece(value text) RETURNS text LANGUAGE sql
RETURN COALESCE(octet_length(convert_to(value, 'UTF8')) || ':' || value || ',', '-');
CREATE FUNCTION pg_temp.us(t timestamptz) RETURNS bigint LANGUAGE sql
RETURN (extract(epoch FROM t) * 1000000)::bigint;
CREATE FUNCTION pg_temp.by_hand() RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	s record;
	e record;
	hash bytea;
	seal bytea := decode(repeat('00', 32), 'hex');
	after record := ROW(0::bigint, 0::bigint);
BEGIN
	FOR s IN SELECT * FROM apikeys_private.apikey_seal ORDER BY seal_id LOOP
		hash := decode(repeat('00', 32), 'hex');
		FOR e IN SELECT * FROM apikeys_private.apikey_event v
			WHERE ROW(v.xid, v.event_id) > after AND (v.xid, v.event_id) <= (s.xid, s.event_id) ORDER BY v.xid, v.event_id LOOP
			hash := sha256(hash || convert_to(concat(pg_temp.piece(e.xid::text), pg_temp.piece(e.event_id::text),
				pg_temp.piece(pg_temp.us(e.at)::text), pg_temp.piece(e.kind), pg_temp.piece(e.org_id), pg_temp.piece(e.suffix),
				pg_temp.piece(e.owner_id), pg_temp.piece(e.name), pg_temp.piece(e.level::text), pg_temp.piece(e.actor_kind),
				pg_temp.piece(e.actor_id), pg_temp.piece(e.db_role), pg_temp.piece(e.client_addr::text),
				pg_temp.piece(e.changes::text)), 'UTF8'));
		END LOOP;
		seal := sha256(seal || hash || int8send(s.xid) || int8send(s.event_id) || int8send(s.events) || int8send(pg_temp.us(s.sealed_at)));
		after := ROW(s.xid, s.event_id);
	END LOOP;
	RETURN seal;
END $$;
SELECT pg_temp.by_hand() = :'second' AS "as described";

-- What is done, and what is said of it without and with the seal that was kept;
-- undone again.
CREATE FUNCTION pg_temp.tamper(statement text, kept bytea, OUT ok boolean, OUT detail text, OUT ok_kept boolean, OUT detail_kept text)
LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
		SELECT v.ok, regexp_replace(v.detail, ' of [-0-9: .+]+, up to event \d+', '', 'g') INTO ok, detail FROM apikey_verify_history() v;
		SELECT v.ok, regexp_replace(v.detail, ' of [-0-9: .+]+, up to event \d+', '', 'g') INTO ok_kept, detail_kept FROM apikey_verify_history(kept) v;
		RAISE assert_failure;
	EXCEPTION
		WHEN assert_failure THEN
			NULL;
	END;
END $$;
CREATE TEMP VIEW numbered AS
SELECT row_number() OVER (ORDER BY xid, event_id) AS n, e.* FROM apikeys_private.apikey_event e;
\x
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_event WHERE event_id = (SELECT event_id FROM numbered WHERE n = 2)', :'second');
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_event WHERE event_id = (SELECT max(event_id) FROM numbered)', :'second');
SELECT * FROM pg_temp.tamper('INSERT INTO apikeys_private.apikey_event (event_id, xid, at, kind, actor_kind, db_role)
	SELECT -5, xid, at, kind, actor_kind, db_role FROM numbered WHERE n = 2', :'second');
SELECT * FROM pg_temp.tamper('INSERT INTO apikeys_private.apikey_event (event_id, xid, at, kind, actor_kind, db_role)
	SELECT (-9223372036854775808)::bigint, (-9223372036854775808)::bigint, at, kind, actor_kind, db_role FROM numbered WHERE n = 2', :'second');
SELECT * FROM pg_temp.tamper('UPDATE apikeys_private.apikey_event SET event_id = -5 WHERE event_id = (SELECT event_id FROM numbered WHERE n = 4)', :'second');
-- the last seal, or the first, or one in the way
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_seal WHERE seal_id = 2', :'second');
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_seal WHERE seal_id = 1', :'second');
SELECT * FROM pg_temp.tamper('UPDATE apikeys_private.apikey_seal SET events_hash = sha256(''x'') WHERE seal_id = 1', :'second');
SELECT * FROM pg_temp.tamper('UPDATE apikeys_private.apikey_seal SET seal = ''\x00'' WHERE seal_id = 2', :'second');
SELECT * FROM pg_temp.tamper('UPDATE apikeys_private.apikey_seal SET sealed_at = now() - interval ''1 day'' WHERE seal_id = 2', :'second');
-- all of the history made anew by the owner: only the seal that was kept tells
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_seal; UPDATE apikeys_private.apikey_event SET actor_id = ''x'';
	SELECT apikey_seal_history()', :'second');
-- what is called pruned, and is in the middle
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_event WHERE event_id >= (SELECT event_id FROM numbered WHERE n = 5);
	UPDATE apikeys_private.apikey_seal SET pruned = events WHERE seal_id = 2', :'second');
\x
-- any column of any event
SELECT c.attname, bool_or(t.ok) AS ok
FROM pg_attribute c, LATERAL pg_temp.tamper(format(
	'UPDATE apikeys_private.apikey_event SET %I = %s WHERE event_id = (SELECT event_id FROM numbered WHERE n = 3)', c.attname,
	CASE c.atttypid::regtype::text WHEN 'bigint' THEN c.attname || ' + 1000000' WHEN 'timestamp with time zone' THEN 'at + interval ''1 us'''
		WHEN 'jsonb' THEN '''{"a": 1}''' WHEN 'inet' THEN '''192.0.2.1''' WHEN 'apikey_level' THEN '''admin'''
		ELSE CASE c.attname WHEN 'kind' THEN '''org.plan''' WHEN 'actor_kind' THEN '''worker''' ELSE '''''' END END), NULL) t
WHERE c.attrelid = 'apikeys_private.apikey_event'::regclass AND c.attnum > 0
GROUP BY c.attnum, c.attname ORDER BY c.attnum;

-- Pruning.
SELECT at AS third FROM numbered WHERE n = 3 \gset
SELECT apikey_prune_history(NULL);
SELECT apikey_prune_history('-infinity');
SELECT apikey_prune_history(:'third');
SELECT seal_id, events, pruned, pruned_hash IS NOT NULL AS noted FROM apikeys_private.apikey_seal ORDER BY seal_id;
SELECT ok, detail FROM apikey_verify_history(:'first');
SELECT ok, detail FROM apikey_verify_history(:'second');
SELECT apikey_prune_history(:'third');
\x
SELECT * FROM pg_temp.tamper('UPDATE apikeys_private.apikey_event SET name = ''x'' WHERE event_id = (SELECT event_id FROM numbered WHERE n = 1)', :'second');
SELECT * FROM pg_temp.tamper('DELETE FROM apikeys_private.apikey_event WHERE event_id = (SELECT event_id FROM numbered WHERE n = 1)', :'second');
\x
-- into the future: all that is sealed, and it is sealed first
SELECT apikey_save_member('seal', 'ann', 'ann@seal.example', 'standard') \gset
SELECT apikey_prune_history(now() + interval '1 year');
SELECT seal_id, events, pruned FROM apikeys_private.apikey_seal ORDER BY seal_id;
SELECT ok, detail FROM apikey_verify_history(:'second');
SELECT apikey_remove_org('seal') \gset
SELECT ok, detail FROM apikey_verify_history(:'second');

-- The feed's positions.
SELECT apikey_feed('');
SELECT apikey_feed('12');
SELECT apikey_feed('-1-5');
SELECT apikey_feed('1-5 ');
SELECT apikey_feed('1--5');
SELECT apikey_feed('99999999999999999999-1');
SELECT apikey_feed(repeat('1', 100000) || '-1');
SELECT apikey_feed(NULL, 0);
SELECT apikey_feed(NULL, NULL);
SELECT count(*) AS none FROM apikey_feed('9223372036854775807-9223372036854775807');
SELECT count(*) AS all_of_them FROM apikey_feed('0-0', 2147483647);
SELECT array_agg(kind ORDER BY n) = (SELECT array_agg(kind ORDER BY xid, event_id) FROM apikeys_private.apikey_event) AS "one after the other"
FROM (WITH RECURSIVE r AS (
		SELECT 1 AS n, f.position AS position, f.kind FROM apikey_feed(NULL, 1) f
		UNION ALL
		SELECT r.n + 1, f.position, f.kind FROM r, apikey_feed(r.position, 1) f)
	SELECT * FROM r) x;
