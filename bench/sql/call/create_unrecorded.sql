-- Ours: a member creates a key, and no event is written of it.
-- first: SELECT apikey_act_as('large', 'user ' || :client, true), set_config('apikeys.history', 'off', false)
SELECT apikey_create('made by bench', 'standard');
