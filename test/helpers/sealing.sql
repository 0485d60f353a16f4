-- What the tests of sealing and database roles begin with: roles, helpers, and
-- members of two organizations, whose keys are :ann and :bob.
CREATE ROLE regress_sealing_both;	-- the application, and a member nevertheless
CREATE ROLE regress_sealing_app;
CREATE ROLE regress_sealing_bob;	-- a member
CREATE ROLE regress_sealing_eve;	-- nobody
CREATE SCHEMA sealing;
GRANT USAGE ON SCHEMA sealing TO PUBLIC;
CREATE FUNCTION sealing.who() RETURNS text LANGUAGE sql PARALLEL SAFE AS $$
	SELECT coalesce(apikey_current_user(), 'nobody') || ' sees ' || (SELECT count(*) FROM apikeys)
$$;
CREATE FUNCTION sealing.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' ', SQLSTATE, SQLERRM);
END $$;
SELECT apikey_save_org('sealing', 'Sealing', 'enterprise'),
	apikey_save_member('sealing', 'ann', 'ann@example.com', 'admin'),
	apikey_save_member('sealing', 'bob', 'bob@example.com', 'standard', 'regress_sealing_bob'),
	apikey_save_member('sealing', 'both', 'both@example.com', 'standard', 'regress_sealing_both'),
	apikey_save_org('other', 'Other', 'free'),
	apikey_grant_application('regress_sealing_both'),
	apikey_grant_application('regress_sealing_app') \gset
BEGIN;
SET LOCAL apikeys.seal_principal = off;
SELECT apikey_act_as('sealing', 'ann'), apikey_create('anns', 'admin') AS ann \gset
SELECT apikey_act_as('sealing', 'bob'), apikey_create('bobs') AS bob \gset
COMMIT;
