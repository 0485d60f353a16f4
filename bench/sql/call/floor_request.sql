-- The floor of a whole request: as many statements, but no key is looked up,
-- and instead of a policy the query names the organization.
-- user: postgres
BEGIN;
SELECT :key::text;
SELECT count(*) = 1 FROM bench_document WHERE org_id = 'org 1';
COMMIT;
