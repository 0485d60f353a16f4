-- By hand: the same, which notes the time of use once a minute at most.
SELECT hand_update_minute(:key, 'standard');
