--
-- History: what happened to keys, members and organizations
--
-- An event is written by the library, straight into the table, in the
-- transaction of the change: triggers on apikey_event are not fired for it, nor
-- its constraints asked. The indexes are what writing costs, so there is one for
-- each way of reading and no other.
--

CREATE SEQUENCE apikeys_private.apikey_event_id_seq AS bigint;
COMMENT ON SEQUENCE apikeys_private.apikey_event_id_seq IS
'Numbers events.';

CREATE SEQUENCE apikeys_private.apikey_xid_offset AS bigint MINVALUE 0;
COMMENT ON SEQUENCE apikeys_private.apikey_xid_offset IS
'What is added to a transaction''s number in apikey_event.xid, once it is known; before that, nothing has been written by this server. See doc/history.md.';

CREATE TABLE apikeys_private.apikey_event (
	event_id bigint NOT NULL,
	xid bigint NOT NULL,
	at timestamptz NOT NULL,
	kind text COLLATE "C" NOT NULL
		CONSTRAINT apikey_event_kind_check CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY[
			'key.create', 'key.update', 'key.rotate', 'key.suspend', 'key.resume',
			'key.delete', 'key.leak', 'key.import', 'key.expiring',
			'legacy.import', 'legacy.delete', 'legacy.leak',
			'member.role', 'member.update', 'member.remove',
			'org.plan', 'org.update', 'org.remove', 'limit.change'])),
	org_id text COLLATE "C",
	suffix text COLLATE "C",
	owner_id text COLLATE "C",
	name text,
	level @extschema@.apikey_level,
	actor_kind text COLLATE "C" NOT NULL
		CONSTRAINT apikey_event_actor_kind_check CHECK (actor_kind OPERATOR(pg_catalog.=)
			ANY (ARRAY['member', 'key', 'role', 'worker'])),
	actor_id text COLLATE "C",
	db_role name NOT NULL,
	client_addr inet,
	changes jsonb,
	CONSTRAINT apikey_event_pkey PRIMARY KEY (xid, event_id)
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
ALTER SEQUENCE apikeys_private.apikey_event_id_seq OWNED BY apikeys_private.apikey_event.event_id;
-- So that it goes with the tables to another owner. Not a column of events, lest
-- TRUNCATE ... RESTART IDENTITY make transactions that go on write in another order
-- than those that begin.
ALTER SEQUENCE apikeys_private.apikey_xid_offset OWNED BY apikeys_private.apikey_capability.capability;
COMMENT ON TABLE apikeys_private.apikey_event IS
'What happened, and who did it: see view apikeys_history and apikey_feed(). Without foreign keys: it outlives what it tells of.';
COMMENT ON COLUMN apikeys_private.apikey_event.xid IS
'The transaction that wrote the event: its number, and apikey_xid_offset.';
COMMENT ON COLUMN apikeys_private.apikey_event.at IS
'The clock when it happened, which is before its commit.';
COMMENT ON COLUMN apikeys_private.apikey_event.owner_id IS
'The owner of the key; or the member that the event is about.';
COMMENT ON COLUMN apikeys_private.apikey_event.actor_id IS
'The user_id of a member, the suffix of a key (NULL for a legacy key), the name of a role.';
COMMENT ON COLUMN apikeys_private.apikey_event.db_role IS
'The database role of the session, whatever functions it was in.';
COMMENT ON COLUMN apikeys_private.apikey_event.client_addr IS
'The client address of the session; NULL if local.';
COMMENT ON COLUMN apikeys_private.apikey_event.changes IS
'For each column that changed, {"old": ..., "new": ...}.';

CREATE INDEX apikey_event_org_id_at_event_id_idx ON apikeys_private.apikey_event (org_id, at, event_id);
COMMENT ON INDEX apikeys_private.apikey_event_org_id_at_event_id_idx IS
'For an organization''s newest events.';
CREATE INDEX apikey_event_org_id_owner_id_at_event_id_idx ON apikeys_private.apikey_event (org_id, owner_id, at, event_id);
COMMENT ON INDEX apikeys_private.apikey_event_org_id_owner_id_at_event_id_idx IS
'For a member''s own events, without a look at those of others.';
CREATE INDEX apikey_event_suffix_org_id_idx ON apikeys_private.apikey_event (suffix, org_id);
COMMENT ON INDEX apikeys_private.apikey_event_suffix_org_id_idx IS
'For all that happened to a key.';

