-- What the tests of the principal begin with: helpers, roles, and members of two
-- organizations with keys, of which :standard is bob's and :admin is ann's.
-- Runs a statement; returns "ok" or the error's SQLSTATE.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- All that the session knows of its principal
CREATE FUNCTION pg_temp.who() RETURNS text LANGUAGE sql AS $$
	SELECT COALESCE(NULLIF(concat_ws(' ', apikey_current_org(), apikey_current_user(), apikey_current_role(),
		'level ' || apikey_current_level(), (SELECT 'suffix' WHERE apikey_current_suffix() IS NOT NULL)), ''), 'nobody')
$$;

CREATE ROLE regress_principal_app;
CREATE ROLE regress_principal_bob;
CREATE ROLE regress_principal_eve;
SELECT apikey_grant_application('regress_principal_app') \gset
SELECT apikey_save_org('principal-one', 'One', 'enterprise'),
	apikey_save_member('principal-one', 'ann', 'ann@one.example', 'admin'),
	apikey_save_member('principal-one', 'arc', 'arc@one.example', 'architect'),
	apikey_save_member('principal-one', 'bob', 'bob@one.example', 'standard', 'regress_principal_bob'),
	apikey_save_member('principal-one', 'gus', 'gus@one.example', 'guest'),
	apikey_save_org('principal-two', 'Two', 'free'),
	apikey_save_member('principal-two', 'ann', 'ann@two.example', 'standard'),
	apikey_import_legacy('principal-two', 'principal-legacy-key') \gset
INSERT INTO apikeys_private.apikey_capability VALUES ('principal_low', 'standard'), ('principal_middle', 'architect'), ('principal_high', 'admin');

SET SESSION AUTHORIZATION regress_principal_app;
CREATE TEMP TABLE made (org text, owner text, level apikey_level, value text);
INSERT INTO made VALUES ('principal-one', 'ann', 'standard'), ('principal-one', 'ann', 'admin'),
	('principal-one', 'arc', 'architect'), ('principal-one', 'bob', 'standard');
DO $$
DECLARE
	m made;
BEGIN
	FOR m IN SELECT * FROM made LOOP
		PERFORM apikey_act_as(m.org, m.owner);
		UPDATE made SET value = apikey_create('key', m.level) WHERE (org, owner, level) = (m.org, m.owner, m.level);
		COMMIT;
	END LOOP;
END $$;
RESET SESSION AUTHORIZATION;
SELECT value AS standard FROM made WHERE owner = 'bob' \gset
SELECT value AS admin FROM made WHERE level = 'admin' \gset
