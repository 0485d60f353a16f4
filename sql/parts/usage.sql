--
-- What is used, and what will expire
--

CREATE FUNCTION apikeys_private.apikey_checked_interval(value interval, of_usage boolean)
RETURNS interval
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION apikeys_private.apikey_checked_interval(interval, boolean) IS
'The value itself. Errors: 22004 if it is NULL; 55000 if it is of usage, which is not counted. Used by apikey_unused() and apikey_expiring().';

-- OFFSET 0 has the argument checked even if there is no key to be seen.
CREATE FUNCTION @extschema@.apikey_unused(since interval)
RETURNS SETOF @extschema@.apikeys
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT a.*
	FROM (SELECT pg_catalog.now() - apikeys_private.apikey_checked_interval(since, true)
			OFFSET 0) AS s (start),
		LATERAL (SELECT k.*
			FROM @extschema@.apikeys k
			WHERE k.created_at < s.start
				AND (k.last_used_at IS NULL OR k.last_used_at < s.start)) AS a;
END;
COMMENT ON FUNCTION @extschema@.apikey_unused(interval) IS
'The keys that the principal may see, legacy ones too, that were created longer ago than the interval and not used within it. Errors: 55000 if usage is not counted, 22004 for NULL.';

CREATE FUNCTION @extschema@.apikey_expiring(within interval)
RETURNS SETOF @extschema@.apikeys
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT a.*
	FROM (SELECT pg_catalog.now() + apikeys_private.apikey_checked_interval(within, false)
			OFFSET 0) AS s (finish),
		LATERAL (SELECT k.*
			FROM @extschema@.apikeys k
			WHERE k.expires_at > pg_catalog.now()
				AND k.expires_at <= s.finish) AS a;
END;
COMMENT ON FUNCTION @extschema@.apikey_expiring(interval) IS
'The live keys that the principal may see and that will expire within the interval. Error 22004 for NULL.';

CREATE FUNCTION apikeys_private.apikey_stats_read(
	OUT ok bigint, OUT malformed bigint, OUT unknown bigint, OUT expired bigint,
	OUT level bigint, OUT cache_hits bigint, OUT dropped bigint,
	OUT flushes bigint, OUT last_flush timestamptz, OUT tracked_keys bigint,
	OUT max_keys bigint, OUT shared_memory bigint)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION apikeys_private.apikey_stats_read() IS
'What view apikey_stats shows.';

CREATE VIEW @extschema@.apikey_stats
WITH (security_invoker = true, security_barrier = true) AS
	SELECT s.*
	FROM apikeys_private.apikey_stats_read() s;
COMMENT ON VIEW @extschema@.apikey_stats IS
'For operators, of the whole server since its data directory was made or it crashed: keys that were accepted (ok), and that were refused as malformed, unknown, expired, or for their level; answers from a backend''s cache; uses dropped because there was no room; batches written and when the last was; keys in shared memory, the most there can be, and the bytes it takes. NULL if usage is not counted.';

CREATE FUNCTION @extschema@.apikey_usage_flush()
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.apikey_usage_flush() IS
'Has all usage that has been counted written to apikey_usage, and waits for it. Error 55000 if usage is not counted, or in recovery.';
