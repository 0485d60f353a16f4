-- apikey_selfcheck() tells every change of every object: each is altered in
-- each way that PostgreSQL has for its kind, and everything is rolled back.
-- What is altered is not listed here but found in the catalogs.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
CREATE ROLE regress_selfcheck_other;
CREATE SCHEMA selfcheck_other;
CREATE ACCESS METHOD selfcheck TYPE TABLE HANDLER heap_tableam_handler;

-- an object as it is named by the self-check
CREATE FUNCTION pg_temp.named(classid regclass, objid oid, objsubid integer = 0) RETURNS text LANGUAGE sql
RETURN (SELECT replace(i.type || ' ' || i.identity, 'public.apikey', 'apikey')
	FROM pg_identify_object(classid, objid, objsubid) i);

CREATE TEMPORARY VIEW members AS SELECT * FROM apikeys_private.apikey_members();
CREATE TEMPORARY VIEW relations AS
	SELECT c.*, c.oid::regclass::text AS name, pg_temp.named('pg_class', c.oid) AS object,
		CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind
	FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	WHERE c.relkind <> 'c';
CREATE TEMPORARY VIEW functions AS
	SELECT p.*, p.oid::regprocedure::text AS name, pg_temp.named('pg_proc', p.oid) AS object
	FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;
CREATE TEMPORARY VIEW columns AS
	SELECT a.attrelid, a.attnum, a.attgenerated, a.atttypid, a.atttypmod, a.attnotnull, a.attlen,
		a.attcollation, r.name AS relation, r.relkind, quote_ident(a.attname) AS name,
		pg_temp.named('pg_class', a.attrelid, a.attnum) AS object
	FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
	WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'v');
CREATE TEMPORARY VIEW constraints AS
	SELECT c.*, r.name AS relation, quote_ident(c.conname) AS name, pg_temp.named('pg_constraint', c.oid) AS object
	FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid;
CREATE TEMPORARY VIEW indexes AS
	SELECT i.*, i.indexrelid::regclass::text AS name, pg_temp.named('pg_class', i.indexrelid) AS object
	FROM relations r JOIN pg_index i ON i.indrelid = r.oid;
CREATE TEMPORARY VIEW triggers AS
	SELECT t.*, r.name AS relation, quote_ident(t.tgname) AS name, pg_temp.named('pg_trigger', t.oid) AS object
	FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal;
CREATE TEMPORARY VIEW policies AS
	SELECT p.*, r.name AS relation, quote_ident(p.polname) AS name, pg_temp.named('pg_policy', p.oid) AS object
	FROM relations r JOIN pg_policy p ON p.polrelid = r.oid;
CREATE TEMPORARY VIEW types AS
	SELECT t.*, t.oid::regtype::text AS name, pg_temp.named('pg_type', t.oid) AS object
	FROM pg_type t JOIN members m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
		LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c';

-- The self-check could not run if what it calls were another's, or something
-- else.
CREATE TEMPORARY VIEW others_functions AS
	SELECT * FROM functions WHERE proname NOT IN ('apikey_members', 'apikey_definitions',
		'apikey_privileges', 'apikey_grants', 'apikey_grant_differences',
		'apikey_foreign_owners', 'apikey_library_version', 'apikey_stats_read', 'apikey_selfcheck');

-- Alterations; those of one name are made together. The object is the one that
-- has to be told.
CREATE TEMPORARY TABLE alterations (n serial, name text, object text, statement text);

-- of functions
INSERT INTO alterations (name, object, statement)
SELECT w.name, object, 'ALTER FUNCTION ' || f.name || ' ' || w.clause FROM functions f, LATERAL (VALUES
	('function: volatility', CASE provolatile WHEN 'v' THEN 'STABLE' ELSE 'VOLATILE' END),
	('function: strictness', CASE WHEN proisstrict THEN 'CALLED ON NULL INPUT' ELSE 'STRICT' END),
	('function: security definer', 'SECURITY DEFINER'), ('function: leakproof', 'LEAKPROOF'),
	('function: parallel', CASE proparallel WHEN 's' THEN 'PARALLEL RESTRICTED' ELSE 'PARALLEL SAFE' END),
	('function: cost', 'COST 77'), ('function: rows', CASE WHEN proretset THEN 'ROWS 77' END),
	('function: setting', 'SET work_mem = ''1MB'''), ('function: rename', 'RENAME TO selfcheck_renamed'),
	('function: schema', 'SET SCHEMA selfcheck_other'), ('function: goes with', 'DEPENDS ON EXTENSION pgcrypto')) AS w (name, clause)
