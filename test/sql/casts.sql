-- Texts where a level, role or plan is wanted, as drivers with typed parameters
-- send them; a text that is no label is told which there are, and not repeated.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- Prepared with the types that JDBC (varchar) and others (text) declare.
PREPARE save_org(varchar, varchar, varchar) AS SELECT apikey_save_org($1, $2, $3);
EXECUTE save_org('casts', 'Casts', 'enterprise');
PREPARE save_member(text, text, text, text) AS SELECT apikey_save_member($1, $2, $3, $4);
EXECUTE save_member('casts', 'ann', 'ann@casts.example', 'admin');
PREPARE save_member_varchar(varchar, varchar, varchar, varchar) AS SELECT apikey_save_member($1, $2, $3, $4);
EXECUTE save_member_varchar('casts', 'bob', 'bob@casts.example', 'architect');
SELECT user_id, role FROM apikeys_private.apikey_member WHERE org_id = 'casts' ORDER BY user_id;

PREPARE creates(varchar, varchar) AS SELECT apikey_create($1, $2) AS value;
PREPARE checks(text, text) AS SELECT apikey_check_level($1, $2);
PREPARE checks_varchar(varchar, varchar) AS SELECT apikey_check_level($1, $2);
PREPARE updates(varchar, varchar, varchar) AS SELECT apikey_update($1, $2, $3);
BEGIN;
SELECT apikey_act_as('casts', 'bob');
EXECUTE creates('key', 'architect') \gset
EXECUTE checks(:'value', 'architect');
EXECUTE checks(:'value', 'admin');
EXECUTE checks_varchar(:'value', 'standard');
SELECT apikey_suffix(:'value') AS suffix \gset
EXECUTE updates(:'suffix', NULL, 'standard');
EXECUTE checks_varchar(:'value', 'architect');
EXECUTE updates(:'suffix', 'renamed', NULL);
SELECT name, level FROM apikeys;
-- comparing with a text takes a cast, as with every enum
PREPARE by_level(text) AS SELECT name FROM apikeys WHERE level = $1::apikey_level;
EXECUTE by_level('standard');
SELECT name FROM apikeys WHERE level = 'standard';
SELECT name FROM apikeys WHERE level >= 'standard' AND level IN ('standard', 'admin');
COMMIT;

-- NULL stays NULL, and is told as such where it cannot be.
SELECT NULL::text::apikey_plan IS NULL AS plan, NULL::varchar::apikey_role IS NULL AS role, NULL::text::apikey_level IS NULL AS level;
EXECUTE checks(:'value', NULL);

-- What is no label: the hint lists them, and nothing repeats the text.
EXECUTE save_org('casts', 'Casts', 'gold');
EXECUTE save_member('casts', 'ann', NULL, 'root');
EXECUTE checks(:'value', :'value');
EXECUTE checks(:'value', '');
SELECT repeat('x', 100000)::apikey_level;
SELECT 'ADMIN'::text::apikey_level;
-- each label there is
SELECT array_agg(t.label::text::apikey_level::text = t.label) FROM unnest(enum_range(NULL::apikey_level)::text[]) AS t (label);
SELECT array_agg(t.label::text::apikey_role::text = t.label) FROM unnest(enum_range(NULL::apikey_role)::text[]) AS t (label);
SELECT array_agg(t.label::varchar::apikey_plan::text = t.label) FROM unnest(enum_range(NULL::apikey_plan)::text[]) AS t (label);
-- a literal is the type's own to read
SELECT apikey_check_level('x', 'root');

SELECT apikey_remove_org('casts');
