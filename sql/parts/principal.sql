--
-- The principal
--

CREATE FUNCTION @extschema@.apikey_current_org()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_current_org() IS
'The organization of the principal; NULL without one.';

CREATE FUNCTION @extschema@.apikey_current_user()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_current_user() IS
'The user of the principal: the member, or the owner of the presented key; NULL without a principal and for a legacy key.';

CREATE FUNCTION @extschema@.apikey_current_role()
RETURNS @extschema@.apikey_role
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_current_role() IS
'The role of the member that is the principal; NULL for a key and without a principal.';

CREATE FUNCTION @extschema@.apikey_current_level()
RETURNS @extschema@.apikey_level
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_current_level() IS
'The level of the principal: of the member''s role (NULL for a guest) or of the presented key; NULL without a principal. For policies on tables of your own.';

CREATE FUNCTION @extschema@.apikey_current_suffix()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_current_suffix() IS
'The suffix of the key that is the principal; NULL for a member and a legacy key.';

CREATE FUNCTION @extschema@.apikey_allows(capability text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_allows(text) IS
'Does the principal''s level reach what the capability needs? False without a principal. Error 42704 if there is no such capability, 22004 for NULL.';

CREATE FUNCTION apikeys_private.apikey_visible_org()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_visible_org() IS
'The organization in which the principal may see and delete keys; NULL if it may nowhere. For policies.';

CREATE FUNCTION apikeys_private.apikey_admin_org()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_admin_org() IS
'The organization all of whose keys the principal may see and delete; NULL if it is not an admin. For policies.';

CREATE FUNCTION apikeys_private.apikey_own_seat(OUT org_id text, OUT user_id text)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_own_seat() IS
'The member whose own keys the principal may see, change and delete; NULL twice if there is none. For policies.';
