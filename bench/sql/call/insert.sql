-- A plain INSERT into a table with the same columns and indexes, but without
-- foreign key and triggers. In an organization of 200,000 keys two of the same
-- suffix are to be expected.
INSERT INTO plain_key (org_id, owner_id, name, level, digest) VALUES ('large', 'user 1', 'made by bench', 'standard', sha256(convert_to(:key, 'UTF8'))) ON CONFLICT (org_id, suffix) DO NOTHING;
