--
-- triggers
--
-- Proves that the trigger functions serve the triggers that they are for, and no
-- others: somebody who was granted too much may use them for another table, event
-- or moment, where the columns and rows that they read are not there.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;

SELECT apikey_save_org('triggers', 'Triggers', 'enterprise'), apikey_save_member('triggers', 'ann', 'ann@triggers.example', 'admin'),
	apikey_import_legacy('triggers', 'a legacy key of triggers');
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('triggers', 'ann', 'key', 'admin', sha256('triggers'));
CREATE TABLE triggers_other (org_id text);
INSERT INTO triggers_other VALUES ('triggers');

-- Has a function fired for an event of a table, and undoes it: the SQLSTATE, or
-- "served". Our own triggers are out of the way.
CREATE FUNCTION pg_temp.fire(function text, "table" text, timing text, event text, level text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	relation text := CASE "table" WHEN 'other' THEN 'triggers_other' ELSE 'apikeys_private.apikey_' || "table" END;
BEGIN
	IF "table" <> 'other' THEN
		EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', relation);
	END IF;
	EXECUTE format('CREATE TRIGGER triggers %s %s ON %s FOR EACH %s EXECUTE FUNCTION apikeys_private.%s()', timing, event, relation, level, function);
	EXECUTE CASE event
		WHEN 'UPDATE' THEN format('UPDATE %s SET org_id = org_id', relation)
		WHEN 'DELETE' THEN format('DELETE FROM %s', relation)
		WHEN 'TRUNCATE' THEN format('TRUNCATE %s CASCADE', relation)
		ELSE CASE "table" WHEN 'org' THEN 'INSERT INTO apikeys_private.apikey_org (org_id, name) VALUES (''triggers 2'', ''Triggers'')'
			WHEN 'member' THEN 'INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES (''triggers'', ''bob'', ''bob@triggers.example'')'
			WHEN 'key' THEN 'INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES (''triggers'', ''ann'', ''another'', ''admin'', sha256(''2''))'
			WHEN 'legacy' THEN 'INSERT INTO apikeys_private.apikey_legacy (org_id, digest) VALUES (''triggers 2'', sha256(''3''))'
			ELSE 'INSERT INTO triggers_other VALUES (''triggers 2'')' END
		END;
	RAISE EXCEPTION USING ERRCODE = '00001', MESSAGE = 'served';
EXCEPTION
	WHEN SQLSTATE '00001' THEN
		RETURN 'served';
	WHEN OTHERS THEN
		RETURN SQLSTATE;
END $$;
SET client_min_messages = warning;
CREATE TEMPORARY TABLE fired AS
	SELECT function, "table", timing, event, level, pg_temp.fire(function, "table", timing, event, level) AS result
	FROM unnest('{apikey_guard_org,apikey_guard_member,apikey_guard_key,apikey_announce_change,apikey_carry_along}'::text[]) function,
		unnest('{org,member,key,legacy,other}'::text[]) "table", unnest('{BEFORE,AFTER}'::text[]) timing,
		unnest('{INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) event, unnest('{ROW,STATEMENT}'::text[]) level
	WHERE NOT (event = 'TRUNCATE' AND level = 'ROW');
RESET client_min_messages;
SELECT result, count(*) FROM fired GROUP BY result ORDER BY result;
SELECT function, "table", timing, string_agg(event || ' of a ' || lower(level), ', ' ORDER BY event COLLATE "C") AS served
FROM fired WHERE result = 'served' GROUP BY 1, 2, 3 ORDER BY function COLLATE "C", "table";

DROP TABLE triggers_other;
SELECT apikey_remove_org('triggers');
