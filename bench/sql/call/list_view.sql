-- An admin's first page, by the view.
-- first: SELECT apikey_act_as('large', 'admin', true)
SELECT kind, org_id, owner_id, owner_email, name, level, suffix, created_at, expires_at FROM apikeys ORDER BY :order LIMIT 50;
