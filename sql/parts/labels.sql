--
-- Texts where a level, role or plan is wanted, as drivers with typed parameters
-- send them
--
-- Immutable, though enum_in() is only stable: the labels of these types do not
-- change, and the self-check tells if they have been.
--

CREATE FUNCTION apikeys_private.apikey_to_plan(label text)
RETURNS @extschema@.apikey_plan
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_to_plan(text) IS
'The plan of this name, for casts. Error 22023 if there is none, with a hint that lists them.';

CREATE CAST (text AS @extschema@.apikey_plan)
	WITH FUNCTION apikeys_private.apikey_to_plan(text) AS IMPLICIT;
COMMENT ON CAST (text AS @extschema@.apikey_plan) IS 'See apikey_to_plan().';

CREATE CAST (varchar AS @extschema@.apikey_plan)
	WITH FUNCTION apikeys_private.apikey_to_plan(text) AS IMPLICIT;
COMMENT ON CAST (varchar AS @extschema@.apikey_plan) IS 'See apikey_to_plan().';

CREATE FUNCTION apikeys_private.apikey_to_role(label text)
RETURNS @extschema@.apikey_role
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_to_role(text) IS
'The role of this name, for casts. Error 22023 if there is none, with a hint that lists them.';

CREATE CAST (text AS @extschema@.apikey_role)
	WITH FUNCTION apikeys_private.apikey_to_role(text) AS IMPLICIT;
COMMENT ON CAST (text AS @extschema@.apikey_role) IS 'See apikey_to_role().';

CREATE CAST (varchar AS @extschema@.apikey_role)
	WITH FUNCTION apikeys_private.apikey_to_role(text) AS IMPLICIT;
COMMENT ON CAST (varchar AS @extschema@.apikey_role) IS 'See apikey_to_role().';

CREATE FUNCTION apikeys_private.apikey_to_level(label text)
RETURNS @extschema@.apikey_level
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_to_level(text) IS
'The level of this name, for casts. Error 22023 if there is none, with a hint that lists them.';

CREATE CAST (text AS @extschema@.apikey_level)
	WITH FUNCTION apikeys_private.apikey_to_level(text) AS IMPLICIT;
COMMENT ON CAST (text AS @extschema@.apikey_level) IS 'See apikey_to_level().';

CREATE CAST (varchar AS @extschema@.apikey_level)
	WITH FUNCTION apikeys_private.apikey_to_level(text) AS IMPLICIT;
COMMENT ON CAST (varchar AS @extschema@.apikey_level) IS 'See apikey_to_level().';
