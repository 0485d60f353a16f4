-- An admin's first page, from the table.
-- first: SELECT apikey_act_as('large', 'admin', true)
SELECT org_id, owner_id, name, level, suffix, created_at, expires_at FROM apikey_key ORDER BY :order LIMIT 50;
