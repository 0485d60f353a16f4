-- What a page costs at least: from the table, which only a superuser can name.
-- user: postgres
SELECT org_id, owner_id, name, level, suffix, created_at, expires_at FROM apikeys_private.apikey_key WHERE org_id = 'large' ORDER BY :order LIMIT 50;
