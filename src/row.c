/*
 * row.c
 *		Rows that functions return, put together by the names of their columns.
 *
 * So the order of columns is the script's, and what is shown of a key is told
 * by tables.h alone.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "tables.h"

/* The row type of the function called, looked up once for each call site. */
TupleDesc
apikey_result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (desc != NULL)
		return desc;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

/* A new row, whose columns are NULL. */
void
apikey_begin_row(ApikeyRow *row, TupleDesc desc)
{
	row->desc = desc;
	row->values = palloc0(desc->natts * sizeof(Datum));
	row->nulls = palloc(desc->natts * sizeof(bool));
	memset(row->nulls, true, desc->natts * sizeof(bool));
}

/* The number of a column, from 0; -1 if there is none of this name. */
static int
find_column(const ApikeyRow *row, const char *name)
{
	for (int i = 0; i < row->desc->natts; i++)
		if (namestrcmp(&TupleDescAttr(row->desc, i)->attname, name) == 0)
			return i;
	return -1;
}

void
apikey_set(ApikeyRow *row, const char *name, Datum value)
{
	int			i = find_column(row, name);

	if (i < 0)
		apikey_not_as_installed("column", name);
	row->values[i] = value;
	row->nulls[i] = false;
}

void
apikey_set_text(ApikeyRow *row, const char *name, const text *value)
{
	if (value != NULL)
		apikey_set(row, name, PointerGetDatum(value));
}

/*
 * All that is shown of a member's key and that the row has a column for.  What
 * is by reference is copied.
 */
void
apikey_show_key(ApikeyRow *row, TupleTableSlot *key)
{
	const TableSpec *table = &apikey_tables[TABLE_KEY];

	for (int i = 0; i < table->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(key->tts_tupleDescriptor, i);
		bool		isnull;
		Datum		value;
		int			n;

		if (!(table->columns[i].flags & SHOWN))
			continue;
		n = find_column(row, table->columns[i].name);
		value = slot_getattr(key, i + 1, &isnull);
		if (n < 0 || isnull)
			continue;
		row->values[n] = datumCopy(value, attr->attbyval, attr->attlen);
		row->nulls[n] = false;
	}
}

/* The same of a legacy key, which has little to show. */
void
apikey_show_legacy_key(ApikeyRow *row, const ApikeyKey *key)
{
	apikey_set_text(row, "org_id", key->org_id);
	apikey_set(row, "level",
			   ObjectIdGetDatum(apikey_catalog()->levels[key->grant.level]));
	apikey_set(row, "created_at", TimestampTzGetDatum(key->created_at));
}

Datum
apikey_row_datum(const ApikeyRow *row)
{
	return HeapTupleGetDatum(heap_form_tuple(row->desc, row->values,
											 row->nulls));
}
