-- Ours: 10,000 keys in one statement.
-- first: SELECT apikey_act_as('large', 'user ' || :client, true)
SELECT count(apikey_create('made by bench ' || i, 'standard')) FROM generate_series(1, 10000) i;
