-- Ours, with all that there is to know of the key.
SELECT level >= 'standard' FROM apikey_verify(:key);
