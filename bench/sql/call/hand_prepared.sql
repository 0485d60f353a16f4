-- By hand: a prepared query on a btree, with the built-in sha256().
SELECT level >= 'standard' FROM hand_key WHERE digest = sha256(convert_to(:key, 'UTF8')) AND expires_at > now();
