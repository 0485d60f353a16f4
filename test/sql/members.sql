-- Organizations and members: saving and removing them, the rules of plan and
-- role for the functions, for plain DML and COPY and in replica mode, and what
-- becomes of keys when their owner changes, moves or goes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apikeys CASCADE;
RESET client_min_messages;
SET apikeys.session_principal = on;	-- so that a principal can last
\set SHOW_CONTEXT never
\pset null -

-- Runs a statement; returns "ok" or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- Creates a key that no function would create any more: one of better days.
CREATE FUNCTION pg_temp.history(org text, owner text, name text, level apikey_level) RETURNS void LANGUAGE sql AS $$
	INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, created_at)
	VALUES (org, owner, name, level, sha256(('members ' || name)::bytea), '2020-02-02')
$$;
CREATE FUNCTION pg_temp.keys() RETURNS TABLE (org_id text, owner_id text, name text, level apikey_level) LANGUAGE sql AS $$
	SELECT org_id, owner_id, name, level FROM apikeys_private.apikey_key WHERE org_id LIKE 'members-%' ORDER BY 1, 2, 3
$$;

CREATE ROLE regress_members_app;
CREATE ROLE regress_members_ann;
SELECT apikey_grant_application('regress_members_app') \gset
SET SESSION AUTHORIZATION regress_members_app;

--
-- apikey_save_org: inserts or updates; NULL leaves it, or is "free"
--
SELECT apikey_save_org('members-one', 'One') \gset
SELECT apikey_save_org('members-two', 'Two', 'enterprise') \gset
RESET SESSION AUTHORIZATION;
SELECT org_id, name, plan, created_at BETWEEN now() - interval '1 minute' AND now() AS created FROM apikeys_private.apikey_org WHERE org_id LIKE 'members-%' ORDER BY 1;
CREATE TEMP TABLE org_before AS SELECT org_id, created_at FROM apikeys_private.apikey_org;
SELECT apikey_save_org('members-one', 'Uno', 'mobile') \gset
SELECT org_id, name, plan FROM apikeys_private.apikey_org WHERE org_id = 'members-one';
SELECT apikey_save_org('members-one', NULL) \gset
SELECT org_id, name, plan FROM apikeys_private.apikey_org WHERE org_id = 'members-one';
SELECT apikey_save_org('members-one', NULL, 'business') \gset
SELECT apikey_save_org('members-two', 'Due') \gset
SELECT org_id, name, plan, o.created_at = b.created_at AS same FROM apikeys_private.apikey_org o JOIN org_before b USING (org_id) WHERE org_id LIKE 'members-%' ORDER BY 1;
SELECT pg_temp.try($$SELECT apikey_save_org(NULL, 'x')$$) AS no_id,
	pg_temp.try($$SELECT apikey_save_org('members-new', NULL)$$) AS new_without_name,
	pg_temp.try($$SELECT apikey_save_org('', 'x')$$) AS empty,
	pg_temp.try($$SELECT apikey_save_org(E'a\nb', 'x')$$) AS control,
	pg_temp.try($$SELECT apikey_save_org('members-' || repeat('x', 121), 'x')$$) AS bytes_129,
	pg_temp.try($$SELECT apikey_save_org('members-' || repeat('x', 120), 'x')$$) AS bytes_128,
	pg_temp.try($$SELECT apikey_save_org('members-' || repeat(U&'\00E9', 60), 'x')$$) AS bytes_128_of_68,
	pg_temp.try($$SELECT apikey_save_org('members-' || repeat(U&'\00E9', 61), 'x')$$) AS bytes_130_of_69,
	pg_temp.try($$SELECT apikey_save_org('members-new', 'x', 'platinum')$$) AS no_plan;
SELECT apikey_remove_org('members-' || repeat('x', 120)), apikey_remove_org('members-' || repeat(U&'\00E9', 60)) \gset

--
-- apikey_save_member: inserts or updates; NULL leaves it (saving again never
-- demotes), or is role standard and no database role
--
SET SESSION AUTHORIZATION regress_members_app;
SELECT apikey_save_member('members-two', 'ann', 'ann@two.example') \gset
SELECT apikey_save_member('members-two', 'arc', 'arc@two.example', 'architect', 'regress_members_ann') \gset
SELECT apikey_save_member('members-one', 'ann', 'ann@one.example', 'admin') \gset
RESET SESSION AUTHORIZATION;
CREATE FUNCTION pg_temp.members() RETURNS TABLE (org_id text, user_id text, email text, role apikey_role, db_role name) LANGUAGE sql AS $$
	SELECT org_id, user_id, email, role, db_role FROM apikeys_private.apikey_member WHERE org_id LIKE 'members-%' ORDER BY 1, 2