CREATE TABLE apikeys_private.apikey_seal (
	seal_id bigint NOT NULL,
	sealed_at timestamptz NOT NULL,
	xid bigint NOT NULL,
	event_id bigint NOT NULL,
	events bigint NOT NULL,
	events_hash bytea NOT NULL,
	seal bytea NOT NULL,
	pruned bigint NOT NULL DEFAULT 0,
	pruned_hash bytea,
	CONSTRAINT apikey_seal_pkey PRIMARY KEY (seal_id)
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
COMMENT ON TABLE apikeys_private.apikey_seal IS
'The chain of seals over the events, in the order of apikey_feed(): see apikey_seal_history() and apikey_verify_history(). What is hashed is told by doc/history.md.';
COMMENT ON COLUMN apikeys_private.apikey_seal.xid IS
'With event_id, the last event that the seal covers.';
COMMENT ON COLUMN apikeys_private.apikey_seal.pruned IS
'How many of its events have been pruned, the first of them.';
COMMENT ON COLUMN apikeys_private.apikey_seal.pruned_hash IS
'The hash over the pruned events, from which the others'' goes on.';

SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_event', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_seal', '');

-- Of an expression that is not leakproof, so that no condition of a reader's is
-- asked of it before the policies are.
CREATE INDEX apikey_key_expires_at_idx ON apikeys_private.apikey_key (pg_catalog.timezone('UTC', expires_at))
	WHERE pg_catalog.timezone('UTC', expires_at) IS NOT NULL;
COMMENT ON INDEX apikeys_private.apikey_key_expires_at_idx IS
'For the worker that warns of keys which are about to expire.';

-- ----- writing -----

CREATE FUNCTION apikeys_private.apikey_record_change()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_record_change() IS
'Trigger: writes an event for what has happened to a row. Rows that say they were created before the transaction, as a restore brings them, are none. See setting apikeys.history.';

-- Not under session_replication_role = replica, nor where a subscription applies.
CREATE TRIGGER apikey_record AFTER INSERT OR UPDATE OR DELETE ON apikeys_private.apikey_org
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record ON apikeys_private.apikey_org IS 'See apikey_record_change().';
CREATE TRIGGER apikey_record_truncate AFTER TRUNCATE ON apikeys_private.apikey_org
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record_truncate ON apikeys_private.apikey_org IS 'See apikey_record_change().';

CREATE TRIGGER apikey_record AFTER INSERT OR UPDATE OR DELETE ON apikeys_private.apikey_member
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record ON apikeys_private.apikey_member IS 'See apikey_record_change().';
CREATE TRIGGER apikey_record_truncate AFTER TRUNCATE ON apikeys_private.apikey_member
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record_truncate ON apikeys_private.apikey_member IS 'See apikey_record_change().';

CREATE TRIGGER apikey_record AFTER INSERT OR UPDATE OR DELETE ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record ON apikeys_private.apikey_key IS 'See apikey_record_change().';
CREATE TRIGGER apikey_record_truncate AFTER TRUNCATE ON apikeys_private.apikey_key
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record_truncate ON apikeys_private.apikey_key IS 'See apikey_record_change().';

CREATE TRIGGER apikey_record AFTER INSERT OR UPDATE OR DELETE ON apikeys_private.apikey_legacy
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record ON apikeys_private.apikey_legacy IS 'See apikey_record_change().';
CREATE TRIGGER apikey_record_truncate AFTER TRUNCATE ON apikeys_private.apikey_legacy
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_record_change();
COMMENT ON TRIGGER apikey_record_truncate ON apikeys_private.apikey_legacy IS 'See apikey_record_change().';

-- ----- reading -----

ALTER TABLE apikeys_private.apikey_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_seal ENABLE ROW LEVEL SECURITY;

-- Events of legacy keys, members and organizations have no owner's key.
CREATE POLICY apikey_see ON apikeys_private.apikey_event FOR SELECT TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_visible_org(), true)
		AND CASE WHEN org_id OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org())
			THEN true
			ELSE suffix IS NOT NULL AND (org_id, owner_id) OPERATOR(pg_catalog.=)
				(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s)
			END);
COMMENT ON POLICY apikey_see ON apikeys_private.apikey_event IS 'Members see what happened to their own keys, admins all of the organization, others nothing.';

-- No estimates, as of the tables of keys.
ALTER TABLE apikeys_private.apikey_event
	ALTER COLUMN event_id SET STATISTICS 0,
	ALTER COLUMN at SET STATISTICS 0,
	ALTER COLUMN kind SET STATISTICS 0,
	ALTER COLUMN org_id SET STATISTICS 0,
	ALTER COLUMN suffix SET STATISTICS 0,
	ALTER COLUMN owner_id SET STATISTICS 0,
	ALTER COLUMN name SET STATISTICS 0,
	ALTER COLUMN level SET STATISTICS 0,
	ALTER COLUMN actor_kind SET STATISTICS 0,
	ALTER COLUMN actor_id SET STATISTICS 0,
	ALTER COLUMN db_role SET STATISTICS 0,
	ALTER COLUMN client_addr SET STATISTICS 0,
	ALTER COLUMN changes SET STATISTICS 0;

