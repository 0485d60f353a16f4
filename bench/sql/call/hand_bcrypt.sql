-- By hand: the key is found by its first characters, and compared with a
-- bcrypt hash of cost 6 by pgcrypto's crypt().
SELECT hand_bcrypt(:key, 'standard');