$$;
SELECT * FROM pg_temp.members();
SELECT apikey_save_member('members-one', 'ann', NULL), apikey_save_member('members-two', 'arc', 'a@two.example') \gset
SELECT * FROM pg_temp.members();
SELECT apikey_save_member('members-one', 'ann', NULL, 'guest'), apikey_save_member('members-two', 'arc', NULL, 'admin') \gset
SELECT * FROM pg_temp.members();
SELECT apikey_save_member('members-two', 'ann', NULL, NULL, 'Not a role yet') \gset
SELECT * FROM pg_temp.members();
-- One database role is one member.
SELECT apikey_save_member('members-one', 'ann', NULL, NULL, 'regress_members_ann');
SELECT pg_temp.try($$SELECT apikey_save_member('members-one', 'new', '', NULL, 'regress_members_ann')$$) AS function,
	pg_temp.try($$UPDATE apikeys_private.apikey_member SET db_role = 'regress_members_ann' WHERE org_id = 'members-two' AND user_id = 'ann'$$) AS dml;
SELECT pg_temp.try($$SELECT apikey_save_member(NULL, 'x', '')$$) AS no_org,
	pg_temp.try($$SELECT apikey_save_member('members-one', NULL, '')$$) AS no_user,
	pg_temp.try($$SELECT apikey_save_member('members-one', 'new', NULL)$$) AS new_without_email,
	pg_temp.try($$SELECT apikey_save_member('members-none', 'x', '')$$) AS unknown_org,
	pg_temp.try($$SELECT apikey_save_member('members-one', '', '')$$) AS empty,
	pg_temp.try($$SELECT apikey_save_member('members-one', E'\x1b', '')$$) AS control,
	pg_temp.try($$SELECT apikey_save_member('members-one', repeat('x', 129), '')$$) AS bytes_129,
	pg_temp.try($$SELECT apikey_save_member('members-one', repeat('x', 128), '')$$) AS bytes_128,
	pg_temp.try($$SELECT apikey_save_member('members-one', 'x', '', 'owner')$$) AS no_role;
SELECT apikey_remove_member('members-one', repeat('x', 128)) \gset
-- saving the same twice in one transaction, and after removal
BEGIN;
SELECT apikey_save_member('members-one', 'new', 'n@one.example'), apikey_save_member('members-one', 'new', 'new@one.example', 'admin'),
	apikey_remove_member('members-one', 'new'), apikey_save_member('members-one', 'new', 'new@one.example') \gset
COMMIT;
SELECT * FROM pg_temp.members() WHERE user_id = 'new';

--
-- Role architect needs plan enterprise, whoever asks.
--
SELECT apikey_save_member('members-one', 'new', NULL, 'architect');
SELECT pg_temp.try($$SELECT apikey_save_member('members-one', 'arc', '', 'architect')$$) AS insert,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('members-one', 'arc', '', 'architect')$$) AS dml_insert,
	pg_temp.try($$UPDATE apikeys_private.apikey_member SET role = 'architect' WHERE org_id = 'members-one' AND user_id = 'new'$$) AS dml_update,
	pg_temp.try($$UPDATE apikeys_private.apikey_member SET role = 'architect' WHERE org_id IN ('members-one', 'members-two')$$) AS dml_some,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email) VALUES ('members-none', 'arc', '')$$) AS no_org,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('members-none', 'arc', '', 'architect')$$) AS no_org_architect;
COPY apikeys_private.apikey_member (org_id, user_id, email, role) FROM stdin;
members-two	arc2	arc2@two.example	architect
members-one	arc	arc@one.example	architect
\.
COPY apikeys_private.apikey_member (org_id, user_id, email, role) FROM stdin;
members-two	arc1	arc1@two.example	architect
members-two	arc2	arc2@two.example	architect
\.
-- An architect cannot move to where there is none.
SELECT pg_temp.try($$UPDATE apikeys_private.apikey_member SET org_id = 'members-one' WHERE org_id = 'members-two' AND user_id = 'arc1'$$) AS architect,
	pg_temp.try($$UPDATE apikeys_private.apikey_member SET org_id = 'members-one', role = 'standard' WHERE org_id = 'members-two' AND user_id = 'arc1'$$) AS otherwise;
