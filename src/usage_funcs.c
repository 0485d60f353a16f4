/*
 * usage_funcs.c
 *		The SQL-callable functions that tell of usage: what has been written to
 *		apikey_usage and what is still in shared memory, together.
 *
 * Reading takes two steps, and a batch may be committed, and subtracted from
 * the shared memory, between or beside them: then it is done again, so that
 * nothing is seen twice or not at all.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rls.h"
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

#define PATIENCE 100			/* ms that a statement waits for batches */

/* Who is asking, and when it was found out. */
typedef struct KnownCaller
{
	ApikeyActor actor;
	bool		sees_all;		/* not subject to row-level security */
	int			patience;
	uint64		changes;		/* of the principal's setting */
	Oid			user;
	TimestampTz statement;		/* when the client's statement started */
} KnownCaller;

static void
learn_caller(KnownCaller *known)
{
	Oid			table = apikey_catalog()->tables[TABLE_KEY];

	(void) apikey_actor(&known->actor);
	known->sees_all =
		check_enable_rls(table, InvalidOid, true) != RLS_ENABLED;
	known->patience = PATIENCE;
	known->changes = apikey_principal_changes();
	known->user = GetUserId();
	known->statement = GetCurrentStatementStartTimestamp();
}

/*
 * The caller, found out once for each call site and statement: the views call
 * for every row.  A call site in PL/pgSQL lives as long as the transaction,
 * and must not remember who was the principal before.
 */
static KnownCaller *
caller_of(FunctionCallInfo fcinfo)
{
	KnownCaller *known = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (known != NULL &&
		known->changes == apikey_principal_changes() &&
		known->user == GetUserId() &&
		known->statement == GetCurrentStatementStartTimestamp())
		return known;

	fcinfo->flinfo->fn_extra = NULL;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (known == NULL)
		known = palloc(sizeof(KnownCaller));
	learn_caller(known);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = known;
	return known;
}

/*
 * The id of the key that the arguments name, if the caller may see it: the
 * rules are those of the policies.
 */
static bool
find_visible_key(FunctionCallInfo fcinfo, const KnownCaller *caller,
				 int64 *key_id)
{
	const ApikeyActor *actor = &caller->actor;
	bool		any_owner = caller->sees_all || apikey_manages_all(actor);
	Datum		owner_id;

	if (PG_ARGISNULL(0))
		return false;
	if (!caller->sees_all &&
		(!apikey_manages_keys(actor) ||
		 !apikey_text_equal(actor->org_id, PG_GETARG_TEXT_PP(0))))
		return false;
	if (PG_ARGISNULL(1))
		return any_owner && apikey_find_legacy_id(PG_GETARG_DATUM(0), key_id);
	return apikey_find_listed(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
							  key_id, &owner_id) &&
		(any_owner ||
		 apikey_text_equal(DatumGetTextPP(owner_id), actor->user_id));
}

/* What has been written of a key's usage, and what has not. */
static void
add_up_usage(int64 key_id, ApikeyUse *use)
{
	UsageKey	key;
	UsageCount	count;

	if (!apikey_find_use(key_id, use))
		memset(use, 0, sizeof(*use));
	key.database = MyDatabaseId;
	key.table = apikey_catalog()->tables[TABLE_KEY];
	key.key_id = key_id;
	if (usage_read(&key, &count))
	{
		use->uses += count.uses;
		use->last_used_at = Max(use->last_used_at, count.last_used_at);
	}
}

/*
 * What is known of a key's usage; false if there is no such key to be seen,
 * or usage is not counted.
 */
static bool
find_usage(FunctionCallInfo fcinfo, ApikeyUse *use)
{
	KnownCaller *caller;
	int64		key_id;

	if (usage_shared == NULL)
		return false;
	caller = caller_of(fcinfo);
	if (!find_visible_key(fcinfo, caller, &key_id))
		return false;
	for (;;)
	{
		uint64		settled = pg_atomic_read_u64(&usage_shared->settled);

		pg_memory_barrier();
		add_up_usage(key_id, use);
		pg_memory_barrier();
		/* had every batch that has begun to commit been settled before? */
		if (pg_atomic_read_u64(&usage_shared->committing) == settled)
			break;
		if (caller->patience-- <= 0)
			return true;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
	caller->patience = Min(caller->patience + 1, PATIENCE);
	return true;
}

/*
 * apikey_last_used_at(org_id text, suffix text) returns timestamptz
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
 * apikey_uses(org_id text, suffix text) returns bigint
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
		uint32		num_used = pg_atomic_read_u32(&usage_shared->num_used);

		for (int event = 0; event < NUM_EVENTS; event++)
			values[n++] = Int64GetDatum(sum_events(event));
		values[n++] = Int64GetDatum(pg_atomic_read_u64(&usage_shared->flushes));
		nulls[n] = last_flush == 0;
		values[n++] = TimestampTzGetDatum((TimestampTz) last_flush);
		values[n++] = Int64GetDatum(num_used);
		values[n++] = Int64GetDatum(usage_shared->num_slots);
		values[n++] = Int64GetDatum(usage_shared->size);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
