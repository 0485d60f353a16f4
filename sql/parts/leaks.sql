--
-- Leaks: finding values where they should not be
--

CREATE FUNCTION @extschema@.apikey_find(txt text)
RETURNS TABLE (start integer, suffix text, status text, org_id text, owner_id text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.apikey_find(text) IS
'The values in a text, wherever they stand, also where their slash is spelled as in a URL (%2F), in JSON or in HTML: at which character each starts, its suffix, and what apikey_inspect() says of it. Nothing is counted as a use. No row for NULL.';

CREATE FUNCTION @extschema@.apikey_find_in(tbl regclass)
RETURNS TABLE (column_name name, ctid tid, start integer, suffix text, status text, org_id text, owner_id text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@.apikey_find_in(regclass) IS
'The values in all columns of a table or materialized view that can hold one (texts, json, bytea, xml, arrays, rows, hstore), as apikey_find() tells them, with the row''s place: in a partitioned table, that in its partition. What is no text is looked through as it is shown. Errors: 42809 for what has no rows of its own, 42501 if the caller may not read all of it, 22004 for NULL.';

CREATE FUNCTION @extschema@.apikey_scanner_rule(tool text)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.apikey_scanner_rule(text) IS
'A rule by which a scanner finds values of the prefix in force: for "gitleaks", "trufflehog" (a custom detector), "detect-secrets" (a plugin) or "github" (a custom pattern). Error 22023 for another tool, 22004 for NULL.';
