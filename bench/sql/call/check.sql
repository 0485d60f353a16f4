-- Ours, by capability.
SELECT apikey_check(:key, 'send_events');
