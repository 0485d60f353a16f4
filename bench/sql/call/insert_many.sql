-- 10,000 rows in one plain INSERT.
INSERT INTO plain_key (org_id, owner_id, name, level, digest) SELECT 'large', 'user 1', 'made by bench ' || i, 'standard', sha256(convert_to(:key || i, 'UTF8')) FROM generate_series(1, 10000) i ON CONFLICT (org_id, suffix) DO NOTHING;