SELECT * FROM pg_temp.members() WHERE user_id LIKE 'arc%';
SELECT apikey_remove_member('members-one', 'arc1') \gset

-- A plan cannot leave enterprise while members have the role; the error names
-- how many.
SELECT apikey_save_org('members-two', NULL, 'advanced');
SELECT apikey_save_member('members-two', 'arc1', '', 'architect') \gset
SELECT apikey_save_org('members-two', NULL, 'free');
UPDATE apikeys_private.apikey_org SET plan = 'free' WHERE org_id = 'members-two';
SELECT p, pg_temp.try(format('UPDATE apikeys_private.apikey_org SET plan = %L WHERE org_id = %L', p, 'members-two')) FROM unnest(enum_range(NULL::apikey_plan)) p;
SELECT pg_temp.try($$SELECT apikey_save_org('members-two', 'Dos')$$) AS only_the_name,
	pg_temp.try($$UPDATE apikeys_private.apikey_org SET org_id = 'members-zwei', plan = 'free' WHERE org_id = 'members-two'$$) AS with_another_id;
SELECT org_id, name, plan FROM apikeys_private.apikey_org WHERE org_id LIKE 'members-%' ORDER BY 1;
-- Keys of the level do not count, and keep working.
SELECT apikey_act_as('members-two', 'arc1', session => true) \gset
SELECT apikey_create('architect', 'architect') AS architect \gset
RESET apikeys.principal;
SELECT apikey_save_member('members-two', 'arc1', NULL, 'standard'), apikey_save_member('members-two', 'arc2', NULL, 'standard') \gset
SELECT apikey_save_org('members-two', NULL, 'business') \gset
SELECT org_id, name, plan FROM apikeys_private.apikey_org WHERE org_id = 'members-two';
SELECT apikey_check_level(:'architect', 'architect'), (SELECT level FROM apikey_verify(:'architect')), apikey_me(:'architect')->>'role' AS role;
SELECT pg_temp.try($$SELECT apikey_save_member('members-two', 'arc1', NULL, 'architect')$$);
-- Both ways in one transaction
BEGIN;
SELECT apikey_save_org('members-two', NULL, 'enterprise'), apikey_save_member('members-two', 'arc1', NULL, 'architect') \gset
SELECT pg_temp.try($$SELECT apikey_save_org('members-two', NULL, 'free')$$);
SELECT apikey_save_member('members-two', 'arc1', NULL, 'guest') \gset
SELECT pg_temp.try($$SELECT apikey_save_org('members-two', NULL, 'free')$$);
COMMIT;
SELECT * FROM pg_temp.members() WHERE user_id = 'arc1';

--
-- Keys stay as they are when the role changes, and go with their owner. Who is
-- added again starts with none.
--
SELECT apikey_save_member('members-one', 'ann', NULL, 'admin') \gset
SELECT apikey_act_as('members-one', 'ann', session => true) \gset
SELECT apikey_create('one', 'admin') AS one, apikey_create('two') AS two \gset
RESET apikeys.principal;
SELECT r, pg_temp.try(format('SELECT apikey_save_member(%L, %L, NULL, %L)', 'members-one', 'ann', r)) AS saved,
	apikey_check_level(:'one', 'admin') AS one, apikey_check_level(:'two', 'standard') AS two
