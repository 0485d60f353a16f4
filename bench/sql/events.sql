-- A million events of an organization, as many as its members have made.
INSERT INTO apikeys_private.apikey_event
	(event_id, xid, at, kind, org_id, suffix, owner_id, name, level, actor_kind, actor_id, db_role, client_addr, changes)
SELECT nextval('apikeys_private.apikey_event_id_seq'), 1 + i / 10, now() - (:events - i) * interval '1 second', 'key.update', 'history',
	upper(substr(md5(i::text), 1, 7)), 'user ' || i % 1000, 'key ' || i, 'standard', 'member', 'user ' || i % 1000, 'bench_app',
	'192.0.2.1', '{"name": {"old": "a key", "new": "another key"}}'
FROM generate_series(1, :events) i;
SELECT apikey_save_org('history', 'History'), apikey_save_member('history', 'admin', 'admin@bench.example', 'admin');
VACUUM (FREEZE, ANALYZE) apikeys_private.apikey_event;