CREATE FUNCTION apikeys_private.apikey_before_events()
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 2000;
COMMENT ON FUNCTION apikeys_private.apikey_before_events() IS
'No more than the number of any event. For view apikeys_history, where its cost counts: a scan of the index that has the events in order asks it once, and any other scan, as PostgreSQL reckons, for each row.';

-- Each branch has the order of its index, which PostgreSQL merges for whoever
-- wants the newest first. It plans a branch as if all rows of it were wanted, and
-- would rather collect and sort them: hence apikey_before_events(). A member's
-- events are found before a condition of the reader's is asked (OFFSET 0), as in
-- the views of keys.
CREATE VIEW @extschema@.apikeys_history
WITH (security_invoker = true, security_barrier = true) AS
	SELECT a.event_id, a.at, a.kind, a.org_id, a.suffix, a.owner_id, a.name, a.level,
		a.actor_kind, a.actor_id, a.db_role, a.client_addr, a.changes
	FROM (SELECT e.event_id, e.at, e.kind, e.org_id, e.suffix, e.owner_id, e.name, e.level,
			e.actor_kind, e.actor_id, e.db_role, e.client_addr, e.changes
		FROM apikeys_private.apikey_event e
		WHERE (SELECT apikeys_private.apikey_sees_others())
			AND e.event_id OPERATOR(pg_catalog.>=) apikeys_private.apikey_before_events()
		ORDER BY e.at DESC, e.event_id DESC) a
	UNION ALL
	SELECT m.event_id, m.at, m.kind, m.org_id, m.suffix, m.owner_id, m.name, m.level,
		m.actor_kind, m.actor_id, m.db_role, m.client_addr, m.changes
	FROM (SELECT e.event_id, e.at, e.kind, e.org_id, e.suffix, e.owner_id, e.name, e.level,
			e.actor_kind, e.actor_id, e.db_role, e.client_addr, e.changes
		FROM apikeys_private.apikey_event e
		WHERE e.suffix IS NOT NULL AND (e.org_id, e.owner_id) OPERATOR(pg_catalog.=)
			(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s)
		ORDER BY e.at DESC, e.event_id DESC
		OFFSET 0) m
	WHERE NOT (SELECT apikeys_private.apikey_sees_others());
COMMENT ON VIEW @extschema@.apikeys_history IS
'What happened, as far as the principal may see it: an admin all of the organization, a member what happened to its own keys. The newest of it: ORDER BY at DESC.';

CREATE FUNCTION @extschema@.apikey_feed(after text DEFAULT NULL, max integer DEFAULT 1000)
RETURNS TABLE ("position" text, event_id bigint, at timestamptz, kind text, org_id text, suffix text, owner_id text, name text, level @extschema@.apikey_level, actor_kind text, actor_id text, db_role name, client_addr inet, changes jsonb)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1000;
COMMENT ON FUNCTION @extschema@.apikey_feed(text, integer) IS
'Events of all organizations behind a position, or from the first one, at most so many: in an order in which nothing can later appear before what was read. Go on from the last position. Events wait until all transactions that began before theirs ended have ended. Errors: 22023 for what is no position and for less than one row, 22004 for NULL as the most.';

-- ----- seals -----

CREATE FUNCTION @extschema@.apikey_seal_history()
RETURNS bytea
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_seal_history() IS
'Seals all events that apikey_feed() shows and that are not sealed yet. Returns the last seal, which covers all before it: keep it where nobody who can change the database can change it. NULL if there has been no event. Where the library is preloaded, events are sealed in the background.';

CREATE FUNCTION @extschema@.apikey_verify_history(seal bytea DEFAULT NULL, OUT ok boolean, OUT detail text)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_verify_history(bytea) IS
'Are all sealed events, but those that were pruned, as they were when they were sealed? Given a seal that was kept: and is that in the chain? What is amiss, and how much is not sealed, is in the detail.';

CREATE FUNCTION @extschema@.apikey_prune_history(before timestamptz)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_prune_history(timestamptz) IS
'Seals the history, then deletes its beginning: the sealed events up to the first that is not before the time. What is left can still be verified. Returns how many were deleted. Error 22004 for NULL.';
