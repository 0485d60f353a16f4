--
-- Is everything as it was delivered?
--

CREATE FUNCTION apikeys_private.apikey_library_version()
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_library_version() IS
'The version of the extension that the library was built for.';

-- Not dumped: CREATE EXTENSION records anew what it makes.
CREATE TABLE apikeys_private.apikey_definition (
	object text COLLATE "C" NOT NULL,
	definition text NOT NULL,
	CONSTRAINT apikey_definition_pkey PRIMARY KEY (object)
);
ALTER TABLE apikeys_private.apikey_definition ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE apikeys_private.apikey_definition IS
'How the extension''s objects were defined when they were installed: see apikey_record_definitions() and apikey_selfcheck().';

-- Left out is what maintenance changes: where and how much is stored, by which
-- index a table is clustered, what is known of its rows. Privileges are those
-- of the owner; the others' are in apikey_grants(). The settings make PostgreSQL
-- print everything alike, whoever asks.
CREATE FUNCTION apikeys_private.apikey_definitions()
RETURNS TABLE (object text, definition text)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on
SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET bytea_output = 'hex' SET extra_float_digits = 1
BEGIN ATOMIC
	WITH member AS MATERIALIZED (
		SELECT * FROM apikeys_private.apikey_members()
	), type AS (
		SELECT t.*
		FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	), relation AS MATERIALIZED (
		SELECT c.*
		FROM pg_class c
		WHERE c.oid IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_class'::regclass
			UNION ALL
			SELECT t.typrelid FROM type t
			UNION ALL
			SELECT i.indexrelid
			FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid)
	), part (classid, objid, objsubid, definition) AS (
		SELECT 'pg_class'::regclass::oid, c.oid, 0,
			format(E'persistence %s\naccess method %s\nrow security %s, forced %s\noptions %s, of TOAST %s\nreplica identity %s\nof type %s\ninherits %s\nheirs %s\n',
				c.relpersistence, a.amname, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, t.reloptions,
				c.relreplident, NULLIF(c.reloftype, 0)::regtype,
				(SELECT array_agg(h.inhparent::regclass ORDER BY h.inhseqno) FROM pg_inherits h WHERE h.inhrelid = c.oid),
				(SELECT array_agg(h.inhrelid::regclass ORDER BY h.inhrelid) FROM pg_inherits h WHERE h.inhparent = c.oid))
			|| CASE WHEN i.indexrelid IS NOT NULL
				THEN format(E'index %s\nvalid %s, ready %s, live %s\nreplica identity %s\n', pg_get_indexdef(c.oid),
					i.indisvalid, i.indisready, i.indislive, i.indisreplident)
				WHEN s.seqrelid IS NOT NULL
				THEN format(E'sequence %s\nof %s\n', to_jsonb(s) - 'seqrelid',
					(SELECT array_agg(o.identity)
					 FROM pg_depend d, pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) o
					 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
				ELSE '' END
		FROM relation c LEFT JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
			LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
		UNION ALL
		SELECT 'pg_class'::regclass, a.attrelid, a.attnum,
			format(E'position %s\ntype %s\ncollation %s\nnot null %s\nidentity %s\ngenerated %s\ndefault %s\nstatistics %s\nstorage %s\ncompression %s\noptions %s\n',
				a.attnum, format_type(a.atttypid, a.atttypmod), NULLIF(a.attcollation, 0)::regcollation,
				a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(f.adbin, f.adrelid),
				coalesce(a.attstattarget, -1), a.attstorage, a.attcompression,
				-- a server may note more there for itself
				ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o LIKE E'n\\_distinct%' ORDER BY o))
		FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
		UNION ALL
		-- the names of a foreign key's triggers have OIDs
		SELECT 'pg_constraint'::regclass, k.oid, 0,
			format(E'%s\ntriggers %s\n', pg_get_constraintdef(k.oid),
				(SELECT array_agg(t.tgenabled ORDER BY t.tgfoid)
				 FROM pg_trigger t WHERE t.tgisinternal AND t.tgconstraint = k.oid))
		FROM pg_constraint k
		WHERE k.conrelid IN (SELECT c.oid FROM relation c) OR k.contypid IN (SELECT t.oid FROM type t)
		UNION ALL
		SELECT 'pg_trigger'::regclass, t.oid, 0, format(E'%s\nenabled %s\n', pg_get_triggerdef(t.oid), t.tgenabled)
		FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
		UNION ALL
		SELECT 'pg_rewrite'::regclass, w.oid, 0, format(E'%s\nenabled %s\n', pg_get_ruledef(w.oid), w.ev_enabled)
		FROM pg_rewrite w JOIN relation c ON c.oid = w.ev_class
		UNION ALL
		SELECT 'pg_policy'::regclass, p.oid, 0,
			format(E'permissive %s\ncommand %s\nroles %s\nusing %s\ncheck %s\n', p.polpermissive, p.polcmd,
				(SELECT array_agg(r.oid::regrole ORDER BY r.oid) FROM unnest(p.polroles) r (oid)),
				pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
		FROM pg_policy p JOIN relation c ON c.oid = p.polrelid
		UNION ALL
		SELECT 'pg_statistic_ext'::regclass, s.oid, 0, pg_get_statisticsobjdef(s.oid)
		FROM pg_statistic_ext s JOIN relation c ON c.oid = s.stxrelid
		UNION ALL
		SELECT 'pg_proc'::regclass, p.oid, 0, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END
		FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
		UNION ALL
		SELECT 'pg_type'::regclass, t.oid, 0,
			format(E'labels %s\ndefault %s\nnot null %s\n',
				(SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
				t.typdefault, t.typnotnull)
		FROM type t
		UNION ALL
		SELECT 'pg_cast'::regclass, k.oid, 0,
			format(E'context %s\nmethod %s\nfunction %s\n', k.castcontext, k.castmethod, NULLIF(k.castfunc, 0)::regprocedure)
		FROM pg_cast k
		WHERE k.castsource IN (SELECT t.oid FROM type t) OR k.casttarget IN (SELECT t.oid FROM type t)
		UNION ALL
		SELECT 'pg_extension'::regclass, e.oid, 0,
			(SELECT string_agg(format(E'dumped %s %s\n', x.relation::regclass, x.condition), '' ORDER BY x.relation)
			 FROM unnest(e.extconfig, e.extcondition) x (relation, condition))
		FROM pg_extension e WHERE e.extname = 'apikeys'
		UNION ALL
		-- whatever else there may be
		SELECT m.classid, m.objid, 0, NULL AS definition
		FROM member m
		WHERE m.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_cast'::regclass)
	), owned AS (
		SELECT p.classid, p.objid, NULLIF(p.owner, k.relowner)::regrole AS owner,
			(SELECT array_agg(a.privilege_type ORDER BY a.privilege_type)
			 FROM aclexplode(p.acl) a WHERE a.grantee = p.owner) AS privileges
		FROM apikeys_private.apikey_privileges() p JOIN pg_class k ON k.oid = 'apikeys_private.apikey_key'::regclass
	), schema (pattern) AS (
		-- the name of the extension's, which may be given another
		SELECT format(E'(?<![[:alnum:]_$])%s\\.(?="?apikey)',
			regexp_replace(quote_ident(n.nspname), '([^[:alnum:]_])', E'\\\\\\1', 'g'))
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'apikeys'
	)
	SELECT regexp_replace(i.type || ' ' || i.identity, s.pattern, '@.', 'g'),
		regexp_replace(format(E'%sowner %s, who may %s\ncomment %s\nsecurity labels %s\ngoes with %s', p.definition, o.owner, o.privileges,
				(SELECT d.description FROM pg_description d
				 WHERE (d.classoid, d.objoid, d.objsubid) = (p.classid, p.objid, p.objsubid)),
				(SELECT array_agg(l.provider || ' ' || l.label ORDER BY l.provider) FROM pg_seclabel l
				 WHERE (l.classoid, l.objoid, l.objsubid) = (p.classid, p.objid, p.objsubid)),
				(SELECT array_agg(x.identity ORDER BY x.identity)
				 FROM pg_depend d, pg_identify_object(d.refclassid, d.refobjid, 0) x
				 WHERE d.classid = p.classid AND d.objid = p.objid AND d.objsubid = p.objsubid AND d.deptype = 'x')),
			s.pattern, '@.', 'g')
	FROM part p LEFT JOIN owned o ON o.classid = p.classid AND o.objid = p.objid AND p.objsubid = 0
		CROSS JOIN LATERAL pg_identify_object(p.classid, p.objid, p.objsubid) i
		CROSS JOIN schema s
	UNION ALL
	SELECT 'server' AS object, 'PostgreSQL ' || current_setting('server_version_num')::integer / 10000;
END;
COMMENT ON FUNCTION apikeys_private.apikey_definitions() IS
'Every object of the extension, every part of its relations and every cast of its types, with all that defines it; @ stands for the extension''s schema. The same for whoever asks, and after maintenance.';

CREATE FUNCTION apikeys_private.apikey_record_definitions()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	DELETE FROM apikeys_private.apikey_definition;
	WITH recorded AS (
		INSERT INTO apikeys_private.apikey_definition (object, definition)
		SELECT d.object, d.definition FROM apikeys_private.apikey_definitions() d
		RETURNING 1
	)
	SELECT count(*) FROM recorded;
END;
COMMENT ON FUNCTION apikeys_private.apikey_record_definitions() IS
'Has apikey_selfcheck() compare with what the objects are now. Scripts call it at their end; so does the owner after an upgrade of PostgreSQL, whose versions print definitions differently, or after a change that is meant. Returns how many objects there are.';

CREATE FUNCTION @extschema@.apikey_selfcheck()
RETURNS TABLE ("check" text, ok boolean, detail text)
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
BEGIN ATOMIC
	WITH extension AS (
		SELECT e.extversion, e.extowner, n.nspname, n.nspowner, n.nspacl, n.oid AS nspoid
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'apikeys'
	), member AS MATERIALIZED (
		SELECT * FROM apikeys_private.apikey_members()
	), function AS (
		SELECT p.oid, p.proname
		FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	), difference AS (
		SELECT coalesce(r.object, n.object) AS object, r.definition AS before, n.definition AS now
		FROM apikeys_private.apikey_definition r
			FULL JOIN apikeys_private.apikey_definitions() n ON n.object = r.object
		WHERE r.definition IS DISTINCT FROM n.definition
	),

	-- What is in force here, also if it is of a module that is not loaded yet;
	-- and what roles and databases are given.
	given AS (
		SELECT n.name, NULLIF(current_setting(n.name, true), '') AS setting, '' AS whose
		FROM unnest('{apikeys.history,apikeys.seal_principal,apikeys.revoke_remote_apply,log_statement,log_min_duration_statement,log_min_duration_sample,log_transaction_sample_rate,log_parameter_max_length,log_parameter_max_length_on_error,auto_explain.log_min_duration,debug_print_parse,debug_print_rewritten,debug_print_plan,pgaudit.log_parameter}'::text[]) n (name)
		UNION ALL
		SELECT split_part(c.entry, '=', 1), substr(c.entry, strpos(c.entry, '=') + 1),
			concat(' for', ' role ' || NULLIF(s.setrole, 0)::regrole::text,
				' database ' || quote_ident(d.datname))
		FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase,
			unnest(s.setconfig) c (entry)
		WHERE s.setdatabase = 0 OR d.datname = current_database()
	), setting AS (
		SELECT g.*, g.setting ~* '^(off?|f(a(l(se?)?)?)?|no?|0)$' AS off
		FROM given g
	),

	-- Each line a complaint.
	complaint (name, detail) AS (
		SELECT 'objects' AS name, CASE WHEN d.object = 'server'
			THEN coalesce('what was installed was recorded by ' || d.before, 'it is not recorded what was installed')
				|| ': if it is as it should be, call apikeys_private.apikey_record_definitions()'
			ELSE replace(d.object, '@.', '')
				|| CASE WHEN d.now IS NULL THEN ' is missing'
					WHEN d.before IS NULL THEN ' was added'
					ELSE ' was changed' || coalesce(' (' || replace(s.short, '@.', '') || ')', '') END
			END
		FROM difference d
			LEFT JOIN LATERAL (
				SELECT concat_ws(', ', 'was ' || string_agg(btrim(l.line), ', ') FILTER (WHERE l.was),
					'is ' || string_agg(btrim(l.line), ', ') FILTER (WHERE NOT l.was))
				FROM (SELECT x.line, bool_or(x.was)
					FROM (SELECT true, regexp_split_to_table(d.before, E'\n')
						UNION ALL SELECT false, regexp_split_to_table(d.now, E'\n')) x (was, line)
					GROUP BY x.line HAVING bool_or(x.was) <> bool_or(NOT x.was)) l (line, was)
			) s (short) ON length(s.short) BETWEEN 1 AND 200
		-- Versions of PostgreSQL print definitions differently.
		WHERE d.object = 'server' OR NOT EXISTS (SELECT FROM difference x WHERE x.object = 'server')

		UNION ALL
		SELECT 'owners' AS name, o.object || ' belongs to ' || o.owner
		FROM apikeys_private.apikey_foreign_owners() o
		UNION ALL
		-- the triggers of a table whose rows go along run as our owner
		SELECT 'owners' AS name, 'a foreign key of table ' || t.oid::regclass::text
			|| ', which belongs to ' || t.relowner::regrole::text
			|| ', refers to table ' || r.relname
		FROM pg_constraint c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.confrelid
			JOIN pg_class r ON r.oid = c.confrelid JOIN pg_class t ON t.oid = c.conrelid
			JOIN pg_roles o ON o.oid = t.relowner
		WHERE t.relowner <> r.relowner AND NOT o.rolsuper

		UNION ALL
		SELECT 'grants' AS name, g.privilege || ' on ' || g.object || ' to ' || g.grantee
			|| CASE WHEN g.missing THEN ' is missing' ELSE '' END
		FROM apikeys_private.apikey_grant_differences(true) g
		UNION ALL
		SELECT 'grants' AS name, a.privilege_type || ' on parameter ' || p.parname || ' to '
			|| CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
		FROM pg_parameter_acl p, aclexplode(p.paracl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
		WHERE (p.parname LIKE 'apikeys.%' OR p.parname = 'session_replication_role')
			AND r.rolsuper IS NOT TRUE
		UNION ALL
		-- they have USAGE on all schemas, or may lock tables
		SELECT 'grants' AS name, p.rolname || ' to ' || r.oid::regrole::text
		FROM pg_roles p JOIN pg_roles r ON pg_has_role(r.oid, p.oid, 'MEMBER') CROSS JOIN extension e
		WHERE p.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain')
			AND NOT r.rolsuper AND r.oid NOT IN (p.oid, e.extowner)

		UNION ALL
		SELECT 'schema' AS name, CASE a.grantee WHEN 0 THEN 'everybody' ELSE a.grantee::regrole::text END
			|| ' may create objects in schema ' || quote_ident(e.nspname)
		FROM extension e, aclexplode(e.nspacl) a
		WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (e.nspowner, e.extowner)
		UNION ALL
		SELECT 'schema' AS name, 'function ' || p.oid::regprocedure || ' does not belong to the extension'
		FROM extension e JOIN pg_proc p ON p.pronamespace = e.nspoid
		WHERE p.proname IN (SELECT f.proname FROM function f) AND p.oid NOT IN (SELECT f.oid FROM function f)

		UNION ALL
		SELECT 'members' AS name, 'database role ' || quote_ident(w.db_role) || w.fault
		FROM (SELECT m.db_role,
				CASE WHEN r.oid IS NULL THEN ' does not exist'
					WHEN r.oid = e.extowner THEN ' owns the extension'
					ELSE coalesce(' cannot be one: ' || apikeys_private.apikey_db_role_fault(r.oid),
						-- or there was none of that name
						CASE WHEN r.oid IS DISTINCT FROM m.db_role_oid
							THEN ' is not the role that it was when the member was saved' END)
					END AS fault
			FROM apikeys_private.apikey_member m CROSS JOIN extension e
				LEFT JOIN pg_roles r ON r.rolname = m.db_role
			WHERE m.db_role IS NOT NULL) w
		WHERE w.fault IS NOT NULL

		UNION ALL
		SELECT 'version' AS name, 'the library is of version ' || l || ', the extension of version ' || e.extversion
		FROM extension e, apikeys_private.apikey_library_version() l
		WHERE e.extversion <> l

		UNION ALL
		SELECT 'settings' AS name, s.name || ' is off' || s.whose
		FROM setting s
		WHERE s.off AND s.name IN ('apikeys.history', 'apikeys.seal_principal', 'apikeys.revoke_remote_apply')

		-- Statements are logged, and parameters with them; or parameters with
		-- errors; or plans, into which parameters have been put.
		UNION ALL
		SELECT 'logging' AS name, s.name || ' is ' || s.setting || s.whose
			|| ' and log_parameter_max_length is not 0'
		FROM setting s
		WHERE EXISTS (SELECT FROM setting l WHERE l.name = 'log_parameter_max_length' AND l.setting <> '0')
			AND ((s.name = 'log_statement' AND lower(s.setting) IN ('mod', 'all'))
				OR (s.name IN ('log_min_duration_statement', 'log_min_duration_sample')
					AND s.setting NOT LIKE '-%')
				OR CASE s.name WHEN 'log_transaction_sample_rate' THEN s.setting::float8 <> 0 END)
		UNION ALL
		SELECT 'logging' AS name, s.name || ' is ' || s.setting || s.whose
		FROM setting s
		WHERE (s.name = 'log_parameter_max_length_on_error' AND s.setting <> '0')
			OR (s.name = 'auto_explain.log_min_duration' AND s.setting NOT LIKE '-%')
			OR (NOT s.off AND s.name IN ('debug_print_parse', 'debug_print_rewritten',
				'debug_print_plan', 'pgaudit.log_parameter'))
	)
	SELECT n.name, count(c.name) = 0,
		CASE WHEN n.name = 'preload'
			THEN CASE WHEN (SELECT s.max_keys IS NULL FROM apikeys_private.apikey_stats_read() s)
				THEN 'usage of keys is not counted: shared_preload_libraries has no "apikeys", or apikeys.usage_max_keys is 0'
				ELSE 'usage of keys is counted' END
			ELSE string_agg(c.detail, '; ' ORDER BY c.detail COLLATE "C")
		END
	FROM unnest('{objects,owners,grants,schema,members,version,settings,logging,preload}'::text[])
			WITH ORDINALITY AS n (name, ordinal)
		LEFT JOIN complaint c ON c.name = n.name
	GROUP BY n.name, n.ordinal
	ORDER BY n.ordinal;
END;
COMMENT ON FUNCTION @extschema@.apikey_selfcheck() IS
'Is everything as it was delivered, and does no setting give keys away? A row for each check, whose detail tells what is amiss. For after an installation, a restore, an upgrade. Check preload only informs.';
