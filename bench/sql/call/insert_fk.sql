-- The same with the foreign key to the member.
INSERT INTO plain_key_fk (org_id, owner_id, name, level, digest) VALUES ('large', 'user 1', 'made by bench', 'standard', sha256(convert_to(:key, 'UTF8'))) ON CONFLICT (org_id, suffix) DO NOTHING;
