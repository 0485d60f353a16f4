-- The same by a superuser, whom row-level security does not concern.
-- user: postgres
SELECT org_id, owner_id, name, level, suffix, created_at, expires_at FROM apikey_key WHERE org_id = 'large' ORDER BY :order LIMIT 50;
