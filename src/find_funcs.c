/*
 * find_funcs.c
 *		The SQL-callable functions that find values in texts and tables.
 *
 * What is found is looked up as a key that is presented, but not counted as a
 * use.  A table is read by SPI as the caller, a few rows at a time: whoever may
 * not read it learns nothing.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "apikeys.h"
#include "history.h"

PG_FUNCTION_INFO_V1(apikey_find);
PG_FUNCTION_INFO_V1(apikey_find_in);

/* The columns of both functions; what tells the place comes before them. */
#define FOUND_COLUMNS 5
#define PLACE_COLUMNS 2

#define ROWS_AT_ONCE 100

/* Bytes of what somebody presents as a key by accident, at most. */
#define MAX_MANGLED 8192

/* Add a row for a value that was confirmed, at this character of its text. */
static void
put_found(ReturnSetInfo *result, const char *suffix, int start,
		  const uint8 *digest, const Datum *place)
{
	Datum		values[PLACE_COLUMNS + FOUND_COLUMNS];
	bool		nulls[PLACE_COLUMNS + FOUND_COLUMNS] = {false};
	int			n = place != NULL ? PLACE_COLUMNS : 0;
	ApikeyKey	key = {0};
	ApikeyDeletion deletion;
	ApikeyStatus status = apikey_find_active(SHAPE_NATIVE, digest, &key, NULL);
	const char *name = apikey_status_name(status);

	if (status == STATUS_UNKNOWN &&
		apikey_find_deletion(SHAPE_NATIVE, digest, &deletion))
	{
		name = "deleted";
		key.org_id = deletion.org_id;
		key.owner_id = deletion.owner_id;
	}
	if (n > 0)
		memcpy(values, place, PLACE_COLUMNS * sizeof(Datum));
	values[n] = Int32GetDatum(start);
	values[n + 1] =
		PointerGetDatum(cstring_to_text_with_len(suffix, APIKEY_SUFFIX_LEN));
	values[n + 2] = CStringGetTextDatum(name);
	values[n + 3] = PointerGetDatum(key.org_id);
	nulls[n + 3] = key.org_id == NULL;
	values[n + 4] = PointerGetDatum(key.owner_id);
	nulls[n + 4] = key.owner_id == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Add a row for each value in a text. */
static void
find_in_text(ReturnSetInfo *result, const char *text, size_t len,
			 const Datum *place)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyMatch match;
	size_t		from = 0;
	size_t		counted = 0;	/* bytes whose characters have been */
	int			characters = 0;

	while (apikey_find_match(text, len, &from, &match))
	{
		size_t		prefix_len = apikey_confirm_match(text, &match, digest);
		size_t		start = match.secret - 1 - prefix_len;

		CHECK_FOR_INTERRUPTS();
		if (prefix_len == 0)
			continue;
		characters += pg_mbstrlen_with_len(text + counted, start - counted);
		counted = start;
		put_found(result, text + match.suffix, characters + 1, digest, place);
	}
}

/*
 * apikey_find(txt text) returns setof record
 */
Datum
apikey_find(PG_FUNCTION_ARGS)
{
	text	   *txt;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	txt = PG_GETARG_TEXT_PP(0);
	find_in_text((ReturnSetInfo *) fcinfo->resultinfo,
				 VARDATA_ANY(txt), VARSIZE_ANY_EXHDR(txt), NULL);
	PG_RETURN_NULL();
}

/*
 * Is there a value in a text that is none itself, or does it stop before it is
 * one?  For a text that was presented in vain.
 */
bool
apikey_is_mangled(Datum value)
{
	text	   *txt;
	const char *data;
	size_t		len;
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyMatch match;
	size_t		from = 0;

	if (toast_raw_datum_size(value) > MAX_MANGLED + VARHDRSZ)
		return false;
	txt = DatumGetTextPP(value);
	data = VARDATA_ANY(txt);
	len = VARSIZE_ANY_EXHDR(txt);
	while (apikey_find_match(data, len, &from, &match))
		if (apikey_confirm_match(data, &match, digest) > 0)
			return !apikey_has_native_shape(data, len);
	return apikey_is_cut_short(data, len);
}