FROM unnest(enum_range(NULL::apikey_role)) r WHERE r <> 'architect';
SELECT apikey_save_member('members-one', 'ann', NULL, 'guest') \gset
SELECT * FROM pg_temp.keys();
SET SESSION AUTHORIZATION regress_members_app;
BEGIN;
SELECT apikey_remove_member('members-one', 'ann') \gset
SELECT apikey_check_level(:'one', 'standard') AS one, apikey_check_level(:'two', 'standard') AS two;
ROLLBACK;
SELECT apikey_check_level(:'one', 'admin') AS one, apikey_check_level(:'two', 'standard') AS two;
SELECT apikey_remove_member('members-one', 'ann') \gset
SELECT apikey_check_level(:'one', 'standard') AS one, apikey_check_level(:'two', 'standard') AS two, status FROM apikey_inspect(:'one');
SELECT apikey_save_member('members-one', 'ann', 'ann@one.example', 'admin') \gset
SELECT apikey_check_level(:'one', 'standard') AS one, apikey_check_level(:'two', 'standard') AS two;
BEGIN;
SELECT apikey_act_as('members-one', 'ann') \gset
SELECT count(*) FROM apikeys;
COMMIT;
-- Removing what is not there
SELECT apikey_remove_member('members-one', 'nemo');
SELECT apikey_remove_org('members-none');
SELECT pg_temp.try($$SELECT apikey_remove_member('members-none', 'ann')$$) AS no_org, pg_temp.try($$SELECT apikey_remove_member(NULL, 'ann')$$) AS null_org,
	pg_temp.try($$SELECT apikey_remove_member('members-one', NULL)$$) AS null_user, pg_temp.try($$SELECT apikey_remove_org(NULL)$$) AS null_org;
RESET SESSION AUTHORIZATION;
-- An organization goes with everything in it, and takes nothing else along.
SELECT apikey_import_legacy('members-one', 'members-legacy-key') \gset
SELECT pg_temp.history('members-one', 'ann', 'gone', 'admin') \gset
SELECT apikey_remove_org('members-one') \gset
SELECT (SELECT count(*) FROM apikeys_private.apikey_org WHERE org_id = 'members-one') AS orgs, (SELECT count(*) FROM apikeys_private.apikey_member WHERE org_id = 'members-one') AS members,
	(SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'members-one') AS keys, (SELECT count(*) FROM apikeys_private.apikey_legacy WHERE org_id = 'members-one') AS legacy,
	apikey_check_level('members-legacy-key', 'standard') AS works;
SELECT * FROM pg_temp.keys();
SELECT apikey_check_level(:'architect', 'architect');
-- The same by plain DML
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'members-two' AND user_id = 'arc1';
SELECT apikey_check_level(:'architect', 'architect');
SELECT pg_temp.history('members-two', 'ann', 'gone', 'admin') \gset
DELETE FROM apikeys_private.apikey_org WHERE org_id = 'members-two';
SELECT * FROM pg_temp.members();
SELECT * FROM pg_temp.keys();

--
-- A changed identifier is carried along, with keys above the owner's role, of a
-- level off its plan and of guests; a principal by the old one is nobody.
--
SELECT apikey_save_org('members-old', 'Old', 'enterprise'),
	apikey_save_member('members-old', 'ann', 'ann@old.example', 'admin', 'regress_members_ann'),
	apikey_save_member('members-old', 'arc', 'arc@old.example', 'architect'),
	apikey_save_member('members-old', 'gus', 'gus@old.example', 'guest'),
	apikey_import_legacy('members-old', 'members-legacy-key'),
	pg_temp.history('members-old', 'arc', 'above', 'admin'), pg_temp.history('members-old', 'gus', 'guests', 'admin'),
	pg_temp.history('members-old', 'gus', 'off plan', 'architect') \gset
SET SESSION AUTHORIZATION regress_members_ann;
SELECT apikey_create('used', 'admin') AS used \gset
RESET SESSION AUTHORIZATION;
SELECT apikey_act_as('members-old', 'ann', session => true) \gset
SELECT apikey_current_org(), apikey_current_user();
UPDATE apikeys_private.apikey_member SET user_id = 'anna' WHERE org_id = 'members-old' AND user_id = 'ann';
SELECT apikey_current_org(), apikey_current_user();
RESET apikeys.principal;
SELECT user_id FROM apikey_verify(:'used');
UPDATE apikeys_private.apikey_org SET org_id = 'members-new' WHERE org_id = 'members-old';
SELECT org_id, user_id, level, name FROM apikey_verify(:'used');
SELECT org_id, legacy FROM apikey_verify('members-legacy-key');
SET SESSION AUTHORIZATION regress_members_ann;
SELECT apikey_current_org(), apikey_current_user();
RESET SESSION AUTHORIZATION;
UPDATE apikeys_private.apikey_member SET user_id = upper(user_id) WHERE org_id = 'members-new';
SELECT * FROM pg_temp.members();
SELECT * FROM pg_temp.keys();
-- a member who takes its keys to another organization, below its plan
SELECT apikey_save_org('members-free', 'Free') \gset
UPDATE apikeys_private.apikey_member SET org_id = 'members-free' WHERE org_id = 'members-new' AND user_id = 'GUS';
SELECT * FROM pg_temp.keys();
SELECT count(*) FROM apikeys_private.apikey_key k WHERE org_id LIKE 'members-%'
	AND NOT EXISTS (SELECT FROM apikeys_private.apikey_member m WHERE (m.org_id, m.user_id) = (k.org_id, k.owner_id));

