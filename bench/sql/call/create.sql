-- Ours: a member creates a key.
-- first: SELECT apikey_act_as('large', 'user ' || :client, true)
SELECT apikey_create('made by bench', 'standard');
