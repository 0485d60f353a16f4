--
-- Who may use what
--

-- The only place where privileges are given: whatever is not listed is the
-- owner's. "PUBLIC" is everybody, "application" whoever is named to
-- apikey_grant_application(). Nothing in the script grants or revokes by itself.
CREATE FUNCTION apikeys_private.apikey_grants()
RETURNS TABLE (grantee text, privilege text, object text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT g.grantee, g.privilege, o.object
	FROM (VALUES
		('PUBLIC', 'USAGE', '{type apikey_plan, type apikey_role, type apikey_level, type apikey_identity}'),
		-- Columns only, and never the digest or key_id.
		('PUBLIC', 'SELECT', '{
			apikey_key.@shown@,
			apikey_legacy.org_id, apikey_legacy.created_at,
			apikey_member.org_id, apikey_member.user_id, apikey_member.email,
			apikey_event.event_id, apikey_event.at, apikey_event.kind, apikey_event.org_id,
			apikey_event.suffix, apikey_event.owner_id, apikey_event.name, apikey_event.level,
			apikey_event.actor_kind, apikey_event.actor_id, apikey_event.db_role,
			apikey_event.client_addr, apikey_event.changes}'),
		('PUBLIC', 'SELECT', '{apikey_shown, apikeys, apikeys_mine, apikeys_legacy, apikeys_history}'),
		('PUBLIC', 'EXECUTE', '{apikey_suffix(), apikey_is_wellformed(), apikey_pattern(), apikey_scanner_rule(),
			apikey_digest_suffix(), apikey_is_id(), apikey_is_name(),
			apikey_to_@enum@(),
			apikey_current_org(), apikey_current_user(), apikey_current_role(),
			apikey_current_level(), apikey_current_suffix(), apikey_allows(),
			apikey_visible_org(), apikey_admin_org(), apikey_own_seat(), apikey_sees_others(), apikey_before_events(),
			apikey_usage_of(), apikey_page(), apikey_checked_interval(), apikey_unused(), apikey_expiring(),
			apikey_create(), apikey_update(), apikey_rotate(),
			apikey_delete(), apikey_delete_all(), apikey_delete_legacy()}'),
		('application', 'EXECUTE', '{apikey_verify(), apikey_check_level(), apikey_check(),
			apikey_me(), apikey_inspect(), apikey_find(), apikey_act_as(), apikey_authenticate(),
			apikey_save_org(), apikey_remove_org(), apikey_save_member(), apikey_remove_member(),
			apikey_feed()}'),
		('pg_monitor', 'SELECT', '{apikey_stats}'),
		('pg_monitor', 'EXECUTE', '{apikey_stats_read()}'))
		AS g (grantee, privilege, objects),
		unnest(g.objects::text[]) o (object);
END;
COMMENT ON FUNCTION apikeys_private.apikey_grants() IS
'Who is granted what on the extension''s objects; what is not listed is the owner''s alone. Applied by the install script and apikey_grant_application(), compared by apikey_selfcheck().';

CREATE FUNCTION apikeys_private.apikey_members()
RETURNS TABLE (classid oid, objid oid)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.classid, d.objid
	FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'apikeys';
END;
COMMENT ON FUNCTION apikeys_private.apikey_members() IS
'The objects that belong to the extension.';

CREATE FUNCTION apikeys_private.apikey_privileges()
RETURNS TABLE (classid oid, objid oid, object text, target text, owner oid, acl aclitem[])
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
BEGIN ATOMIC
	WITH member AS (
		SELECT * FROM apikeys_private.apikey_members()
	), relation AS (
		SELECT c.*, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass AS identity
		FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
		WHERE c.relkind <> 'c'
	)
	SELECT 'pg_class'::regclass::oid, c.oid, c.relname::text, ' ON ' || c.identity, c.relowner,
		coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
	FROM relation c
	UNION ALL
	SELECT NULL AS classid, NULL AS objid, c.relname || '.' || a.attname,
		' (' || quote_ident(a.attname) || ') ON ' || c.identity, c.relowner, a.attacl
	FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
	UNION ALL
	SELECT m.classid, m.objid, p.proname || '()', ' ON ROUTINE ' || p.oid::regprocedure, p.proowner,
		coalesce(p.proacl, acldefault('f', p.proowner))
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	UNION ALL
	-- those of arrays and of tables' rows are members since PostgreSQL 17
	SELECT m.classid, m.objid, 'type ' || t.typname, ' ON TYPE ' || t.oid::regtype, t.typowner,
		coalesce(t.typacl, acldefault('T', t.typowner))
	FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
		LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c'
	UNION ALL
	SELECT m.classid, m.objid, 'schema ' || n.nspname, ' ON SCHEMA ' || quote_ident(n.nspname), n.nspowner,
		coalesce(n.nspacl, acldefault('n', n.nspowner))
	FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid;
END;
COMMENT ON FUNCTION apikeys_private.apikey_privileges() IS
'The extension''s objects on which privileges can be granted, by their names in apikey_grants(); target is what follows a privilege in GRANT and REVOKE.';

CREATE FUNCTION apikeys_private.apikey_grant_differences(keep_application boolean)
RETURNS TABLE (object text, privilege text, grantee text, missing boolean, statement text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH object AS MATERIALIZED (
		SELECT * FROM apikeys_private.apikey_privileges()
	), granted AS (
		SELECT o.object, o.target, a.privilege_type AS privilege, bool_or(a.is_grantable) AS grantable,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
		FROM object o, aclexplode(o.acl) a WHERE a.grantee <> o.owner
		GROUP BY o.object, o.target, a.privilege_type, a.grantee
	), wanted AS (
		SELECT w.*, o.target
		FROM apikeys_private.apikey_grants() w LEFT JOIN object o USING (object)
	), difference AS (
		SELECT object, privilege, grantee, g.object IS NULL AS missing, g.grantable,
			coalesce(g.target, w.target) AS target,
			w.object IS NOT NULL OR (keep_application AND grantee <> 'PUBLIC'
				AND (object, privilege, 'application') IN
					(SELECT a.object, a.privilege, a.grantee FROM wanted a)) AS allowed
		FROM granted g
			FULL JOIN (SELECT * FROM wanted WHERE grantee <> 'application') w USING (object, privilege, grantee)
	)
	SELECT d.object, d.privilege, d.grantee, d.missing,
		CASE WHEN d.missing THEN 'GRANT ' WHEN d.allowed THEN 'REVOKE GRANT OPTION FOR ' ELSE 'REVOKE ' END
			|| d.privilege || d.target
			|| CASE WHEN d.missing THEN ' TO ' || d.grantee ELSE ' FROM ' || d.grantee || ' CASCADE' END
	FROM difference d WHERE d.missing OR d.grantable OR NOT d.allowed;
END;
COMMENT ON FUNCTION apikeys_private.apikey_grant_differences(boolean) IS
'Privileges on what belongs to the extension that differ from apikey_grants(), and the statements that mend it (NULL where a listed object is not there). What applications were granted is left out if told so.';

CREATE FUNCTION apikeys_private.apikey_apply_grants(keep_application boolean)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_apply_grants(boolean) IS
'Grants and revokes what apikey_grant_differences() tells. Returns how much that was. Error 22004 for NULL.';

-- The role is written as it is quoted. USAGE is not granted again to who has it.
CREATE FUNCTION apikeys_private.apikey_application_grants(role regrole)
RETURNS TABLE (statement text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'GRANT ' || g.privilege || p.target || ' TO ' || role::text
	FROM apikeys_private.apikey_grants() g LEFT JOIN apikeys_private.apikey_privileges() p USING (object)
	WHERE g.grantee = 'application'
	UNION ALL
	SELECT 'GRANT USAGE ON SCHEMA ' || quote_ident(n.nspname) || ' TO ' || role::text
	FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
	WHERE e.extname = 'apikeys' AND NOT has_schema_privilege(role::oid, n.oid, 'USAGE');
END;
COMMENT ON FUNCTION apikeys_private.apikey_application_grants(regrole) IS
'The statements by which apikey_grant_application() grants.';

-- Whoever owns an extension can drop it, and with CASCADE all that needs it.
CREATE FUNCTION apikeys_private.apikey_foreign_owners()
RETURNS TABLE (object text, owner text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT o.object, o.owner::regrole::text
	FROM pg_class c, (
			SELECT 'extension ' || e.extname, e.extowner
			FROM pg_extension e WHERE e.extname IN ('apikeys', 'pgcrypto')
			UNION
			-- whoever owns the database can drop more than a schema
			SELECT 'schema ' || quote_ident(n.nspname), n.nspowner
			FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
				JOIN pg_database d ON d.datname = current_database()
			WHERE e.extname IN ('apikeys', 'pgcrypto') AND n.nspowner <> d.datdba
				AND pg_get_userbyid(n.nspowner) <> 'pg_database_owner'
		) AS o (object, owner)
		LEFT JOIN pg_roles r ON r.oid = o.owner
	WHERE c.oid = 'apikeys_private.apikey_key'::regclass AND o.owner <> c.relowner AND r.rolsuper IS NOT TRUE;
END;
COMMENT ON FUNCTION apikeys_private.apikey_foreign_owners() IS
'What the extension cannot be without and is owned by a role that is neither a superuser nor the owner of the tables: that role can drop everything.';

CREATE FUNCTION apikeys_private.apikey_require_own_pgcrypto()
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apikeys_private.apikey_require_own_pgcrypto() IS
'Error 55000 if extension pgcrypto is told by apikey_foreign_owners(). For the install script.';

SELECT apikeys_private.apikey_require_own_pgcrypto();
