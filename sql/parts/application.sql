--
-- What the application does: verify, and act for others
--

CREATE FUNCTION @extschema@.apikey_verify(key text)
RETURNS SETOF apikeys_private.apikey_identity
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION @extschema@.apikey_verify(text) IS
'One row for a live key, none otherwise. Reads the latest committed state at every isolation level.';

CREATE FUNCTION @extschema@.apikey_check_level(key text, required @extschema@.apikey_level)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_check_level(text, @extschema@.apikey_level) IS
'Is the key alive, and its level at least the required one? Never NULL; false for a NULL key, error 22004 for a NULL level. Reads the latest committed state at every isolation level.';

CREATE FUNCTION @extschema@.apikey_check(key text, capability text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_check(text, text) IS
'Is the key alive, and does its level reach what the capability needs? Never NULL; false for a NULL key. Errors: 42704 if there is no such capability, 22004 if it is NULL.';

CREATE FUNCTION @extschema@.apikey_me(key text)
RETURNS json
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_me(text) IS
'The body of GET /me for a live key: {"email": ..., "orgId": ..., "role": "USER", "ARCHITECT" or "ADMIN"}; the email is empty for a legacy key. NULL for a dead one.';

CREATE FUNCTION @extschema@.apikey_inspect(key text, OUT status text, OUT org_id text, OUT user_id text, OUT level @extschema@.apikey_level, OUT name text, OUT suffix text, OUT legacy boolean, OUT created_at timestamptz, OUT expires_at timestamptz, OUT deleted_at timestamptz, OUT deleted_by text
	, OUT @shown_last@ apikeys_private.apikey_key.@shown_last@%TYPE
)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_inspect(text) IS
'For support: status (active, expired, deleted, unknown, mangled or malformed) of what somebody presented, and what is known of it. Mangled is a text that is no value but holds one, or is the beginning of one. Of a deleted key that is since when and by whom, for as long as history tells: it is found by its suffix.';

CREATE FUNCTION @extschema@.apikey_act_as(org_id text, user_id text, session boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_act_as(text, text, boolean) IS
'Makes a member the principal until the transaction ends; with session => true until RESET ALL or DISCARD ALL, which takes a superuser or setting apikeys.session_principal. Errors: 42704 if there is no such member, 22004 for NULL, 25P01 as a statement of its own outside a transaction block, 42501 if the transaction has had a principal set.';

CREATE FUNCTION @extschema@.apikey_authenticate(key text, session boolean DEFAULT false)
RETURNS apikeys_private.apikey_identity
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_authenticate(text, boolean) IS
'Makes the presented key the principal, as apikey_act_as() does a member. Errors: 28P01 if the key is dead, 22004 for NULL, 25P01 as a statement of its own outside a transaction block, 42501 if the transaction has had a principal set.';

CREATE FUNCTION @extschema@.apikey_save_org(org_id text, name text, plan @extschema@.apikey_plan DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_save_org(text, text, @extschema@.apikey_plan) IS
'Inserts or updates an organization; what is NULL stays as it was, and is free for the plan of a new one. Errors: 22023 for a bad identifier, 22004 for NULL where there is nothing yet, 55000 if the plan leaves enterprise while members have role architect.';

CREATE FUNCTION @extschema@.apikey_remove_org(org_id text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_remove_org(text) IS
'Removes an organization with everything in it; its keys stop at commit. Errors: 42704 if there is none, 22004 for NULL.';

CREATE FUNCTION @extschema@.apikey_save_member(org_id text, user_id text, email text, role @extschema@.apikey_role DEFAULT NULL, db_role name DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_save_member(text, text, text, @extschema@.apikey_role, name) IS
'Inserts or updates a member; what is NULL stays as it was, and for a new one is role standard and no database role. Errors: 42704 if there is no such organization, 55000 for role architect off plan enterprise, 22023 for a bad identifier, and for a database role that is a superuser, owns the extension or can execute functions of the application; 22004 for NULL where there is nothing yet.';

CREATE FUNCTION @extschema@.apikey_remove_member(org_id text, user_id text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_remove_member(text, text) IS
'Removes a member; its keys stop at commit. Errors: 42704 if there is none, 22004 for NULL.';
