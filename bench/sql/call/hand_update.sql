-- By hand: the same, which notes the time of every use.
SELECT hand_update(:key, 'standard');
