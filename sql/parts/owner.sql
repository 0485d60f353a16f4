--
-- What the owner does
--

CREATE FUNCTION @extschema@.apikey_import_legacy(org_id text, key text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_import_legacy(text, text) IS
'Stores the digest of an organization''s legacy key of 16 to 255 printable ASCII characters that has not the shape of a native value. Errors: 22023 for another text, 42704 if there is no such organization, 23505 if it has a legacy key already or the key is in use.';

CREATE FUNCTION @extschema@.apikey_install_capabilities()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	WITH added AS (
		INSERT INTO apikeys_private.apikey_capability (capability, level, description)
		VALUES
			('send_events', 'standard', 'send events'),
			('send_users', 'standard', 'send users'),
			('list_sessions', 'standard', 'list sessions'),
			('view_recording_settings', 'standard', 'view the settings of recording'),
			('manage_async_operations', 'standard', 'follow and cancel asynchronous operations'),
			('view_user_data', 'architect', 'view the data of a user'),
			('export_user_data', 'architect', 'export the data of a user'),
			('delete_user_data', 'architect', 'delete the data of a user'),
			('access_privacy_settings', 'architect', 'view and change settings of privacy'),
			('search_exports', 'architect', 'export the results of searches'),
			('raw_data_exports', 'architect', 'export raw data'),
			('manage_extraction_rules', 'architect', 'view and change rules of extraction'),
			('create_block_rules', 'admin', 'create rules that block recording'),
			('update_block_rules', 'admin', 'change rules that block recording'),
			('delete_block_rules', 'admin', 'delete rules that block recording')
		ON CONFLICT (capability) DO NOTHING
		RETURNING 1
	)
	SELECT pg_catalog.count(*) FROM added;
END;
COMMENT ON FUNCTION @extschema@.apikey_install_capabilities() IS
'Adds the capabilities of the server API that levels come from, and leaves those that are there. Returns how many were added.';

CREATE FUNCTION @extschema@.apikey_grant_application(role regrole)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_grant_application(regrole) IS
'Grants a role the functions that an application needs. Errors: 42704 if there is no such role, 22004 for NULL.';