--
-- In replica mode foreign keys sleep. The rules hold all the same; what goes
-- takes its keys along, what moves carries them.
--
SET session_replication_role = replica;
SELECT pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('members-free', 'x', '', 'architect')$$) AS role_off_plan,
	pg_temp.try($$UPDATE apikeys_private.apikey_member SET role = 'architect' WHERE org_id = 'members-free'$$) AS update_off_plan,
	pg_temp.try($$UPDATE apikeys_private.apikey_org SET plan = 'free' WHERE org_id = 'members-new'$$) AS plan_in_use,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('members-new', 'ARC', 'x', 'admin', sha256('members'))$$) AS level_above,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('members-free', 'GUS', 'x', 'standard', sha256('members'))$$) AS guest,
	pg_temp.try($$UPDATE apikeys_private.apikey_key SET level = 'admin' WHERE org_id = 'members-free' AND name = 'off plan'$$) AS raised;
-- rows of a table that is copied before the other
BEGIN;
SELECT pg_temp.try($$INSERT INTO apikeys_private.apikey_member (org_id, user_id, email, role) VALUES ('members-later', 'x', '', 'architect')$$) AS member_before_org,
	pg_temp.try($$INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest) VALUES ('members-later', 'y', 'x', 'admin', sha256('members'))$$) AS key_before_member;
ROLLBACK;
-- moving
UPDATE apikeys_private.apikey_member SET user_id = lower(user_id) WHERE org_id = 'members-new';
UPDATE apikeys_private.apikey_org SET org_id = 'members-moved' WHERE org_id = 'members-new';
SELECT * FROM pg_temp.members();
SELECT * FROM pg_temp.keys();
SELECT org_id, user_id FROM apikey_verify(:'used') UNION ALL SELECT org_id, user_id FROM apikey_verify('members-legacy-key');
SELECT apikey_save_member('members-free', 'GUS', 'same@free.example', 'guest') \gset
SELECT count(*) FROM apikeys_private.apikey_key WHERE org_id = 'members-free';
-- removing, by function and by plain DML
SELECT apikey_remove_member('members-free', 'GUS') \gset
DELETE FROM apikeys_private.apikey_member WHERE org_id = 'members-moved' AND user_id = 'anna';
SELECT * FROM pg_temp.keys();
SELECT apikey_check_level(:'used', 'standard') AS used, apikey_check_level('members-legacy-key', 'standard') AS legacy;
DELETE FROM apikeys_private.apikey_org WHERE org_id = 'members-moved';
SELECT * FROM pg_temp.members();
SELECT * FROM pg_temp.keys();
SELECT apikey_check_level('members-legacy-key', 'standard') AS legacy, (SELECT count(*) FROM apikeys_private.apikey_legacy WHERE org_id LIKE 'members-%');
RESET session_replication_role;

--
-- Capabilities: the owner's; what is there is left
--
SET SESSION AUTHORIZATION regress_members_app;
SELECT apikey_install_capabilities();
RESET SESSION AUTHORIZATION;
BEGIN;
DELETE FROM apikeys_private.apikey_capability;
INSERT INTO apikeys_private.apikey_capability VALUES ('export_user_data', 'admin', 'ours'), ('our_own', 'standard', NULL);
SELECT apikey_install_capabilities();
SELECT capability, level, description IS NOT NULL AS described FROM apikeys_private.apikey_capability ORDER BY level, capability;
SELECT description FROM apikeys_private.apikey_capability WHERE capability = 'export_user_data';
SELECT apikey_install_capabilities();
DELETE FROM apikeys_private.apikey_capability WHERE level = 'admin';
SELECT apikey_install_capabilities();
ROLLBACK;

SELECT apikey_remove_org(org_id) FROM apikeys_private.apikey_org WHERE org_id LIKE 'members-%' \g /dev/null
DROP OWNED BY regress_members_app, regress_members_ann;
DROP ROLE regress_members_app, regress_members_ann;
