--
-- Texts where a level, role or plan is wanted, as drivers with typed parameters
-- send them: each line once for each enum
--
-- Immutable, though enum_in() is only stable: the labels of these types do not
-- change, and the self-check tells if they have been.
--

CREATE FUNCTION apikeys_private.apikey_to_@enum@(label text) RETURNS @extschema@.apikey_@enum@ AS 'MODULE_PATHNAME', 'apikey_to_label' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_to_@enum@(text) IS 'The @enum@ of this name, for casts. Error 22023 if there is none, with a hint that lists them.';

CREATE CAST (text AS @extschema@.apikey_@enum@) WITH FUNCTION apikeys_private.apikey_to_@enum@(text) AS IMPLICIT;
COMMENT ON CAST (text AS @extschema@.apikey_@enum@) IS 'See apikey_to_@enum@().';

CREATE CAST (varchar AS @extschema@.apikey_@enum@) WITH FUNCTION apikeys_private.apikey_to_@enum@(text) AS IMPLICIT;
COMMENT ON CAST (varchar AS @extschema@.apikey_@enum@) IS 'See apikey_to_@enum@().';
