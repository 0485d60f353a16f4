/*
 * members.c
 *		What the application and the DBA do: organizations, members, legacy
 *		keys.
 *
 * All of it runs as the owner of the tables; who may call what is settled by
 * EXECUTE.
 */
#include "postgres.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_save_org);
PG_FUNCTION_INFO_V1(apikey_remove_org);
PG_FUNCTION_INFO_V1(apikey_save_member);
PG_FUNCTION_INFO_V1(apikey_remove_member);
PG_FUNCTION_INFO_V1(apikey_import_legacy);

/* An argument that must be given, and be an identifier. */
static Datum
id_argument(FunctionCallInfo fcinfo, int n)
{
	apikey_require_argument(fcinfo, n);
	apikey_check_id(PG_GETARG_DATUM(n));
	return PG_GETARG_DATUM(n);
}

/*
 * What the application does to an organization or member waits for nobody who
 * would hold that up (see revoke.c): saving, by a function of its arguments,
 * and removing, by a statement.
 */
static void
save(uint64 (*run) (void *arg), FunctionCallInfo fcinfo, ApikeyStatement find,
	 Datum *args)
{
	ApikeyRevocation revocation = {
		.run = run,
		.arg = fcinfo,
		.find = find,
		.args = args,
		.updates = true
	};

	apikey_revoke(&revocation);
}

static uint64
remove_row(ApikeyStatement statement, ApikeyStatement find, Datum *args)
{
	ApikeyRevocation revocation = {
		.statement = statement,
		.find = find,
		.args = args
	};

	return apikey_revoke(&revocation);
}

/*
 * The row is locked first: what "stays as it was" must not come from a row that
 * somebody is removing, or a new organization would have the plan of the old.
 */
static uint64
save_org(void *arg)
{
	FunctionCallInfo fcinfo = arg;
	char	   *nulls;
	Datum	   *args = apikey_copy_arguments(fcinfo, 0, &nulls);

	if (apikey_run(STATEMENT_LOCK_ORG_TO_SAVE, args, NULL) == 0)
		apikey_require_argument(fcinfo, 1);
	return apikey_run(STATEMENT_SAVE_ORG, args, nulls);
}

/*
 * apikey_save_org(org_id text, name text, plan apikey_plan) returns void
 */
Datum
apikey_save_org(PG_FUNCTION_ARGS)
{
	Datum		org_id = id_argument(fcinfo, 0);

	save(save_org, fcinfo, STATEMENT_FIND_ORG, &org_id);
	PG_RETURN_VOID();
}

/*
 * apikey_remove_org(org_id text) returns void
 */
Datum
apikey_remove_org(PG_FUNCTION_ARGS)
{
	Datum		org_id;

	apikey_require_arguments(fcinfo);
	org_id = PG_GETARG_DATUM(0);
	if (remove_row(STATEMENT_DELETE_ORG, STATEMENT_FIND_ORG_AND_ALL,
				   &org_id) == 0)
		apikey_no_such("organization");
	PG_RETURN_VOID();
}

/*
 * Locked first for the same reason, lest a removed admin come back as one; the
 * organization before the member, as everywhere.  The database role is set by a
 * statement of its own, and only if it is given: setting it, to the same name
 * too, takes the role that has the name now.
 */
static uint64
save_member(void *arg)
{
	FunctionCallInfo fcinfo = arg;
	char	   *nulls;
	Datum	   *args = apikey_copy_arguments(fcinfo, 0, &nulls);
	bool		org_exists;

	org_exists = apikey_run(STATEMENT_LOCK_ORG, args, NULL) > 0;
	if (apikey_run(STATEMENT_LOCK_MEMBER_TO_SAVE, args, NULL) == 0)
		apikey_require_argument(fcinfo, 2);
	if (!org_exists)
		apikey_no_such("organization");
	apikey_run(STATEMENT_SAVE_MEMBER, args, nulls);
	if (!PG_ARGISNULL(4))
	{
		args[2] = PG_GETARG_DATUM(4);
		apikey_run(STATEMENT_SET_DB_ROLE, args, NULL);
	}
	return 1;
}

/*
 * apikey_save_member(org_id text, user_id text, email text,
 * role apikey_role, db_role name) returns void
 */
Datum
apikey_save_member(PG_FUNCTION_ARGS)
{
	Datum		args[2];

	args[0] = id_argument(fcinfo, 0);
	args[1] = id_argument(fcinfo, 1);
	save(save_member, fcinfo, STATEMENT_FIND_MEMBER, args);
	PG_RETURN_VOID();
}

/*
 * apikey_remove_member(org_id text, user_id text) returns void
 */
Datum
apikey_remove_member(PG_FUNCTION_ARGS)
{
	Datum		args[2];

	apikey_require_arguments(fcinfo);
	args[0] = PG_GETARG_DATUM(0);
	args[1] = PG_GETARG_DATUM(1);
	if (remove_row(STATEMENT_DELETE_MEMBER, STATEMENT_FIND_MEMBER_AND_KEYS,
				   args) == 0)
		apikey_no_such("member");
	PG_RETURN_VOID();
}

static void
check_legacy_key(Datum value)
{
	if (apikey_may_be_key(value))
	{
		const		text *key = DatumGetTextPP(value);
		const char *data = VARDATA_ANY(key);
		size_t		len = VARSIZE_ANY_EXHDR(key);

		if (len >= APIKEY_LEGACY_MIN &&
			apikey_is_printable(data, len) &&
			!apikey_has_native_shape(data, len))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid legacy key"),
			 errdetail("A legacy key has %d to %d printable ASCII characters, and not the shape of a native value.",
					   APIKEY_LEGACY_MIN, APIKEY_LEGACY_MAX)));
}

/*
 * apikey_import_legacy(org_id text, key text) returns void
 */
Datum
apikey_import_legacy(PG_FUNCTION_ARGS)
{
	Datum		args[2];

	apikey_require_arguments(fcinfo);
	args[0] = id_argument(fcinfo, 0);
	args[1] = PG_GETARG_DATUM(1);	/* text and bytea are laid out alike */
	check_legacy_key(args[1]);
	if (apikey_run(STATEMENT_LOCK_ORG, args, NULL) == 0)
		apikey_no_such("organization");
	if (apikey_run(STATEMENT_INSERT_LEGACY, args, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("the organization has a legacy key already, or the key is in use")));
	PG_RETURN_VOID();
}
