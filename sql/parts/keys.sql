--
-- What members do with keys
--

CREATE FUNCTION @extschema@.apikey_create(name text, level @extschema@.apikey_level DEFAULT 'standard', expires_at timestamptz DEFAULT 'infinity')
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_create(text, @extschema@.apikey_level, timestamptz) IS
'Creates a key of the principal and returns its value, this once. Name: 1 to 100 characters. Errors: 28000 without a principal, 42501 if its role does not allow the level, 55000 for level architect off plan enterprise, 22023 for a bad name or an expiry in the past, 22004 for NULL.';

CREATE FUNCTION @extschema@.apikey_update(suffix text, name text DEFAULT NULL, level @extschema@.apikey_level DEFAULT NULL, expires_at timestamptz DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_update(text, text, @extschema@.apikey_level, timestamptz) IS
'Changes name, level or expiry of one of the principal''s own keys; NULL leaves it. The value stays the same. Errors: as apikey_create(), and P0002 if there is no such key of its own.';

CREATE FUNCTION @extschema@.apikey_rotate(suffix text, overlap interval DEFAULT '0')
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_rotate(text, interval) IS
'Returns a new value under the name, level and expiry of one of the principal''s own keys, which itself expires after the overlap. Errors: as apikey_create(); P0002 if there is no such key of its own, 22023 if it has expired or the overlap is negative.';

CREATE FUNCTION @extschema@.apikey_delete(suffix text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_delete(text) IS
'Deletes one of the principal''s own keys, or for an admin any of the organization. Errors: P0002 if there is no such key, 28000 without a principal, 42501 for a guest or a key.';

CREATE FUNCTION @extschema@.apikey_delete_all(user_id text)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_delete_all(text) IS
'Deletes all keys of a member of the admin''s organization; returns how many. Errors: 42501 if not an admin, 42704 if there is no such member.';

CREATE FUNCTION @extschema@.apikey_delete_legacy()
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_delete_legacy() IS
'Deletes the legacy key of the admin''s organization. Errors: 42501 if not an admin, P0002 if there is none.';
