-- apikey_selfcheck() tells settings that switch a promise off, and those that
-- let values reach the log as parameters.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
LOAD 'apikeys';	-- so that parallel workers have its settings, too
CREATE ROLE regress_selfcheck_app;

-- settings: here, of a role, of this database; those of another do not matter
BEGIN;
SET LOCAL apikeys.seal_principal = off;
ALTER ROLE regress_selfcheck_app SET apikeys.revoke_remote_apply = off;
ALTER DATABASE postgres SET apikeys.seal_principal = off;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ALTER ROLE regress_selfcheck_app SET apikeys.revoke_remote_apply = 'F';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
RESET apikeys.seal_principal;
SELECT format('ALTER DATABASE %I SET apikeys.seal_principal = off', current_database()) \gexec
SELECT format('ALTER ROLE regress_selfcheck_app IN DATABASE %I SET apikeys.seal_principal = off', current_database()) \gexec
SELECT "check", replace(detail, quote_ident(current_database()), 'CURRENT') AS detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

-- logging: each setting that lets bound parameters reach the log
BEGIN;
SET LOCAL log_statement = 'mod';
SET LOCAL log_min_duration_statement = 0;
SET LOCAL log_min_duration_sample = '10s';
SET LOCAL log_transaction_sample_rate = 0.5;
SET LOCAL log_parameter_max_length_on_error = -1;
SET LOCAL debug_print_parse = on;
SET LOCAL debug_print_rewritten = on;
SET LOCAL debug_print_plan = on;
SET LOCAL client_min_messages = error;
CREATE TABLE selfcheck_result AS SELECT * FROM apikey_selfcheck() WHERE NOT ok;
SET LOCAL debug_print_parse = off;
SET LOCAL debug_print_rewritten = off;
SET LOCAL debug_print_plan = off;
SELECT "check", unnest(string_to_array(detail, '; ')) AS detail FROM selfcheck_result;
-- no length, no parameters
SET LOCAL log_parameter_max_length = 0;
SET LOCAL log_parameter_max_length_on_error = 0;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- but of a role only
ALTER ROLE regress_selfcheck_app SET log_parameter_max_length = -1;
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_duration_sample = -1;
SET LOCAL log_transaction_sample_rate = 0;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- statements without parameters, and settings that log none; of a role only
BEGIN;
SET LOCAL log_statement = 'ddl';
SET LOCAL log_duration = on;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ALTER ROLE regress_selfcheck_app SET log_statement = 'ALL';
ALTER ROLE regress_selfcheck_app SET log_transaction_sample_rate = '0.0';
ALTER ROLE regress_selfcheck_app SET debug_print_plan = 'OFF';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- Settings of modules that are not loaded here, as they stand in the file of the
-- server or are given for a role that loads the module.
BEGIN;
SET LOCAL auto_explain.log_min_duration = '250ms';
SET LOCAL pgaudit.log_parameter = 'On';
ALTER ROLE regress_selfcheck_app SET auto_explain.log_min_duration = 0;
ALTER ROLE regress_selfcheck_app SET session_preload_libraries = 'auto_explain';
ALTER ROLE regress_selfcheck_app SET pgaudit.log_parameter = 'yes';
SELECT "check", unnest(string_to_array(detail, '; ')) AS detail FROM apikey_selfcheck() WHERE NOT ok;
-- off, and what is not a value of theirs
SET LOCAL auto_explain.log_min_duration = -1;
SET LOCAL pgaudit.log_parameter = 'of';
ALTER ROLE regress_selfcheck_app SET auto_explain.log_min_duration = '-1';
ALTER ROLE regress_selfcheck_app SET pgaudit.log_parameter = 'NO';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
SET LOCAL pgaudit.log_parameter = 'nonsense';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;
-- set and reset again, they are empty
SET auto_explain.log_min_duration = 0;
RESET auto_explain.log_min_duration;
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
-- plans
LOAD 'auto_explain';
BEGIN;
SET LOCAL auto_explain.log_min_duration = '1min';
SELECT "check", detail FROM apikey_selfcheck() WHERE NOT ok;
ROLLBACK;

DROP ROLE regress_selfcheck_app;
