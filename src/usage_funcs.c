/*
 * usage_funcs.c
 *		The SQL-callable functions that tell of usage: what has been written to
 *		apikey_usage and what is still in shared memory, together.
 *
 * While a batch is being written its counts may for a moment be seen in both
 * or in neither.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(apikey_last_used_at);
PG_FUNCTION_INFO_V1(apikey_uses);
PG_FUNCTION_INFO_V1(apikey_checked_interval);
PG_FUNCTION_INFO_V1(apikey_stats_read);

void
apikey_require_usage(void)
{
	if (usage_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage of keys is not counted"),
				 errhint("Add \"apikeys\" to shared_preload_libraries, and see setting apikeys.usage_max_keys.")));
}

/*
 * The principal, asked for once for each call site and execution: the views
 * call for every row.
 */
static const ApikeyActor *
actor_of_call(FunctionCallInfo fcinfo)
{
	ApikeyActor *actor = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (actor == NULL)
	{
		old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		actor = palloc(sizeof(ApikeyActor));
		(void) apikey_actor(actor);
		MemoryContextSwitchTo(old);
		fcinfo->flinfo->fn_extra = actor;
	}
	return actor;
}

/*
 * The id of a key that the principal may see, by its suffix, or of the
 * organization's legacy key if that is NULL.
 */
static bool
find_visible_key(FunctionCallInfo fcinfo, int64 *key_id)
{
	const ApikeyActor *actor = actor_of_call(fcinfo);
	text	   *owner_id;

	if (!apikey_manages_keys(actor))
		return false;
	if (PG_ARGISNULL(0))
		return apikey_manages_all(actor) &&
			apikey_find_legacy_id(PointerGetDatum(actor->org_id), key_id);
	if (!apikey_find_listed(PointerGetDatum(actor->org_id),
							PG_GETARG_DATUM(0), key_id, &owner_id))
		return false;
	return apikey_manages_all(actor) || apikey_text_equal(owner_id, actor->user_id);
}

/*
 * What is known of a key's usage; false if there is no such key to be seen,
 * or usage is not counted.
 */
static bool
find_usage(FunctionCallInfo fcinfo, ApikeyUse *use)
{
	UsageKey	key;
	TimestampTz last_used_at;
	uint64		uses;

	if (usage_shared == NULL || !find_visible_key(fcinfo, &key.key_id))
		return false;
	if (!apikey_find_use(key.key_id, use))
		memset(use, 0, sizeof(*use));
	key.database = MyDatabaseId;
	key.table = apikey_catalog()->tables[TABLE_KEY];
	if (usage_read(&key, &last_used_at, &uses))
	{
		use->uses += uses;
		use->last_used_at = Max(use->last_used_at, last_used_at);
	}
	return true;
}

/*
 * apikey_last_used_at(suffix text) returns timestamptz
 */
Datum
apikey_last_used_at(PG_FUNCTION_ARGS)
{
	ApikeyUse	use;

	if (!find_usage(fcinfo, &use) || use.last_used_at == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(use.last_used_at);
}

/*
 * apikey_uses(suffix text) returns bigint
 */
Datum
apikey_uses(PG_FUNCTION_ARGS)
{
	ApikeyUse	use;

	if (!find_usage(fcinfo, &use))
		PG_RETURN_NULL();
	PG_RETURN_INT64(use.uses);
}

/*
 * apikey_checked_interval(value interval, of_usage boolean) returns interval
 *
 * The value; an error if it is NULL, or usage is asked for and not counted.
 */
Datum
apikey_checked_interval(PG_FUNCTION_ARGS)
{
	apikey_require_arguments(fcinfo);
	if (PG_GETARG_BOOL(1))
		apikey_require_usage();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

static uint64
sum_events(UsageEvent event)
{
	uint64		sum = 0;

	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		sum += pg_atomic_read_u64(&usage_counters[i].events[event]);
	return sum;
}

/*
 * apikey_stats_read(OUT verifications bigint, ...)
 */
Datum
apikey_stats_read(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = apikey_result_desc(fcinfo);
	Datum		values[12];
	bool		nulls[12];
	int			n = 0;

	memset(nulls, usage_shared == NULL, sizeof(nulls));
	if (usage_shared != NULL)
	{
		uint64		last_flush = pg_atomic_read_u64(&usage_shared->last_flush);

		for (int event = 0; event < NUM_EVENTS; event++)
			values[n++] = Int64GetDatum(sum_events(event));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&usage_shared->flushes));
		nulls[n] = last_flush == 0;
		values[n++] = TimestampTzGetDatum((TimestampTz) last_flush);
		values[n++] = Int64GetDatum(pg_atomic_read_u32(&usage_shared->num_used));
		values[n++] = Int64GetDatum(usage_shared->max_slots);
		values[n++] = Int64GetDatum(usage_shared->size);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
