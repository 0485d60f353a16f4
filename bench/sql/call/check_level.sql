-- Ours, the hot path.
SELECT apikey_check_level(:key, 'standard');
