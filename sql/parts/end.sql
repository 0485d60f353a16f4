--
-- Privileges, whatever the defaults of the installing role are; and a record of
-- all that was made. Scripts of later versions end with the same.
--

SELECT apikeys_private.apikey_apply_grants(false);
SELECT apikeys_private.apikey_record_definitions();
