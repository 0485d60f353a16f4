-- The same by a superuser, whom row-level security does not concern.
-- user: postgres
SELECT kind, org_id, owner_id, owner_email, name, level, suffix, created_at, expires_at FROM apikeys WHERE org_id = 'large' ORDER BY :order LIMIT 50;
