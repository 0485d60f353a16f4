-- A plain INSERT into a table with the same columns and indexes, but without
-- foreign key and triggers.
INSERT INTO plain_key (org_id, owner_id, name, level, digest) VALUES ('large', 'user 1', 'made by bench', 'standard', sha256(convert_to(:key, 'UTF8')));
