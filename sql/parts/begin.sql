-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION apikeys CASCADE" to load this file. \quit

-- Whatever the target schema may hold already: only pg_catalog is searched,
-- and everything of ours is named with its schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Names that are compared or stored below are quoted only if they must be.
SET LOCAL quote_all_identifiers = off;
