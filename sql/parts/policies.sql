--
-- Row-level security: who sees, changes and deletes which keys
--
-- The subselects make the planner ask once for each statement, and let it use
-- the indexes, which all begin with org_id. They may be asked at different
-- moments, between which a statement can change its principal (by setting the
-- role, say): so each says something that is true by itself, whom it is about
-- included. CASE and not OR, which would tempt the planner to combine two index
-- scans where one of them gives the order that a list is wanted in.
--
-- The "true" beside the organization is the cheapest of all conditions of a scan,
-- so PostgreSQL checks it first, and so asks the function before it looks at any
-- row. Without it, a leakproof condition of the reader's could come first, and
-- EXPLAIN ANALYZE would say "never executed" of the function if no row of anybody
-- met that condition: an admin could try out what other organizations have.
--

ALTER TABLE apikeys_private.apikey_org ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_legacy ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_capability ENABLE ROW LEVEL SECURITY;
ALTER TABLE apikeys_private.apikey_usage ENABLE ROW LEVEL SECURITY;

CREATE POLICY apikey_see ON apikeys_private.apikey_key FOR SELECT TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_visible_org(), true)
		AND CASE WHEN org_id OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org())
			THEN true
			ELSE (org_id, owner_id) OPERATOR(pg_catalog.=)
				(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s)
			END);
COMMENT ON POLICY apikey_see ON apikeys_private.apikey_key IS 'Members see their own keys, admins all of the organization, others none.';

CREATE POLICY apikey_change ON apikeys_private.apikey_key FOR UPDATE TO PUBLIC USING (
		(org_id, owner_id) OPERATOR(pg_catalog.=)
			(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s));
COMMENT ON POLICY apikey_change ON apikeys_private.apikey_key IS 'Members change their own keys, and cannot give them away.';

CREATE POLICY apikey_delete ON apikeys_private.apikey_key FOR DELETE TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_visible_org(), true)
		AND CASE WHEN org_id OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org())
			THEN true
			ELSE (org_id, owner_id) OPERATOR(pg_catalog.=)
				(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s)
			END);
COMMENT ON POLICY apikey_delete ON apikeys_private.apikey_key IS 'Members delete their own keys, admins any of the organization.';

CREATE POLICY apikey_see ON apikeys_private.apikey_legacy FOR SELECT TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org(), true));
COMMENT ON POLICY apikey_see ON apikeys_private.apikey_legacy IS 'Admins see the legacy key of the organization.';

CREATE POLICY apikey_delete ON apikeys_private.apikey_legacy FOR DELETE TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org(), true));
COMMENT ON POLICY apikey_delete ON apikeys_private.apikey_legacy IS 'Admins delete the legacy key of the organization.';

CREATE POLICY apikey_see ON apikeys_private.apikey_member FOR SELECT TO PUBLIC USING (
		(org_id, true) OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_visible_org(), true)
		AND CASE WHEN org_id OPERATOR(pg_catalog.=) (SELECT apikeys_private.apikey_admin_org())
			THEN true
			ELSE (org_id, user_id) OPERATOR(pg_catalog.=)
				(SELECT s.org_id, s.user_id FROM apikeys_private.apikey_own_seat() s)
			END);
COMMENT ON POLICY apikey_see ON apikeys_private.apikey_member IS 'Members see themselves, admins all of the organization: what the lists of keys show of their owners.';

-- EXPLAIN shows estimates to whoever may read a column, whatever the policies,
-- and they come from samples of all rows: by asking for one range after the
-- other, anybody could read email addresses out of them. So there are none.
ALTER TABLE apikeys_private.apikey_key ALTER COLUMN @shown@ SET STATISTICS 0;
ALTER TABLE apikeys_private.apikey_legacy
	ALTER COLUMN org_id SET STATISTICS 0,
	ALTER COLUMN created_at SET STATISTICS 0;
ALTER TABLE apikeys_private.apikey_member
	ALTER COLUMN org_id SET STATISTICS 0,
	ALTER COLUMN user_id SET STATISTICS 0,
	ALTER COLUMN email SET STATISTICS 0;
