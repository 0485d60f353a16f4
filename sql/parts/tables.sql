--
-- Tables
--
-- Those that verification reads are never cut short by VACUUM: that takes an
-- exclusive lock, which on a standby waits for whoever has read the table, and
-- keeps verifications waiting behind it.
--

CREATE TABLE apikeys_private.apikey_org (
	org_id text COLLATE "C" NOT NULL
		CONSTRAINT apikey_org_org_id_check CHECK (apikeys_private.apikey_is_id(org_id)),
	name text NOT NULL,
	plan @extschema@.apikey_plan NOT NULL DEFAULT 'free',
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CONSTRAINT apikey_org_pkey PRIMARY KEY (org_id)
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
COMMENT ON TABLE apikeys_private.apikey_org IS
'Organizations, the tenants of the product: see apikey_save_org().';

CREATE TABLE apikeys_private.apikey_member (
	org_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL
		CONSTRAINT apikey_member_user_id_check CHECK (apikeys_private.apikey_is_id(user_id)),
	email text NOT NULL,
	role @extschema@.apikey_role NOT NULL DEFAULT 'standard',
	db_role name,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	db_role_oid oid,
	CONSTRAINT apikey_member_pkey PRIMARY KEY (org_id, user_id),
	CONSTRAINT apikey_member_db_role_key UNIQUE (db_role),
	CONSTRAINT apikey_member_org_id_fkey FOREIGN KEY (org_id)
		REFERENCES apikeys_private.apikey_org ON UPDATE CASCADE ON DELETE CASCADE
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
COMMENT ON TABLE apikeys_private.apikey_member IS
'Members of organizations: see apikey_save_member(). Who connects as db_role is the member without further ado.';
COMMENT ON COLUMN apikeys_private.apikey_member.db_role_oid IS
'The role that had the name db_role when that was set; NULL if there was none, or none that can be a member. Only while both agree is the role the member: set db_role again after the role was renamed or made anew. Set by a trigger.';

CREATE SEQUENCE apikeys_private.apikey_key_id_seq AS bigint;
COMMENT ON SEQUENCE apikeys_private.apikey_key_id_seq IS
'Numbers keys and legacy keys.';

CREATE TABLE apikeys_private.apikey_key (
	key_id bigint NOT NULL DEFAULT pg_catalog.nextval('apikeys_private.apikey_key_id_seq'),
	org_id text COLLATE "C" NOT NULL,
	owner_id text COLLATE "C" NOT NULL,
	name text NOT NULL
		CONSTRAINT apikey_key_name_check CHECK (apikeys_private.apikey_is_name(name)),
	level @extschema@.apikey_level NOT NULL,
	digest bytea NOT NULL
		CONSTRAINT apikey_key_digest_check CHECK (pg_catalog.octet_length(digest) OPERATOR(pg_catalog.=) 32),
	suffix text COLLATE "C" NOT NULL
		GENERATED ALWAYS AS (apikeys_private.apikey_digest_suffix(digest)) STORED,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	expires_at timestamptz
		CONSTRAINT apikey_key_expires_at_check CHECK (expires_at OPERATOR(pg_catalog.<) 'infinity'),
	CONSTRAINT apikey_key_pkey PRIMARY KEY (key_id),
	CONSTRAINT apikey_key_digest_excl EXCLUDE USING hash (digest WITH OPERATOR(pg_catalog.=)),
	CONSTRAINT apikey_key_org_id_suffix_key UNIQUE (org_id, suffix),
	CONSTRAINT apikey_key_owner_fkey FOREIGN KEY (org_id, owner_id)
		REFERENCES apikeys_private.apikey_member ON UPDATE CASCADE ON DELETE CASCADE
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
ALTER SEQUENCE apikeys_private.apikey_key_id_seq OWNED BY apikeys_private.apikey_key.key_id;
COMMENT ON TABLE apikeys_private.apikey_key IS
'Keys of members; of a value there is only its SHA-256 digest. Removing the owner removes the key.';
COMMENT ON COLUMN apikeys_private.apikey_key.digest IS
'SHA-256 of every byte of the value before its last slash.';
COMMENT ON COLUMN apikeys_private.apikey_key.suffix IS
'The last 35 bits of the digest in base 32, which the value ends with.';
COMMENT ON COLUMN apikeys_private.apikey_key.expires_at IS
'From then on the key is dead; NULL for never, as which infinity is stored.';

-- Lists, in their orders: whoever shares a date or a name is told apart by the
-- suffix. By suffix there is the unique index.
CREATE INDEX apikey_key_org_id_owner_id_suffix_idx ON apikeys_private.apikey_key (org_id, owner_id, suffix);
COMMENT ON INDEX apikeys_private.apikey_key_org_id_owner_id_suffix_idx IS
'For a member''s own keys, without a look at those of others, and for removing a member.';
CREATE INDEX apikey_key_org_id_created_at_suffix_idx ON apikeys_private.apikey_key (org_id, created_at, suffix);
COMMENT ON INDEX apikeys_private.apikey_key_org_id_created_at_suffix_idx IS
'For an organization''s keys by date.';
CREATE INDEX apikey_key_org_id_name_suffix_idx ON apikeys_private.apikey_key (org_id, name, suffix);
COMMENT ON INDEX apikeys_private.apikey_key_org_id_name_suffix_idx IS
'For an organization''s keys by name.';

CREATE TABLE apikeys_private.apikey_legacy (
	org_id text COLLATE "C" NOT NULL,
	key_id bigint NOT NULL DEFAULT pg_catalog.nextval('apikeys_private.apikey_key_id_seq'),
	digest bytea NOT NULL
		CONSTRAINT apikey_legacy_digest_check CHECK (pg_catalog.octet_length(digest) OPERATOR(pg_catalog.=) 32),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CONSTRAINT apikey_legacy_pkey PRIMARY KEY (org_id),
	CONSTRAINT apikey_legacy_key_id_key UNIQUE (key_id),
	CONSTRAINT apikey_legacy_digest_excl EXCLUDE USING hash (digest WITH OPERATOR(pg_catalog.=)),
	CONSTRAINT apikey_legacy_org_id_fkey FOREIGN KEY (org_id)
		REFERENCES apikeys_private.apikey_org ON UPDATE CASCADE ON DELETE CASCADE
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
COMMENT ON TABLE apikeys_private.apikey_legacy IS
'The one key an organization may have from before members had keys; its level is admin. See apikey_import_legacy().';
COMMENT ON COLUMN apikeys_private.apikey_legacy.digest IS
'SHA-256 of the whole key.';

CREATE TABLE apikeys_private.apikey_capability (
	capability text COLLATE "C" NOT NULL,
	level @extschema@.apikey_level NOT NULL,
	description text,
	CONSTRAINT apikey_capability_pkey PRIMARY KEY (capability)
) WITH (vacuum_truncate = off, toast.vacuum_truncate = off);
COMMENT ON TABLE apikeys_private.apikey_capability IS
'What the product''s endpoints do, and the least level each needs. Yours to fill: see apikey_install_capabilities().';

CREATE TABLE apikeys_private.apikey_usage (
	key_id bigint NOT NULL,
	last_used_at timestamptz NOT NULL,
	last_used_addr inet,
	uses bigint NOT NULL,
	CONSTRAINT apikey_usage_pkey PRIMARY KEY (key_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE apikeys_private.apikey_usage IS
'When, from where and how often keys were used, as far as it has been written: see view apikeys and apikey_usage_flush(). Without foreign keys, so that deleting a key waits for nothing; what is left behind is swept away in the end.';
COMMENT ON COLUMN apikeys_private.apikey_usage.last_used_addr IS
'The client address of the session that verified the key; NULL if local.';

SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_org', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_member', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_key', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_legacy', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_capability', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_usage', '');
SELECT pg_catalog.pg_extension_config_dump('apikeys_private.apikey_key_id_seq', '');