WHERE w.clause IS NOT NULL AND (proname <> 'apikey_selfcheck' OR w.name NOT IN ('function: rename', 'function: schema'));
INSERT INTO alterations (name, object, statement)
SELECT 'function: search_path', object, 'ALTER FUNCTION ' || name || ' SET search_path = selfcheck_other' FROM functions
UNION ALL
SELECT 'function: role', object, 'ALTER FUNCTION ' || name || ' SET role = regress_selfcheck_other' FROM others_functions
UNION ALL
SELECT 'function: owner', object, 'ALTER FUNCTION ' || name || ' OWNER TO regress_selfcheck_other' FROM others_functions
UNION ALL
SELECT 'function: symbol', object, replace(pg_get_functiondef(oid), '$' || prosrc || '$', '$apikey_current_org$') FROM others_functions
	WHERE probin IS NOT NULL AND prosrc <> 'apikey_current_org'
UNION ALL
SELECT 'function: library', object, replace(pg_get_functiondef(oid), '$libdir/apikeys', '$libdir/./apikeys') FROM others_functions WHERE probin IS NOT NULL
UNION ALL
SELECT 'function: not ours', object, 'ALTER EXTENSION apikeys DROP FUNCTION ' || name FROM functions
UNION ALL
SELECT 'function: comment', object, 'COMMENT ON FUNCTION ' || name || ' IS NULL' FROM functions;

-- of tables, views and the sequence
INSERT INTO alterations (name, object, statement)
SELECT w.name, object, 'ALTER ' || kind || ' ' || r.name || ' ' || w.clause FROM relations r, LATERAL (VALUES
	('table: row security', 'r', 'DISABLE ROW LEVEL SECURITY'), ('table: forced row security', 'r', 'FORCE ROW LEVEL SECURITY'),
	('table: option', 'r', 'SET (fillfactor = 77)'), ('table: option of TOAST', 'r', 'SET (toast.autovacuum_enabled = off)'),
	('table: access method', 'r', 'SET ACCESS METHOD selfcheck'), ('table: replica identity', 'r', 'REPLICA IDENTITY FULL'), ('table: persistence', 'r', 'SET UNLOGGED'),
	('view: option', 'v', 'SET (security_invoker = false)'), ('view: another option', 'v', 'SET (security_barrier = false)'),
	('sequence: increment', 'S', 'INCREMENT 7'), ('sequence: cycle', 'S', 'CYCLE'), ('sequence: cache', 'S', 'CACHE 7'),
	('sequence: end', 'S', 'MAXVALUE 7777'), ('sequence: start', 'S', 'START 7'), ('sequence: type', 'S', 'AS integer'),
	('sequence: table', 'S', 'OWNED BY NONE'),
	('relation: rename', 'rvS', 'RENAME TO selfcheck_' || r.oid), ('relation: schema', 'rvS', 'SET SCHEMA selfcheck_other')) AS w (name, kinds, clause)
