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
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apikeys.h"
#include "usage_internal.h"

PG_FUNCTION_INFO_V1(apikey_sees_others);
PG_FUNCTION_INFO_V1(apikey_usage_of);
PG_FUNCTION_INFO_V1(apikey_checked_interval);
PG_FUNCTION_INFO_V1(apikey_stats_read);
PG_FUNCTION_INFO_V1(apikey_usage_flush);

#define PATIENCE 100			/* ms that a statement waits for batches */
#define FLUSH_POLL 100			/* ms between two looks of whoever waits */

static void
require_usage(void)
{
	if (usage_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage of keys is not counted"),
				 errhint("Add \"apikeys\" to shared_preload_libraries, and see setting apikeys.usage_max_keys.")));
}

/*
 * What decides who is asking and what they may see: as long as it stays the
 * same, the answer does.
 */
typedef struct Moment
{
	Oid			user;
	uint64		principal_changes;
	TimestampTz statement;		/* when the client's statement started */

	/* of the snapshot: these tell any two apart that see other rows */
	TransactionId xmax;
	uint32		xcnt;
	int32		subxcnt;
	CommandId	curcid;
} Moment;

/* Who is asking, and when it was found out. */
typedef struct KnownCaller
{
	ApikeyActor actor;
	bool		sees_all;		/* not subject to row-level security */
	int			patience;
	Moment		moment;
	TupleDesc	desc;			/* of what the function returns, if a row */
} KnownCaller;

static void
get_moment(Moment *moment)
{
	memset(moment, 0, sizeof(*moment));
	moment->user = GetUserId();
	moment->principal_changes = apikey_principal_changes();
	moment->statement = GetCurrentStatementStartTimestamp();
	if (ActiveSnapshotSet())
	{
		Snapshot	snapshot = GetActiveSnapshot();

		moment->xmax = snapshot->xmax;
		moment->xcnt = snapshot->xcnt;
		moment->subxcnt = snapshot->subxcnt;
		moment->curcid = snapshot->curcid;
	}
}

static void
learn_caller(KnownCaller *known, const Moment *moment)
{
	Oid			table = apikey_catalog()->tables[TABLE_KEY];

	(void) apikey_actor(&known->actor);
	known->sees_all =
		check_enable_rls(table, InvalidOid, true) != RLS_ENABLED;
	known->patience = PATIENCE;
	known->moment = *moment;
}

/*
 * The caller, found out once for each call site and moment: the views call for
 * every row.  A call site in PL/pgSQL lives as long as the transaction, and
 * must not remember who was the principal before, nor what that could see.
 */
static KnownCaller *
caller_of(FunctionCallInfo fcinfo)
{
	KnownCaller *known = fcinfo->flinfo->fn_extra;
	Moment		moment;
	MemoryContext old;

	get_moment(&moment);
	if (known != NULL &&
		memcmp(&known->moment, &moment, sizeof(moment)) == 0)
		return known;

	fcinfo->flinfo->fn_extra = NULL;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (known == NULL)
	{
		known = palloc(sizeof(KnownCaller));
		if (get_call_result_type(fcinfo, NULL,
								 &known->desc) == TYPEFUNC_COMPOSITE)
			known->desc = BlessTupleDesc(known->desc);
	}
	learn_caller(known, &moment);
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
	Datum		org_id = PG_GETARG_DATUM(0);
	ApikeyKey	legacy;

	if (PG_ARGISNULL(0))
		return false;
	if (!caller->sees_all &&
		(!apikey_manages_keys(actor) ||
		 !apikey_text_equal(actor->org_id, PG_GETARG_TEXT_PP(0))))
		return false;
	if (caller->sees_all || apikey_manages_all(actor))
	{
		if (!PG_ARGISNULL(1))
			return apikey_find_key_of_org(org_id, PG_GETARG_DATUM(1), key_id);
		if (!apikey_find_legacy_key(org_id, &legacy))
			return false;
		*key_id = legacy.grant.key_id;
		return true;
	}
	return !PG_ARGISNULL(1) &&
		apikey_find_key_of_member(org_id, PointerGetDatum(actor->user_id),
								  PG_GETARG_DATUM(1), key_id);
}

/*
 * What has been written of a key's usage, and what has not; zeroes for never.
 */
static void
add_up_usage(ApikeyUses *uses, int64 key_id, ApikeyUse *use)
{
	UsageKey	key = {
		.database = MyDatabaseId,
		.table = apikey_catalog()->tables[TABLE_KEY],
		.key_id = key_id
	};
	UsageCount	count;

	memset(use, 0, sizeof(*use));
	(void) apikey_written_use(uses, key_id, use);
	if (usage_read(&key, &count))
	{
		use->uses += count.uses;
		use->last_used_at = Max(use->last_used_at, count.last_used_at);
	}
}

/*
 * What is known of a key's usage; false if it is not counted.
 *
 * Should batches be committed all the time, it is told what was seen in the
 * end: "patience" is how many milliseconds the caller has left to wait.
 */
