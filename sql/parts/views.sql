--
-- Views
--

CREATE FUNCTION apikeys_private.apikey_sees_others()
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_sees_others() IS
'Does the caller see others'' keys: as an admin those of the organization, as a superuser or the owner all?';

CREATE FUNCTION apikeys_private.apikey_usage_of(org_id text, suffix text, OUT last_used_at timestamptz, OUT uses bigint)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_usage_of(text, text) IS
'When a key that the caller may see was last used, and how often; the legacy key of the organization if suffix is NULL. NULL if never, if usage is not counted, or if there is no such key to be seen.';

-- The only place that says what the views show of a member's key, and in which
-- order.
--
-- The email address comes from a sub-select, not from a join: without statistics
-- PostgreSQL takes an organization for one of few members, and would read all
-- of them for each key. Usage comes from one with OFFSET 0, which keeps the
-- function from being called once for each of its columns.
CREATE VIEW apikeys_private.apikey_shown
WITH (security_invoker = true) AS
	SELECT 'user'::text AS kind, k.org_id, k.owner_id,
		(SELECT m.email FROM apikeys_private.apikey_member m
		 WHERE m.org_id OPERATOR(pg_catalog.=) k.org_id
			AND m.user_id OPERATOR(pg_catalog.=) k.owner_id) AS owner_email,
		k.name, k.level, k.suffix, k.created_at, k.expires_at,
		(u.usage).last_used_at, (u.usage).uses
		, k.@shown_last@
	FROM apikeys_private.apikey_key k,
		LATERAL (SELECT apikeys_private.apikey_usage_of(k.org_id, k.suffix) AS usage OFFSET 0) u;
COMMENT ON VIEW apikeys_private.apikey_shown IS
'What the other views show of members'' keys.';

-- A member's own keys are found first, and only then is a condition of the
-- reader's asked (OFFSET 0). Otherwise a condition that PostgreSQL calls
-- leakproof would be asked of colleagues' keys before the policy, and EXPLAIN
-- ANALYZE and the statistics of tables would tell how many keys it met.
CREATE VIEW @extschema@.apikeys_mine
WITH (security_invoker = true, security_barrier = true) AS
	SELECT o.*
	FROM apikeys_private.apikey_own_seat() s,
		LATERAL (SELECT k.*
			FROM apikeys_private.apikey_shown k
			WHERE k.org_id OPERATOR(pg_catalog.=) s.org_id
				AND k.owner_id OPERATOR(pg_catalog.=) s.user_id
			OFFSET 0) o;
COMMENT ON VIEW @extschema@.apikeys_mine IS
'The keys of the member that is the principal.';

CREATE VIEW @extschema@.apikeys_legacy
WITH (security_invoker = true, security_barrier = true) AS
	SELECT 'legacy'::text AS kind, l.org_id, NULL::text AS owner_id,
		NULL::text AS owner_email, NULL::text AS name,
		'admin'::@extschema@.apikey_level AS level, NULL::text AS suffix,
		l.created_at, NULL::timestamptz AS expires_at,
		(u.usage).last_used_at, (u.usage).uses
		, (NULL::apikeys_private.apikey_key).@shown_last@
	FROM apikeys_private.apikey_legacy l,
		LATERAL (SELECT apikeys_private.apikey_usage_of(l.org_id, NULL) AS usage OFFSET 0) u
	WHERE (SELECT apikeys_private.apikey_sees_others());
COMMENT ON VIEW @extschema@.apikeys_legacy IS
'The legacy keys that the principal may see.';

-- Who sees others' keys has them from a plain branch, whose conditions use the
-- indexes; for a member it is never executed. The union is a sub-select, for
-- only of those PostgreSQL leaves out columns that are not asked for.
CREATE VIEW @extschema@.apikeys
WITH (security_invoker = true, security_barrier = true) AS
	SELECT a.*
	FROM (SELECT k.*
			FROM apikeys_private.apikey_shown k
			WHERE (SELECT apikeys_private.apikey_sees_others())
			UNION ALL
			SELECT m.*
			FROM @extschema@.apikeys_mine m
			WHERE NOT (SELECT apikeys_private.apikey_sees_others())
			UNION ALL
			SELECT l.*
			FROM @extschema@.apikeys_legacy l) a;
COMMENT ON VIEW @extschema@.apikeys IS
'All keys that the principal may see, legacy ones too.';

CREATE FUNCTION @extschema@.apikey_page(tab text DEFAULT 'all', sort text DEFAULT 'created_at', descending boolean DEFAULT true, size integer DEFAULT 50, after text DEFAULT NULL, search text DEFAULT NULL)
RETURNS TABLE (kind text, org_id text, owner_id text, owner_email text, name text, level @extschema@.apikey_level, suffix text, created_at timestamptz, expires_at timestamptz, last_used_at timestamptz, uses bigint
	, @shown_last@ apikeys_private.apikey_key.@shown_last@%TYPE
	, cursor text)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 50;
COMMENT ON FUNCTION @extschema@.apikey_page(text, text, boolean, integer, text, text) IS
'A page of the keys that the principal may see: the columns of view apikeys, and a cursor, which given as "after" continues behind its row. Tab: all, mine, legacy. Sort: created_at, name, suffix, owner_id, expires_at, last_used_at; what is never comes after all dates, what was never used before them. Size: 1 to 1000 rows. Search: a suffix, a whole value, or a part of name, owner or email in any case. Errors: 22023 for another tab, sort or size and for a cursor that was made for another tab, sort or direction, 22004 for NULL in the first four.';
