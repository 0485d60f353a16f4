/*
 * members.c
 *		What the application and the DBA do: organizations, members, legacy
 *		keys, and granting the application its functions.
 *
 * All of it runs as the owner of the tables; who may call what is settled by
 * EXECUTE.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_save_org);
PG_FUNCTION_INFO_V1(apikey_remove_org);
PG_FUNCTION_INFO_V1(apikey_save_member);
PG_FUNCTION_INFO_V1(apikey_remove_member);
PG_FUNCTION_INFO_V1(apikey_import_legacy);
PG_FUNCTION_INFO_V1(apikey_grant_application);
PG_FUNCTION_INFO_V1(apikey_revoke_foreign_grants);

#define MAX_ARGUMENTS 5

/* All arguments as they came. */
static void
copy_arguments(FunctionCallInfo fcinfo, Datum *args, char *nulls)
{
	Assert(PG_NARGS() <= MAX_ARGUMENTS);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		args[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
}

/* An argument that must be given, and be an identifier. */
static Datum
id_argument(FunctionCallInfo fcinfo, int n)
{
	apikey_require_argument(fcinfo, n);
	apikey_check_id(PG_GETARG_DATUM(n));
	return PG_GETARG_DATUM(n);
}

/*
 * apikey_save_org(org_id text, name text, plan apikey_plan) returns void
 *
 * The row is locked first: what "stays as it was" must not come from a row that
 * somebody is removing, or a new organization would have the plan of the old.
 */
Datum
apikey_save_org(PG_FUNCTION_ARGS)
{
	Datum		org_id = id_argument(fcinfo, 0);
	Datum		args[MAX_ARGUMENTS];
	char		nulls[MAX_ARGUMENTS];

	copy_arguments(fcinfo, args, nulls);
	if (apikey_run(STATEMENT_LOCK_ORG_TO_SAVE, &org_id, NULL) == 0)
		apikey_require_argument(fcinfo, 1);
	apikey_run(STATEMENT_SAVE_ORG, args, nulls);
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
	if (apikey_run(STATEMENT_DELETE_ORG, &org_id, NULL) == 0)
		apikey_no_such("organization");
	PG_RETURN_VOID();
}

/*
 * apikey_save_member(org_id text, user_id text, email text,
 * role apikey_role, db_role name) returns void
 *
 * Locked first for the same reason, lest a removed admin come back as one; the
 * organization before the member, as everywhere.
 */
Datum
apikey_save_member(PG_FUNCTION_ARGS)
{
	Datum		args[MAX_ARGUMENTS];
	char		nulls[MAX_ARGUMENTS];
	bool		org_exists;

	(void) id_argument(fcinfo, 0);
	(void) id_argument(fcinfo, 1);
	copy_arguments(fcinfo, args, nulls);
	org_exists = apikey_run(STATEMENT_LOCK_ORG, args, NULL) > 0;
	if (apikey_run(STATEMENT_LOCK_MEMBER_TO_SAVE, args, NULL) == 0)
		apikey_require_argument(fcinfo, 2);
	if (!org_exists)
		apikey_no_such("organization");
	apikey_run(STATEMENT_SAVE_MEMBER, args, nulls);
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
	if (apikey_run(STATEMENT_DELETE_MEMBER, args, NULL) == 0)
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

/* What an application may call, beyond what everybody may. */
static const char *const application_functions[] = {
	"apikey_verify(text)",
	"apikey_check_level(text, %1$s.apikey_level)",
	"apikey_check(text, text)",
	"apikey_me(text)",
	"apikey_inspect(text)",
	"apikey_act_as(text, text, boolean)",
	"apikey_authenticate(text, boolean)",
	"apikey_save_org(text, text, %1$s.apikey_plan)",
	"apikey_remove_org(text)",
	"apikey_save_member(text, text, text, %1$s.apikey_role, name)",
	"apikey_remove_member(text, text)",
};

/*
 * apikey_grant_application(role regrole) returns void
 *
 * Runs as its caller, the owner, who is recorded as the grantor.
 */
Datum
apikey_grant_application(PG_FUNCTION_ARGS)
{
	const char *schema;
	const char *role;
	StringInfoData sql;

	apikey_require_arguments(fcinfo);
	role = GetUserNameFromId(PG_GETARG_OID(0), true);
	if (role == NULL)
		apikey_no_such("role");
	schema = quote_identifier(get_namespace_name(apikey_catalog()->namespace));

	initStringInfo(&sql);
	appendStringInfoString(&sql, "GRANT EXECUTE ON FUNCTION ");
	for (int i = 0; i < (int) lengthof(application_functions); i++)
	{
		appendStringInfo(&sql, "%s%s.", i > 0 ? ", " : "", schema);
		appendStringInfo(&sql, application_functions[i], schema);
	}
	appendStringInfo(&sql, " TO %s", quote_identifier(role));

	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not grant");
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * apikey_revoke_foreign_grants(keep_application boolean) returns bigint
 *
 * Runs as its caller, too.
 */
Datum
apikey_revoke_foreign_grants(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {BOOLOID};
	const char *schema;
	Datum		args[1];
	SPITupleTable *grants;
	int64		count;

	apikey_require_arguments(fcinfo);
	args[0] = PG_GETARG_DATUM(0);
	schema = quote_identifier(get_namespace_name(apikey_catalog()->namespace));
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(psprintf("SELECT statement FROM %s.apikey_foreign_grants($1)",
									   schema),
							  1, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for grants");
	grants = SPI_tuptable;
	count = (int64) grants->numvals;
	for (int64 i = 0; i < count; i++)
		if (SPI_execute(SPI_getvalue(grants->vals[i], grants->tupdesc, 1),
						false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not revoke");
	SPI_finish();
	PG_RETURN_INT64(count);
}