static bool
find_usage(int64 key_id, ApikeyUse *use, int *patience)
{
	memset(use, 0, sizeof(*use));
	if (usage_shared == NULL)
		return false;
	for (;;)
	{
		uint64		settled = pg_atomic_read_u64(&usage_shared->settled);
		ApikeyUses *uses;

		pg_memory_barrier();
		uses = apikey_begin_uses();
		add_up_usage(uses, key_id, use);
		apikey_end_uses(uses);
		pg_memory_barrier();
		/* had every batch that has begun to commit been settled before? */
		if (pg_atomic_read_u64(&usage_shared->committing) == settled)
			break;
		if ((*patience)-- <= 0)
			return true;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
	*patience = Min(*patience + 1, PATIENCE);
	return true;
}

/* When a key was last used, for sorting many by it; 0 for never. */
TimestampTz
apikey_last_use(ApikeyUses *uses, int64 key_id)
{
	ApikeyUse	use;

	if (usage_shared == NULL)
		return 0;
	add_up_usage(uses, key_id, &use);
	return use.last_used_at;
}

bool
apikey_find_usage(int64 key_id, ApikeyUse *use)
{
	static int	patience = PATIENCE;

	return find_usage(key_id, use, &patience);
}

/*
 * apikey_sees_others() returns boolean
 */
Datum
apikey_sees_others(PG_FUNCTION_ARGS)
{
	KnownCaller *caller = caller_of(fcinfo);

	PG_RETURN_BOOL(caller->sees_all || apikey_manages_all(&caller->actor));
}

/*
 * apikey_usage_of(org_id text, suffix text, OUT last_used_at timestamptz,
 * OUT uses bigint)
 */
Datum
apikey_usage_of(PG_FUNCTION_ARGS)
{
	Datum		values[2];
	bool		nulls[2] = {true, true};
	KnownCaller *caller = caller_of(fcinfo);
	ApikeyUse	use;
	int64		key_id;

	if (find_visible_key(fcinfo, caller, &key_id) &&
		find_usage(key_id, &use, &caller->patience))
	{
		values[0] = TimestampTzGetDatum(use.last_used_at);
		nulls[0] = use.last_used_at == 0;
		values[1] = Int64GetDatum(use.uses);
		nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(caller->desc, values,
													  nulls)));
}

/*
 * apikey_checked_interval(value interval, of_usage boolean) returns interval
 *
 * The value; an error if it is NULL, or usage is asked for and not counted.
 */
Datum
apikey_checked_interval(PG_FUNCTION_ARGS)
{
	apikey_require_argument(fcinfo, 1);
	if (PG_ARGISNULL(0))
		apikey_null_argument(PG_GETARG_BOOL(1) ? "since" : "within");
	if (PG_GETARG_BOOL(1))
		require_usage();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

static void
set_stats(ApikeyRow *row)
{
#define COUNTER_NAME(counter, name) name,
	static const char *const names[] = {USAGE_COUNTERS(COUNTER_NAME)};
	uint64		last_flush = pg_atomic_read_u64(&usage_shared->last_flush);
	uint32		num_used = pg_atomic_read_u32(&usage_shared->num_used);

	for (int i = 0; i < NUM_COUNTERS; i++)
		apikey_set(row, names[i], Int64GetDatum(usage_sum(i)));
	if (last_flush != 0)
		apikey_set(row, "last_flush",
				   TimestampTzGetDatum((TimestampTz) last_flush));
	apikey_set(row, "tracked_keys", Int64GetDatum(num_used));
	apikey_set(row, "max_keys", Int64GetDatum(usage_shared->num_slots));
	apikey_set(row, "shared_memory", Int64GetDatum(usage_shared->size));
}

/*
 * apikey_stats_read(OUT ok bigint, ...)
 */
Datum
apikey_stats_read(PG_FUNCTION_ARGS)
{
	ApikeyRow	row;

	apikey_begin_row(&row, apikey_result_desc(fcinfo));
	if (usage_shared != NULL)
		set_stats(&row);
	PG_RETURN_DATUM(apikey_row_datum(&row));
}

/* Wait until the launcher has made the round that was asked for. */
static void
wait_for_round(uint64 request)
{
	int			absent = 0;		/* for how many looks */

	ConditionVariablePrepareToSleep(&usage_shared->done);
	while (pg_atomic_read_u64(&usage_shared->completed) < request)
	{
		absent = usage_shared->launcher == NULL ? absent + 1 : 0;
		if (absent > 3 * LAUNCHER_RESTART * 1000 / FLUSH_POLL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the process that has usage written is not running"),
					 errhint("It takes a place among max_worker_processes; see the server's log.")));
		/* it may have been starting when it was asked */
		usage_ask_for_flush();
		(void) ConditionVariableTimedSleep(&usage_shared->done, FLUSH_POLL,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/*
 * apikey_usage_flush() returns void
 *
 * Asks the launcher, and waits until it has been around all databases.
 */
Datum
apikey_usage_flush(APIKEY_NO_ARGS)
{
	uint64		left_over;

	require_usage();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage cannot be written during recovery"),
				 errhint("It is kept until this server is promoted.")));
	wait_for_round(pg_atomic_add_fetch_u64(&usage_shared->requested, 1));
	left_over = pg_atomic_read_u64(&usage_shared->left_over);
	if (left_over > 0)
		ereport(WARNING,
				(errmsg_plural("usage of %llu database could not be written",
							   "usage of %llu databases could not be written",
							   left_over, (unsigned long long) left_over),
				 errdetail("It is kept and tried again."),
				 errhint("See the server's log, and what process \"apikeys usage worker\" waits for in pg_stat_activity.")));
	PG_RETURN_VOID();
}
