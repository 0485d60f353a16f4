-- Organizations, members and keys; :keys is the number of keys. One large
-- organization has 100,000 of them (or half, if there are not so many), spread
-- over the table as keys are that were created over years.

-- Foreign keys are not checked row by row.
SET session_replication_role = replica;

\set organizations greatest(:keys / 100, 1)
\set step greatest(least(:keys / 100000, 10), 2)

INSERT INTO apikeys_private.apikey_org (org_id, name, plan)
SELECT 'large', 'A large organization', 'enterprise'::apikey_plan
UNION ALL
SELECT 'org ' || i, 'Organization ' || i, 'enterprise' FROM generate_series(1, :organizations) i;

INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role)
SELECT 'large', 'admin', 'admin@example.com', 'admin'::apikey_role
UNION ALL
SELECT 'large', 'user ' || i, 'user' || i || '@example.com', 'standard' FROM generate_series(1, 100) i
UNION ALL
SELECT 'org ' || i, 'user ' || j, 'user' || j || '@example.com', 'standard'
FROM generate_series(1, :organizations) i, generate_series(1, 10) j;

-- Indexes and constraints are made when the rows are there, and as they were.
-- Triggers cannot do without them.
CREATE TEMPORARY TABLE index_definition AS
SELECT format('ALTER TABLE apikeys_private.apikey_key DROP CONSTRAINT %I', conname) AS remove,
	format('ALTER TABLE apikeys_private.apikey_key ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) AS make
FROM pg_constraint WHERE conrelid = 'apikeys_private.apikey_key'::regclass AND contype IN ('u', 'x')
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = 'apikeys_private.apikey_key'::regclass AND indexrelid NOT IN
	(SELECT conindid FROM pg_constraint WHERE conrelid = 'apikeys_private.apikey_key'::regclass);
SELECT remove FROM index_definition \gexec

CREATE TEMPORARY TABLE trigger_definition AS
SELECT format('ALTER TABLE apikeys_private.apikey_key DISABLE TRIGGER %I', tgname) AS remove,
	format('ALTER TABLE apikeys_private.apikey_key ENABLE %s TRIGGER %I',
		CASE tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' END, tgname) AS make
FROM pg_trigger WHERE tgrelid = 'apikeys_private.apikey_key'::regclass AND NOT tgisinternal;
SELECT remove FROM trigger_definition \gexec

CREATE TABLE hand_key (
	id bigint NOT NULL,
	org_id text COLLATE "C" NOT NULL,
	owner_id text COLLATE "C" NOT NULL,
	name text NOT NULL,
	level apikey_level NOT NULL,
	digest bytea NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL
);

CREATE VIEW bench_row AS
SELECT i AS id,
	CASE WHEN i % :step = 0 AND i <= 1000000 THEN 'large' ELSE 'org ' || i * 7919 % :organizations + 1 END AS org_id,
	CASE WHEN i % :step = 0 AND i <= 1000000 THEN 'user ' || i / :step % 100 + 1 ELSE 'user ' || i % 10 + 1 END AS owner_id,
	'integration ' || i * 7927 % 1009 AS name,
	(CASE WHEN i % 5 = 0 THEN 'admin' ELSE 'standard' END)::apikey_level AS level,
	bench_value(i) AS value,
	'2024-01-01'::timestamptz + i * '1 second'::interval AS created_at
FROM generate_series(1::bigint, :keys) i;

-- In the transaction that made or emptied a table, rows need no WAL.
BEGIN;
TRUNCATE apikeys_private.apikey_key;
INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
SELECT org_id, owner_id, name, level,
	sha256(convert_to(left(value, -8), 'UTF8')), created_at
FROM bench_row;
COMMIT;

BEGIN;
TRUNCATE hand_key;
INSERT INTO hand_key (id, org_id, owner_id, name, level, digest, created_at, expires_at)
SELECT id, org_id, owner_id, name, level,
	sha256(convert_to(value, 'UTF8')), created_at, 'infinity'
FROM bench_row;
COMMIT;

SELECT make FROM index_definition \gexec
SELECT make FROM trigger_definition \gexec
ALTER TABLE hand_key ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX hand_key_digest_idx ON hand_key (digest);
GRANT SELECT ON hand_key TO bench_app;
