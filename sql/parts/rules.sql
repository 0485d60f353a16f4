--
-- Rules that hold for whoever changes the tables, and what a change entails
--

CREATE FUNCTION apikeys_private.apikey_guard_org()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_guard_org() IS
'Trigger: a plan cannot leave enterprise while members have role architect. Error 55000.';

CREATE FUNCTION apikeys_private.apikey_guard_member()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_guard_member() IS
'Trigger: role architect exists only on plan enterprise (error 55000); the organization must exist (42704); not every role can be a database role (22023). Stores the role''s OID.';

CREATE FUNCTION apikeys_private.apikey_db_role_fault(role oid)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_db_role_fault(oid) IS
'Why a role cannot be a member''s database role; NULL if it can. Error 22004 for NULL.';

CREATE FUNCTION apikeys_private.apikey_guard_key()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_guard_key() IS
'Trigger: the owner''s role (error 42501) and the plan (55000) must allow a key''s level when it is created or raised. Rows with an earlier created_at, as a restore brings them, are taken as they are. Whoever is subject to row-level security can insert none, and change name, level and expires_at only (42501).';

CREATE FUNCTION apikeys_private.apikey_announce_change()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_announce_change() IS
'Trigger: makes every backend, here and on standbys, forget what it knows of keys, and the commit of what takes something away wait for synchronous standbys: see setting apikeys.revoke_remote_apply.';

CREATE FUNCTION apikeys_private.apikey_carry_along()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_carry_along() IS
'Trigger: does what the foreign keys would do, where session_replication_role = replica disables them.';

CREATE TRIGGER apikey_guard BEFORE UPDATE OF plan ON apikeys_private.apikey_org
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_guard_org();
COMMENT ON TRIGGER apikey_guard ON apikeys_private.apikey_org IS 'See apikey_guard_org().';

CREATE TRIGGER apikey_guard BEFORE INSERT OR UPDATE ON apikeys_private.apikey_member
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_guard_member();
COMMENT ON TRIGGER apikey_guard ON apikeys_private.apikey_member IS 'See apikey_guard_member().';

CREATE TRIGGER apikey_guard BEFORE INSERT OR UPDATE ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_guard_key();
COMMENT ON TRIGGER apikey_guard ON apikeys_private.apikey_key IS 'See apikey_guard_key().';

CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON apikeys_private.apikey_key
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change();
COMMENT ON TRIGGER apikey_announce ON apikeys_private.apikey_key IS 'See apikey_announce_change().';

CREATE TRIGGER apikey_announce_truncate AFTER TRUNCATE ON apikeys_private.apikey_key
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_announce_change();
COMMENT ON TRIGGER apikey_announce_truncate ON apikeys_private.apikey_key IS 'See apikey_announce_change().';

CREATE TRIGGER apikey_announce AFTER UPDATE OR DELETE ON apikeys_private.apikey_legacy
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_announce_change();
COMMENT ON TRIGGER apikey_announce ON apikeys_private.apikey_legacy IS 'See apikey_announce_change().';

CREATE TRIGGER apikey_announce_truncate AFTER TRUNCATE ON apikeys_private.apikey_legacy
	FOR EACH STATEMENT EXECUTE FUNCTION apikeys_private.apikey_announce_change();
COMMENT ON TRIGGER apikey_announce_truncate ON apikeys_private.apikey_legacy IS 'See apikey_announce_change().';

CREATE TRIGGER apikey_carry AFTER UPDATE OR DELETE ON apikeys_private.apikey_org
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_carry_along();
COMMENT ON TRIGGER apikey_carry ON apikeys_private.apikey_org IS 'See apikey_carry_along().';

CREATE TRIGGER apikey_carry AFTER UPDATE OR DELETE ON apikeys_private.apikey_member
	FOR EACH ROW EXECUTE FUNCTION apikeys_private.apikey_carry_along();
COMMENT ON TRIGGER apikey_carry ON apikeys_private.apikey_member IS 'See apikey_carry_along().';

-- The rules hold for whoever replicates, too; what foreign keys do is needed where
-- they do not act.
ALTER TABLE apikeys_private.apikey_org ENABLE ALWAYS TRIGGER apikey_guard, ENABLE REPLICA TRIGGER apikey_carry;
ALTER TABLE apikeys_private.apikey_member ENABLE ALWAYS TRIGGER apikey_guard, ENABLE REPLICA TRIGGER apikey_carry;
ALTER TABLE apikeys_private.apikey_key ENABLE ALWAYS TRIGGER apikey_guard, ENABLE ALWAYS TRIGGER apikey_announce, ENABLE ALWAYS TRIGGER apikey_announce_truncate;
ALTER TABLE apikeys_private.apikey_legacy ENABLE ALWAYS TRIGGER apikey_announce, ENABLE ALWAYS TRIGGER apikey_announce_truncate;
