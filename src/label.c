/*
 * label.c
 *		Texts as labels of our enums, for the casts.
 *
 * The type is the one that the function returns, so that nothing has to be
 * known of the extension's tables.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_to_plan);
PG_FUNCTION_INFO_V1(apikey_to_role);
PG_FUNCTION_INFO_V1(apikey_to_level);

static int
by_order(const ListCell *a, const ListCell *b)
{
	const		FormData_pg_enum *left = lfirst(a);
	const		FormData_pg_enum *right = lfirst(b);

	return (left->enumsortorder > right->enumsortorder) -
		(left->enumsortorder < right->enumsortorder);
}

/* The labels of a type in their order, as a message shows them. */
static char *
list_labels(Oid type)
{
	CatCList   *rows = SearchSysCacheList1(ENUMTYPOIDNAME,
										   ObjectIdGetDatum(type));
	List	   *labels = NIL;
	ListCell   *cell;
	StringInfoData list;

	for (int i = 0; i < rows->n_members; i++)
		labels = lappend(labels, GETSTRUCT(&rows->members[i]->tuple));
	list_sort(labels, by_order);
	initStringInfo(&list);
	foreach(cell, labels)
	{
		const		FormData_pg_enum *label = lfirst(cell);

		appendStringInfo(&list, "%s\"%s\"", list.len > 0 ? ", " : "",
						 NameStr(label->enumlabel));
	}
	ReleaseCatCacheList(rows);
	return list.data;
}

/* The text is not repeated: it might be a key in the wrong place. */
static Datum
to_label(FunctionCallInfo fcinfo, const char *what)
{
	Datum		arg = PG_GETARG_DATUM(0);
	Oid			type = get_func_rettype(fcinfo->flinfo->fn_oid);
	Oid			label = InvalidOid;

	if (!type_is_enum(type))
		elog(ERROR, "function %u does not return an enum",
			 fcinfo->flinfo->fn_oid);
	if (toast_raw_datum_size(arg) < NAMEDATALEN + VARHDRSZ)
		label = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
								ObjectIdGetDatum(type),
								CStringGetDatum(TextDatumGetCString(arg)));
	if (!OidIsValid(label))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no such %s", what),
				 errhint("There are: %s.", list_labels(type))));
	PG_RETURN_OID(label);
}

/*
 * apikey_to_plan(label text) returns apikey_plan
 */
Datum
apikey_to_plan(PG_FUNCTION_ARGS)
{
	return to_label(fcinfo, "plan");
}

/*
 * apikey_to_role(label text) returns apikey_role
 */
Datum
apikey_to_role(PG_FUNCTION_ARGS)
{
	return to_label(fcinfo, "role");
}

/*
 * apikey_to_level(label text) returns apikey_level
 */
Datum
apikey_to_level(PG_FUNCTION_ARGS)
{
	return to_label(fcinfo, "level");
}
