/*
 * usage.c
 *		Counting which keys are used, and what is refused.
 *
 * What there is no room for is counted as dropped.  Verdicts are counted by
 * each backend in a place of its own, and summed when they are read.
 *
 * Nothing here raises an error or waits for I/O: verification calls it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/fmgrprotos.h"

#include "apikeys.h"
#include "usage_internal.h"

#define ASK_INTERVAL USECS_PER_SEC	/* between two asks for room */

/* Each backend counts in a place of its own, in cache lines of its own. */
typedef union UsageCounters
{
	pg_atomic_uint64 counters[NUM_COUNTERS];
	char		padding[TYPEALIGN(CACHE_LINE, NUM_COUNTERS * sizeof(uint64))];
} UsageCounters;

StaticAssertDecl(sizeof(UsageCounters) % CACHE_LINE == 0,
				 "two backends count in the same cache line");

UsageShared *usage_shared = NULL;

static UsageCounters *usage_counters = NULL;

static inline void
count_one(UsageCounter which)
{
	int			me = APIKEY_MY_PROC_NUMBER;

	if (me >= 0 && (uint32) me < usage_shared->num_counters)
	{
		pg_atomic_uint64 *counter = &usage_counters[me].counters[which];

		/* nobody else writes here */
		pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
	}
}

/* Count something of the whole server. */
void
usage_count(UsageCounter which)
{
	count_one(which);
}

/* The client's address, which a session keeps; family 0 for a local one. */
const inet_struct *
apikey_client_addr(void)
{
	static inet_struct addr;
	static bool known = false;

	LOCAL_FCINFO(fcinfo, 0);
	Datum		client;

	if (likely(known))
		return &addr;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	client = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)
	{
		inet	   *value = DatumGetInetPP(client);

		memcpy(&addr, VARDATA_ANY(value),
			   Min(VARSIZE_ANY_EXHDR(value), sizeof(addr)));
	}
	known = true;
	return &addr;
}

/* Wake the launcher, which writes what there is. */
void
usage_ask_for_flush(void)
{
	Latch	   *launcher = usage_shared->launcher;

	if (launcher != NULL)
		SetLatch(launcher);
}

/*
 * There is no room: ask for a flush, but not all the time, for it may be that
 * nothing can be written.
 */
static void
ask_for_room(TimestampTz now)
{
	uint64		last = pg_atomic_read_u64(&usage_shared->asked_at);

	if (now - (TimestampTz) last >= ASK_INTERVAL &&
		pg_atomic_compare_exchange_u64(&usage_shared->asked_at, &last,
									   (uint64) now))
		usage_ask_for_flush();
}

/* A key was verified: note its use. */
void
apikey_count_use(const ApikeyGrant *grant, bool from_cache)
{
	UsageKey	key;
	UsageCount	count;

	if (usage_shared == NULL)
		return;
	key.database = MyDatabaseId;
	key.table = apikey_catalog()->tables[TABLE_KEY];
	key.key_id = grant->key_id;
	count.uses = 1;
	count.last_used_at = GetCurrentStatementStartTimestamp();
	count.addr = *apikey_client_addr();
	count_one(COUNTER_ACTIVE);
	if (from_cache)
		count_one(COUNTER_CACHE_HITS);
	if (unlikely(!usage_add(&key, &count)))
	{
		count_one(COUNTER_DROPPED);
		ask_for_room(count.last_used_at);
	}
}

/* A key was refused: the first counters are those of the statuses. */
void
apikey_count_refusal(ApikeyStatus status)
{
	Assert(status != STATUS_ACTIVE);
	if (usage_shared != NULL)
		count_one((UsageCounter) status);
}

/* What was counted before the server was restarted. */
void
usage_count_before(UsageCounter which, uint64 n)
{
	pg_atomic_fetch_add_u64(&usage_counters[0].counters[which], n);
}

/* What all backends have counted. */
uint64
usage_sum(UsageCounter which)
{
	uint64		sum = 0;

	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		sum += pg_atomic_read_u64(&usage_counters[i].counters[which]);
	return sum;
}

/* ----- Shared memory ----- */

Size
usage_counters_size(void)
{
	return CACHELINEALIGN(mul_size(MaxBackends, sizeof(UsageCounters)));
}

/* The memory is here; found if another process has made it. */
void
usage_attach_counters(char *start, bool found)
{
	usage_counters = (UsageCounters *) start;
	if (found)
		return;
	usage_shared->num_counters = MaxBackends;
	for (uint32 i = 0; i < usage_shared->num_counters; i++)
		for (int c = 0; c < NUM_COUNTERS; c++)
			pg_atomic_init_u64(&usage_counters[i].counters[c], 0);
}
