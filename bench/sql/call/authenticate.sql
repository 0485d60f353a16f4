-- Ours, the whole request: the key becomes the principal, and the policy on
-- the product's own table lets it see what its organization has.
BEGIN;
SELECT apikey_authenticate(:key);
SELECT count(*) = 1 FROM bench_document;
COMMIT;
