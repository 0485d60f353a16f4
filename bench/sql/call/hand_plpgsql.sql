-- By hand: PL/pgSQL with pgcrypto's digest().
SELECT hand_plpgsql(:key, 'standard');
