/*
 * label.c
 *		Texts as labels of our enums, for the casts.
 *
 * The type is the one that the function returns, so that nothing has to be
 * known of the extension's tables.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_enum.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_to_label);

/* The labels of a type in their order, as a message shows them. */
static char *
list_labels(Oid type)
{
	Relation	rel = table_open(EnumRelationId, AccessShareLock);
	Relation	index = index_open(EnumTypIdSortOrderIndexId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	label;
	StringInfoData list;

	initStringInfo(&list);
	ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(type));
	scan = systable_beginscan_ordered(rel, index, NULL, 1, &key);
	while ((label = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
		appendStringInfo(&list, "%s\"%s\"", list.len > 0 ? ", " : "",
						 NameStr(((Form_pg_enum) GETSTRUCT(label))->enumlabel));
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return list.data;
}

/* A type's name without "apikey_", for a message. */
static const char *
name_of_type(Oid type)
{
	const char *name = format_type_extended(type, -1, 0);
	const char *prefix = strrchr(name, '_');

	return prefix != NULL ? prefix + 1 : name;
}

/*
 * apikey_to_plan(label text) returns apikey_plan, and the like
 *
 * The text is not repeated: it might be a key in the wrong place.
 */
Datum
apikey_to_label(PG_FUNCTION_ARGS)
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
				 errmsg("there is no such %s", name_of_type(type)),
				 errhint("There are: %s.", list_labels(type))));
	PG_RETURN_OID(label);
}
