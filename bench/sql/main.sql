-- What only the database with --keys keys has: see load.sql for :keys.

SELECT apikey_install_capabilities();

-- The product's own table, with a policy: a row for each organization.
CREATE TABLE bench_document (
	org_id text COLLATE "C" PRIMARY KEY,
	body text NOT NULL
);
INSERT INTO bench_document SELECT org_id, 'the document of ' || org_id FROM apikeys_private.apikey_org;
ALTER TABLE bench_document ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bench_document USING (
	org_id = (SELECT apikey_current_org())
	AND (SELECT apikey_current_level()) >= 'standard');
GRANT SELECT ON bench_document TO bench_app;

-- By hand, noting when a key was used. Pages have room for the new version of
-- a row, so that the indexes need not be touched.
CREATE TABLE hand_used (LIKE hand_key, last_used_at timestamptz) WITH (fillfactor = 70);
INSERT INTO hand_used SELECT * FROM hand_key;
ALTER TABLE hand_used ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX hand_used_digest_idx ON hand_used (digest);

CREATE FUNCTION hand_update(key text, required apikey_level) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
	allowed boolean;
BEGIN
	UPDATE public.hand_used k SET last_used_at = now()
	WHERE k.digest = public.digest(key, 'sha256') AND k.expires_at > now()
	RETURNING k.level >= required INTO allowed;
	RETURN coalesce(allowed, false);
END
$$;

CREATE FUNCTION hand_update_minute(key text, required apikey_level) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
	found_id bigint;
	used_at timestamptz;
	allowed boolean;
BEGIN
	SELECT k.id, k.last_used_at, k.level >= required INTO found_id, used_at, allowed
	FROM public.hand_used k
	WHERE k.digest = public.digest(key, 'sha256') AND k.expires_at > now();
	IF found_id IS NOT NULL AND (used_at IS NULL OR used_at < now() - '1 minute'::interval) THEN
		UPDATE public.hand_used SET last_used_at = now() WHERE id = found_id;
	END IF;
	RETURN coalesce(allowed, false);
END
$$;

-- By hand, with bcrypt: only the keys of the hot set are in this table, for a
-- million hashes would take an hour. That it is so small is to its advantage.
CREATE TABLE hand_bcrypt_key (
	prefix text COLLATE "C" NOT NULL,
	hash text NOT NULL,
	level apikey_level NOT NULL,
	expires_at timestamptz NOT NULL
);
INSERT INTO hand_bcrypt_key
SELECT left(bench_key(i, :keys), 11), crypt(bench_key(i, :keys), gen_salt('bf', 6)), 'standard', 'infinity'
FROM generate_series(1, least(1000, :keys)) i;
CREATE INDEX hand_bcrypt_key_prefix_idx ON hand_bcrypt_key (prefix);

CREATE FUNCTION hand_bcrypt(key text, required apikey_level) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
AS $$
BEGIN
	RETURN EXISTS (
		SELECT FROM public.hand_bcrypt_key k
		WHERE k.prefix = left(key, 11) AND k.level >= required
			AND k.expires_at > now() AND k.hash = public.crypt(key, k.hash));
END
$$;

-- For comparing creation: as many rows, and the same indexes.
CREATE TABLE plain_key (LIKE apikeys_private.apikey_key INCLUDING DEFAULTS INCLUDING GENERATED);
CREATE TABLE plain_key_fk (LIKE apikeys_private.apikey_key INCLUDING DEFAULTS INCLUDING GENERATED);
SELECT format('INSERT INTO %I (key_id, org_id, owner_id, name, level, digest, created_at, expires_at)'
	' SELECT key_id, org_id, owner_id, name, level, digest, created_at, expires_at FROM apikeys_private.apikey_key', name)
FROM unnest(ARRAY['plain_key', 'plain_key_fk']) AS name \gexec
SELECT format('ALTER TABLE %I ADD %s', name, pg_get_constraintdef(oid))
FROM unnest(ARRAY['plain_key', 'plain_key_fk']) AS name, pg_constraint
WHERE conrelid = 'apikeys_private.apikey_key'::regclass AND contype IN ('p', 'u', 'x')
UNION ALL
SELECT format('CREATE %s ON %I %s', CASE WHEN indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END,
	name, substring(pg_get_indexdef(indexrelid) FROM 'USING .*'))
FROM unnest(ARRAY['plain_key', 'plain_key_fk']) AS name, pg_index
WHERE indrelid = 'apikeys_private.apikey_key'::regclass AND indexrelid NOT IN
	(SELECT conindid FROM pg_constraint WHERE conrelid = 'apikeys_private.apikey_key'::regclass) \gexec
ALTER TABLE plain_key_fk ADD FOREIGN KEY (org_id, owner_id) REFERENCES apikeys_private.apikey_member;
GRANT SELECT, INSERT ON plain_key, plain_key_fk TO bench_app;
GRANT USAGE ON SEQUENCE apikeys_private.apikey_key_id_seq TO bench_app;