WHERE strpos(w.kinds, relkind::text) > 0;
INSERT INTO alterations (name, object, statement)
-- the owner of this table is the one whom all are compared with
SELECT 'relation: owner', object, 'ALTER ' || kind || ' ' || name || ' OWNER TO regress_selfcheck_other' FROM relations WHERE relname <> 'apikey_key' AND relkind <> 'S'
UNION ALL
SELECT 'relation: owner''s privileges', object, 'REVOKE ALL ON ' || name || ' FROM CURRENT_USER' FROM relations
UNION ALL
SELECT 'relation: comment', object, 'COMMENT ON ' || kind || ' ' || name || ' IS ''another''' FROM relations
UNION ALL
SELECT 'relation: not ours', object, 'ALTER EXTENSION apikeys DROP ' || kind || ' ' || name FROM relations WHERE relname <> 'apikey_definition'
UNION ALL
SELECT 'table: heir', object, format('CREATE TABLE selfcheck_other.%s () INHERITS (%s)', relname, name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: parent', object, format('CREATE TABLE selfcheck_other.%1$s (LIKE %2$s); ALTER TABLE %2$s INHERIT selfcheck_other.%1$s', relname, name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: column added', 'table column ' || name || '.selfcheck', 'ALTER TABLE ' || name || ' ADD selfcheck integer' FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: constraint added', 'table constraint selfcheck on ' || name, 'ALTER TABLE ' || name || ' ADD CONSTRAINT selfcheck CHECK (true)' FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: foreign key added', 'table constraint selfcheck on ' || name, format('CREATE TABLE selfcheck_other.%1$s (a %2$s PRIMARY KEY); ALTER TABLE %3$s ADD CONSTRAINT selfcheck FOREIGN KEY (%4$s) REFERENCES selfcheck_other.%1$s NOT VALID',
	r.relname, format_type(a.atttypid, a.atttypmod), r.name, a.attname) FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = 1 WHERE r.relkind = 'r'
UNION ALL
SELECT 'table: index added', 'index apikeys_private.selfcheck_' || relname, format('CREATE INDEX selfcheck_%s ON %s ((1))', relname, name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: statistics added', 'statistics object selfcheck_other.selfcheck_' || relname, format('CREATE STATISTICS selfcheck_other.selfcheck_%s ON (1 + 1), (2 + 2) FROM %s', relname, name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: policy added', 'policy selfcheck on ' || name, format('CREATE POLICY selfcheck ON %s USING (true)', name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'table: trigger added', 'trigger selfcheck on ' || name, format('CREATE TRIGGER selfcheck BEFORE TRUNCATE ON %s EXECUTE FUNCTION suppress_redundant_updates_trigger()', name) FROM relations WHERE relkind = 'r'
UNION ALL
SELECT 'relation: rule added', 'rule selfcheck on ' || name, format('CREATE RULE selfcheck AS ON INSERT TO %s DO INSTEAD NOTHING', name) FROM relations WHERE relkind <> 'S'
UNION ALL
SELECT 'view: query', 'rule "_RETURN" on ' || name, format('CREATE OR REPLACE VIEW %s WITH (%s) AS SELECT * FROM (%s) v WHERE true', name, array_to_string(reloptions, ', '), rtrim(pg_get_viewdef(oid), ';')) FROM relations WHERE relkind = 'v'
UNION ALL
SELECT 'view: rule disabled', 'rule "_RETURN" on ' || r.name, format('UPDATE pg_rewrite SET ev_enabled = ''R'' WHERE oid = %s', w.oid) FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid;

-- of columns
INSERT INTO alterations (name, object, statement)
SELECT w.name, object, 'ALTER TABLE ' || relation || ' ' || w.clause FROM columns c, LATERAL (VALUES
	('column: rename', 'RENAME ' || c.name || ' TO selfcheck_' || attnum),
	('column: default', CASE WHEN attgenerated = '' THEN format('ALTER %s SET DEFAULT NULLIF(NULL::%s, NULL)', c.name, format_type(atttypid, atttypmod)) END),
	('column: not null', CASE WHEN relkind = 'r' THEN 'ALTER ' || c.name || CASE WHEN attnotnull THEN ' DROP NOT NULL' ELSE ' SET NOT NULL' END END),
	('column: statistics', CASE WHEN relkind = 'r' THEN 'ALTER ' || c.name || ' SET STATISTICS 77' END),
	('column: storage', CASE WHEN relkind = 'r' AND attlen = -1 THEN 'ALTER ' || c.name || ' SET STORAGE EXTERNAL' END),
	('column: compression', CASE WHEN relkind = 'r' AND attlen = -1 THEN 'ALTER ' || c.name || ' SET COMPRESSION pglz' END),
	('column: option', CASE WHEN relkind = 'r' THEN 'ALTER ' || c.name || ' SET (n_distinct = 7)' END),
	('column: type', CASE WHEN relkind = 'r' THEN 'ALTER ' || c.name || ' TYPE ' || CASE WHEN format_type(atttypid, NULL) = 'text' THEN 'varchar' ELSE 'text' END END),
	('column: collation', CASE WHEN relkind = 'r' AND attcollation <> 0 THEN 'ALTER ' || c.name || ' TYPE text COLLATE "POSIX"' END),
	('column: generated', CASE WHEN attgenerated <> '' THEN 'ALTER ' || c.name || ' DROP EXPRESSION' END),
	('column: drop', CASE WHEN relkind = 'r' THEN 'DROP ' || c.name END)) AS w (name, clause)
WHERE w.clause IS NOT NULL;
INSERT INTO alterations (name, object, statement)
SELECT 'column: comment', object, 'COMMENT ON COLUMN ' || relation || '.' || name || ' IS ''another''' FROM columns;

-- of constraints, indexes, triggers, policies
INSERT INTO alterations (name, object, statement)
SELECT w.name, object, 'ALTER TABLE ' || relation || ' ' || w.clause FROM constraints c, LATERAL (VALUES
	('constraint: rename', 'RENAME CONSTRAINT ' || c.name || ' TO selfcheck_' || c.oid),
	('constraint: drop', 'DROP CONSTRAINT ' || c.name || ' CASCADE'),
	('constraint: deferrable', CASE contype WHEN 'f' THEN 'ALTER CONSTRAINT ' || c.name || ' DEFERRABLE' END),
	('constraint: triggers', CASE contype WHEN 'f' THEN 'DISABLE TRIGGER ALL' END),
	('constraint: not valid', CASE WHEN contype IN ('c', 'f') THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || pg_get_constraintdef(c.oid) || ' NOT VALID' END),
	('constraint: without an action', CASE contype WHEN 'f' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || replace(pg_get_constraintdef(c.oid), ' ON DELETE CASCADE', '') END),
	('constraint: other triggers', CASE contype WHEN 'f' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || replace(pg_get_constraintdef(c.oid), ' ON UPDATE CASCADE', '') END),
	('constraint: another check', CASE contype WHEN 'c' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' CHECK (true)' END),
	('constraint: not inherited', CASE contype WHEN 'c' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || pg_get_constraintdef(c.oid) || ' NO INHERIT' END),
	('constraint: only some rows', CASE contype WHEN 'x' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || pg_get_constraintdef(c.oid) || ' WHERE (created_at IS NOT NULL)' END),
	('constraint: another method', CASE contype WHEN 'x' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' ' || replace(pg_get_constraintdef(c.oid), 'hash', 'btree') END),
	('constraint: unique instead', CASE contype WHEN 'x' THEN 'DROP CONSTRAINT ' || c.name || ', ADD CONSTRAINT ' || c.name || ' UNIQUE (digest)' END)) AS w (name, clause)
WHERE w.clause IS NOT NULL AND contype <> 'n';
INSERT INTO alterations (name, object, statement)
SELECT 'foreign key: disabled where it refers to', c.object, 'ALTER TABLE ' || c.confrelid::regclass || ' DISABLE TRIGGER ALL' FROM constraints c WHERE contype = 'f'
UNION ALL
SELECT 'index: replica identity', object, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', indrelid::regclass, (SELECT relname FROM pg_class WHERE oid = indexrelid)) FROM indexes i WHERE indisprimary
UNION ALL
SELECT 'index: rename', object, 'ALTER INDEX ' || name || ' RENAME TO selfcheck_' || indexrelid FROM indexes
UNION ALL
SELECT 'index: option', object, 'ALTER INDEX ' || name || ' SET (fillfactor = 77)' FROM indexes
UNION ALL
SELECT 'index: comment', object, 'COMMENT ON INDEX ' || name || ' IS ''another''' FROM indexes
UNION ALL
SELECT 'index: drop', object, 'DROP INDEX ' || name FROM indexes i WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
UNION ALL
SELECT 'index: ' || c, object, format('UPDATE pg_index SET %I = false WHERE indexrelid = %s', c, indexrelid) FROM indexes, unnest('{indisvalid,indisready,indislive}'::text[]) c
UNION ALL
SELECT 'trigger: disabled', object, format('ALTER TABLE %s DISABLE TRIGGER %s', relation, name) FROM triggers
UNION ALL
SELECT 'trigger: enabled otherwise', object, format('ALTER TABLE %s ENABLE %s TRIGGER %s', relation, CASE tgenabled WHEN 'O' THEN 'REPLICA' ELSE '' END, name) FROM triggers
UNION ALL
SELECT 'trigger: rename', object, format('ALTER TRIGGER %s ON %s RENAME TO selfcheck_%s', name, relation, oid) FROM triggers
UNION ALL
SELECT 'trigger: goes with', object, format('ALTER TRIGGER %s ON %s DEPENDS ON EXTENSION pgcrypto', name, relation) FROM triggers
UNION ALL
SELECT 'trigger: comment', object, format('COMMENT ON TRIGGER %s ON %s IS NULL', name, relation) FROM triggers
UNION ALL
SELECT 'trigger: drop', object, format('DROP TRIGGER %s ON %s', name, relation) FROM triggers
UNION ALL
SELECT 'trigger: ' || w.name, object, format('DROP TRIGGER %1$s ON %2$s; %3$s; ALTER TABLE %2$s ENABLE %4$s TRIGGER %1$s; COMMENT ON TRIGGER %1$s ON %2$s IS %5$L',
	t.name, relation, regexp_replace(pg_get_triggerdef(oid), w.from, w.to), CASE tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, obj_description(oid, 'pg_trigger'))
FROM triggers t, (VALUES ('another function', 'apikeys_private\.apikey_\w+\(\)', 'suppress_redundant_updates_trigger()'),
	('an argument', '\(\)$', '(''argument'')'), ('never', ' EXECUTE', ' WHEN (false) EXECUTE'),
	('after', 'BEFORE', 'AFTER'), ('before', 'AFTER', 'BEFORE'),
	('not for DELETE', '(DELETE OR )', ''), ('not for UPDATE', ' OR UPDATE', ''), ('not for INSERT', 'INSERT OR ', ''),
	('a column only', 'UPDATE ON', 'UPDATE OF org_id ON'), ('another column', 'OF plan', 'OF name'),
	('all columns', 'OF plan', ''), ('each statement', 'EACH ROW', 'EACH STATEMENT')) AS w (name, "from", "to")
WHERE pg_get_triggerdef(oid) <> regexp_replace(pg_get_triggerdef(oid), w.from, w.to)
UNION ALL
SELECT 'trigger: deferrable', object, format('DROP TRIGGER %1$s ON %2$s; %3$s; ALTER TABLE %2$s ENABLE %4$s TRIGGER %1$s; COMMENT ON TRIGGER %1$s ON %2$s IS %5$L',
	name, relation, replace(replace(pg_get_triggerdef(oid), 'CREATE TRIGGER', 'CREATE CONSTRAINT TRIGGER'), 'FOR EACH', 'DEFERRABLE INITIALLY DEFERRED FOR EACH'),
	CASE tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, obj_description(oid, 'pg_trigger'))
FROM triggers WHERE pg_get_triggerdef(oid) LIKE '%AFTER % FOR EACH ROW%'
UNION ALL
SELECT 'policy: ' || w.name, object, w.statement FROM policies p, LATERAL (VALUES
	('rename', format('ALTER POLICY %s ON %s RENAME TO selfcheck_%s', name, relation, oid)),
	('roles', format('ALTER POLICY %s ON %s TO regress_selfcheck_other', name, relation)),
	('using', format('ALTER POLICY %s ON %s USING (true)', name, relation)),
	('another function', format('ALTER POLICY %s ON %s USING (%s)', name, relation, replace(pg_get_expr(polqual, polrelid), 'apikeys_private.', 'pg_temp.'))),
	('check', CASE polcmd WHEN 'w' THEN format('ALTER POLICY %s ON %s WITH CHECK (true)', name, relation) END),
	('drop', format('DROP POLICY %s ON %s', name, relation)),
	('command', format('DROP POLICY %1$s ON %2$s; CREATE POLICY %1$s ON %2$s USING (%3$s); COMMENT ON POLICY %1$s ON %2$s IS %4$L',
		name, relation, pg_get_expr(polqual, polrelid), obj_description(oid, 'pg_policy'))),
	('restrictive', format('DROP POLICY %1$s ON %2$s; CREATE POLICY %1$s ON %2$s AS RESTRICTIVE FOR %3$s USING (%4$s); COMMENT ON POLICY %1$s ON %2$s IS %5$L',
		name, relation, CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END, pg_get_expr(polqual, polrelid), obj_description(oid, 'pg_policy')))) AS w (name, statement)
WHERE w.statement IS NOT NULL;

-- of types, casts, schema, extension
INSERT INTO alterations (name, object, statement)
SELECT 'type: label added', object, format('ALTER TYPE %s ADD VALUE ''selfcheck''', name) FROM types WHERE typtype = 'e'
UNION ALL
SELECT 'type: label added before', object, format('ALTER TYPE %s ADD VALUE ''selfcheck'' BEFORE %L', name, (SELECT min(enumlabel) FROM pg_enum e WHERE e.enumtypid = t.oid)) FROM types t WHERE typtype = 'e'
UNION ALL
SELECT 'type: label renamed', object, format('ALTER TYPE %s RENAME VALUE %L TO ''selfcheck''', name, (SELECT min(enumlabel) FROM pg_enum e WHERE e.enumtypid = t.oid)) FROM types t WHERE typtype = 'e'
UNION ALL
SELECT 'type: rename', object, 'ALTER TYPE ' || name || ' RENAME TO selfcheck' || oid FROM types
UNION ALL
SELECT 'type: schema', object, 'ALTER TYPE ' || name || ' SET SCHEMA selfcheck_other' FROM types
UNION ALL
SELECT 'type: owner', object, 'ALTER TYPE ' || name || ' OWNER TO regress_selfcheck_other' FROM types
UNION ALL
SELECT 'type: comment', object, 'COMMENT ON TYPE ' || name || ' IS NULL' FROM types
UNION ALL
SELECT 'type: not ours', object, 'ALTER EXTENSION apikeys DROP TYPE ' || name FROM types
UNION ALL
SELECT 'type: attribute', 'composite type column ' || name || '.selfcheck', 'ALTER TYPE ' || name || ' ADD ATTRIBUTE selfcheck integer' FROM types WHERE typtype = 'c'
UNION ALL
SELECT 'cast: drop', pg_temp.named(m.classid, m.objid), format('DROP CAST (%s AS %s)', c.castsource::regtype, c.casttarget::regtype) FROM members m JOIN pg_cast c ON m.classid = 'pg_cast'::regclass AND m.objid = c.oid
UNION ALL
SELECT 'cast: added', format('cast (apikey_%s AS pg_catalog.point)', t), format('CREATE CAST (apikey_%s AS pg_catalog.point) WITH INOUT AS IMPLICIT', t) FROM unnest('{plan,role,level}'::text[]) t
UNION ALL
SELECT 'schema: owner', 'schema apikeys_private', 'ALTER SCHEMA apikeys_private OWNER TO regress_selfcheck_other'
UNION ALL
SELECT 'schema: rename', 'schema apikeys_private', 'ALTER SCHEMA apikeys_private RENAME TO selfcheck_renamed'
UNION ALL
SELECT 'schema: comment', 'schema apikeys_private', 'COMMENT ON SCHEMA apikeys_private IS NULL'
UNION ALL
SELECT 'extension: not dumped', 'extension apikeys', 'UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = ''apikeys'''
UNION ALL
SELECT 'extension: dumped in part', 'extension apikeys', 'UPDATE pg_extension SET extcondition[1] = ''WHERE false'' WHERE extname = ''apikeys'''
UNION ALL
SELECT 'extension: comment', 'extension apikeys', 'COMMENT ON EXTENSION apikeys IS NULL'
UNION ALL
SELECT 'extension: added', 'schema selfcheck_other', 'ALTER EXTENSION apikeys ADD SCHEMA selfcheck_other'
UNION ALL
SELECT 'extension: aggregate added', 'aggregate selfcheck_other.selfcheck(integer)', 'CREATE AGGREGATE selfcheck_other.selfcheck (integer) (SFUNC = int4pl, STYPE = integer); ALTER EXTENSION apikeys ADD AGGREGATE selfcheck_other.selfcheck (integer)';

-- Makes those of one name, each if PostgreSQL lets it, asks, and undoes them: how
-- many were made, and which of them were not told.
CREATE FUNCTION pg_temp.alter(alteration text, OUT made bigint, OUT silent text)
LANGUAGE plpgsql AS $$
DECLARE
	a record;
	detail text;
	objects text[] = '{}';
BEGIN
	FOR a IN SELECT * FROM alterations WHERE name = alteration ORDER BY n LOOP
		BEGIN
			EXECUTE a.statement;
			objects := objects || a.object;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
	SELECT '; ' || c.detail INTO detail FROM apikey_selfcheck() c WHERE "check" = 'objects' AND NOT ok;
	made := cardinality(objects);
	silent := (SELECT string_agg(o, ', ') FROM unnest(objects) o
		WHERE coalesce(strpos(detail, '; ' || o || ' was ') + strpos(detail, '; ' || o || ' is missing'), 0) = 0);
	RAISE EXCEPTION USING ERRCODE = 'RB000', DETAIL = json_build_array(made, silent)::text;
EXCEPTION WHEN SQLSTATE 'RB000' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	made := (detail::json ->> 0)::bigint;
	silent := detail::json ->> 1;
END $$;

-- for 'another function', which reads alike
CREATE FUNCTION pg_temp.apikey_visible_org() RETURNS text LANGUAGE sql RETURN 'acme';
CREATE FUNCTION pg_temp.apikey_admin_org() RETURNS text LANGUAGE sql RETURN 'acme';
CREATE FUNCTION pg_temp.apikey_own_seat(OUT org_id text, OUT user_id text) LANGUAGE sql RETURN ROW('acme', 'ann');

-- Each in a transaction of its own; those last which the session's cache of the
-- table does not hear of when they are rolled back.
CREATE TEMPORARY TABLE results (alteration text, made boolean, silent text);
DO $$
DECLARE
	a text;
BEGIN
	FOREACH a IN ARRAY ARRAY(SELECT name FROM alterations GROUP BY name ORDER BY name LIKE 'index: indis%', name COLLATE "C") LOOP
		INSERT INTO results (alteration, made, silent) SELECT a, t.made > 0, t.silent FROM pg_temp.alter(a) t;
		COMMIT;
	END LOOP;
END $$;
SELECT alteration, made, silent FROM results ORDER BY alteration COLLATE "C";

-- Made anew alike, an object is as good as the one delivered.
BEGIN;
DROP POLICY apikey_delete ON apikeys_private.apikey_legacy;
CREATE POLICY apikey_delete ON apikeys_private.apikey_legacy FOR DELETE USING ((org_id, true) = (SELECT apikeys_private.apikey_admin_org(), true));
COMMENT ON POLICY apikey_delete ON apikeys_private.apikey_legacy IS 'Admins delete the legacy key of the organization.';
DROP INDEX apikeys_private.apikey_key_org_id_name_suffix_idx;
CREATE INDEX apikey_key_org_id_name_suffix_idx ON apikeys_private.apikey_key (org_id, name, suffix);
COMMENT ON INDEX apikeys_private.apikey_key_org_id_name_suffix_idx IS 'For an organization''s keys by name.';
ALTER TABLE apikeys_private.apikey_legacy DROP CONSTRAINT apikey_legacy_org_id_fkey, ADD CONSTRAINT apikey_legacy_org_id_fkey
	FOREIGN KEY (org_id) REFERENCES apikeys_private.apikey_org ON UPDATE CASCADE ON DELETE CASCADE;
ALTER TABLE apikeys_private.apikey_key ALTER created_at SET DEFAULT '-infinity';
ALTER TABLE apikeys_private.apikey_key ALTER created_at SET DEFAULT now();
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- What is told of a change, if it is short.
BEGIN;
ALTER TABLE apikeys_private.apikey_key ALTER created_at SET DEFAULT '-infinity', DROP CONSTRAINT apikey_key_name_check;
ALTER TABLE apikeys_private.apikey_member ALTER email SET STATISTICS -1, DISABLE TRIGGER apikey_guard;
ALTER TYPE apikey_plan ADD VALUE 'gold';
CREATE OR REPLACE FUNCTION apikey_pattern() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 'x';
ALTER FUNCTION apikey_me(text) SET role = regress_selfcheck_other;
CREATE OR REPLACE FUNCTION apikey_install_capabilities() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT 0::bigint; END;
CREATE INDEX selfcheck ON apikeys_private.apikey_org (name);
SELECT regexp_split_to_table(detail, '; (?=\w+( \w+)* (apikey|selfcheck))') AS objects FROM apikey_selfcheck() WHERE "check" = 'objects';
ROLLBACK;

-- A cast, which can only be made anew.
BEGIN;
CREATE CAST (apikey_level AS point) WITH INOUT AS ASSIGNMENT;
SELECT apikeys_private.apikey_record_definitions() > 0 AS recorded;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
DROP CAST (apikey_level AS point);
CREATE CAST (apikey_level AS point) WITH INOUT AS IMPLICIT;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
DROP CAST (apikey_level AS point);
CREATE FUNCTION selfcheck_other.selfcheck(apikey_level) RETURNS point LANGUAGE sql RETURN point(0, 0);
CREATE CAST (apikey_level AS point) WITH FUNCTION selfcheck_other.selfcheck(apikey_level) AS ASSIGNMENT;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

DROP SCHEMA selfcheck_other;
DROP ACCESS METHOD selfcheck;
DROP ROLE regress_selfcheck_other;
