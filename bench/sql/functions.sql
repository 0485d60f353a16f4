-- The functions of inserver.c; :library is its path.

CREATE FUNCTION bench_value(number bigint) RETURNS text
AS :'library' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION bench_number(rank bigint, keys bigint) RETURNS bigint
AS :'library' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Volatile, lest the planner compute it from a constant.
CREATE FUNCTION bench_key(rank bigint, keys bigint) RETURNS text
AS :'library' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION bench_sample(kind text, count bigint, keys bigint, exponent float8) RETURNS void
AS :'library' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION bench_call(function regprocedure, argument anyelement, kind text, calls bigint, OUT ns float8, OUT yes bigint)
AS :'library' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION bench_query(query text, kind text, calls bigint, OUT ns float8, OUT yes bigint)
AS :'library' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION bench_empty(key text, required apikey_level) RETURNS boolean
AS :'library' LANGUAGE C VOLATILE;

CREATE FUNCTION bench_spi_btree(key text, required apikey_level) RETURNS boolean
AS :'library' LANGUAGE C VOLATILE;
