/*
 * grants.c
 *		Privileges on the extension's objects, and who must own what it needs.
 *
 * What to grant, revoke and refuse is told by functions of the script
 * (sql/parts/grants.sql); here it is done.  All of it runs as its caller, the
 * owner, who is recorded as the grantor.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_apply_grants);
PG_FUNCTION_INFO_V1(apikey_grant_application);
PG_FUNCTION_INFO_V1(apikey_require_own_pgcrypto);

/* Runs a query that has one argument or none. */
static void
look_up(const char *query, Oid type, Datum arg)
{
	int			nargs = OidIsValid(type) ? 1 : 0;

	if (SPI_execute_with_args(query, nargs, &type, &arg, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for privileges");
}

/*
 * Runs the statements that a query with one argument returns; tells how many.
 * They see what the ones before have done, and so does the query: the list may
 * be asked in the command that made an object.
 */
static int64
run_statements(const char *query, Oid type, Datum arg)
{
	SPITupleTable *statements;
	int64		count;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	look_up(query, type, arg);
	statements = SPI_tuptable;
	count = (int64) statements->numvals;
	for (int64 i = 0; i < count; i++)
	{
		const char *statement = SPI_getvalue(statements->vals[i],
											 statements->tupdesc, 1);

		if (statement == NULL)
			elog(ERROR, "an object of extension apikeys that privileges are listed for is missing");
		if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not grant or revoke");
	}
	SPI_finish();
	return count;
}

/*
 * apikey_apply_grants(keep_application boolean) returns bigint
 */
Datum
apikey_apply_grants(PG_FUNCTION_ARGS)
{
	apikey_require_arguments(fcinfo);
	PG_RETURN_INT64(run_statements("SELECT statement FROM apikeys_private.apikey_grant_differences($1)",
								   BOOLOID, PG_GETARG_DATUM(0)));
}

/*
 * apikey_grant_application(role regrole) returns void
 */
Datum
apikey_grant_application(PG_FUNCTION_ARGS)
{
	apikey_require_arguments(fcinfo);
	if (GetUserNameFromId(PG_GETARG_OID(0), true) == NULL)
		apikey_no_such("role");
	(void) run_statements("SELECT statement FROM apikeys_private.apikey_application_grants($1)",
						  REGROLEOID, PG_GETARG_DATUM(0));
	PG_RETURN_VOID();
}

/*
 * apikey_require_own_pgcrypto() returns void
 */
Datum
apikey_require_own_pgcrypto(APIKEY_NO_ARGS)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	look_up("SELECT owner FROM apikeys_private.apikey_foreign_owners()"
			" WHERE object OPERATOR(pg_catalog.=) 'extension pgcrypto'",
			InvalidOid, (Datum) 0);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension pgcrypto belongs to %s, who is no superuser",
						SPI_getvalue(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1)),
				 errdetail("Whoever owns it can drop it, and with it extension apikeys and all keys."),
				 errhint("Drop it, and create it as the role that creates extension apikeys.")));
	SPI_finish();
	PG_RETURN_VOID();
}