/* ----- In a table ----- */

/* Can a column of this type hold a value? */
static bool
can_hold_value(Oid type)
{
	char		category;
	bool		preferred;

	type = getBaseType(type);
	if (type == NAMEOID)
		return true;
	if (get_typlen(type) > 0)
		return false;
	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_USER ||
		category == TYPCATEGORY_ARRAY || category == TYPCATEGORY_COMPOSITE ||
		category == TYPCATEGORY_RANGE;
}

/* May the caller look through all rows of a table? */
static void
check_readable(Relation table)
{
	char	   *name;
	Oid			relid;

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no such table")));
	name = RelationGetRelationName(table);
	relid = RelationGetRelid(table);
	if (table->rd_rel->relkind != RELKIND_RELATION &&
		table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE &&
		table->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table or materialized view", name)));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security hides rows of table \"%s\" from you",
						name)));
}

/* The query that reads all columns to be looked through; NULL without any. */
static char *
query_of_table(Oid relid)
{
	Relation	table = try_relation_open(relid, AccessShareLock);
	TupleDesc	desc;
	char	   *schema;
	char	   *name;
	StringInfoData sql;
	int			ncolumns = 0;

	check_readable(table);
	desc = RelationGetDescr(table);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ctid");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped || !can_hold_value(attr->atttypid))
			continue;
		appendStringInfo(&sql, ", %s",
						 quote_identifier(NameStr(attr->attname)));
		ncolumns++;
	}
	schema = get_namespace_name(RelationGetNamespace(table));
	name = quote_qualified_identifier(schema, RelationGetRelationName(table));
	appendStringInfo(&sql, " FROM %s", name);
	relation_close(table, NoLock);
	return ncolumns > 0 ? sql.data : NULL;
}

/* Look through a column of a row, as the text that it is shown as. */
static void
find_in_column(ReturnSetInfo *result, HeapTuple row, TupleDesc desc,
			   int column, Datum ctid)
{
	Oid			type = getBaseType(SPI_gettypeid(desc, column));
	NameData	name = TupleDescAttr(desc, column - 1)->attname;
	Datum		place[PLACE_COLUMNS] = {NameGetDatum(&name), ctid};
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	if (isnull)
		return;
	/* a bytea is shown in another spelling than it has */
	if (type == TEXTOID || type == VARCHAROID || type == BYTEAOID)
	{
		struct varlena *data = PG_DETOAST_DATUM_PACKED(value);

		find_in_text(result, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data), place);
	}
	else
	{
		char	   *shown = SPI_getvalue(row, desc, column);

		find_in_text(result, shown, strlen(shown), place);
	}
}

/* Look through the rows that SPI has just fetched. */
static void
find_in_rows(ReturnSetInfo *result, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	TupleDesc	desc = SPI_tuptable->tupdesc;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Datum		ctid = SPI_getbinval(row, desc, 1, &isnull);

		for (int column = 2; column <= desc->natts; column++)
			find_in_column(result, row, desc, column, ctid);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
}

/*
 * apikey_find_in(tbl regclass) returns setof record
 */
Datum
apikey_find_in(PG_FUNCTION_ARGS)
{
	char	   *sql;
	SPIParseOpenOptions options = {0};
	Portal		cursor;
	MemoryContext context;

	apikey_require_arguments(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	sql = query_of_table(PG_GETARG_OID(0));
	if (sql == NULL)
		PG_RETURN_NULL();

	SPI_connect();
	context = AllocSetContextCreate(CurrentMemoryContext, "apikey_find_in row",
									ALLOCSET_DEFAULT_SIZES);
	options.read_only = true;
	cursor = SPI_cursor_parse_open(NULL, sql, &options);
	for (;;)
	{
		SPI_cursor_fetch(cursor, true, ROWS_AT_ONCE);
		if (SPI_processed == 0)
			break;
		find_in_rows((ReturnSetInfo *) fcinfo->resultinfo, context);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(cursor);
	SPI_finish();
	PG_RETURN_NULL();
}
