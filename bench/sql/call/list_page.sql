-- An admin's first page, by apikey_page.
-- first: SELECT apikey_act_as('large', 'admin', true)
SELECT kind, org_id, owner_id, owner_email, name, level, suffix, created_at, expires_at FROM apikey_page(sort => split_part(':order', ' ', 1), descending => ':order' ~ 'DESC');
