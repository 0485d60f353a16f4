/*
 * usage_worker.c
 *		Writing what usage.c has counted, in batches, to apikey_usage.
 *
 * A count is subtracted from the shared memory when, and only when, the
 * transaction that wrote it has committed: at the commit callback, where no
 * interrupt is served.  So a worker that is terminated loses and doubles
 * nothing.
 *
 * Whoever owns apikey_usage can have code of theirs run by what is written: in
 * triggers, deferred ones at commit, and in expressions of defaults, checks
 * and indexes.  A worker connects as the bootstrap superuser, because it learns
 * who the owner is in the database only, and the owner need not be a role that
 * can log in.  So it is the owner from when it has locked the table until after
 * the commit, and in a security-restricted operation, where code neither can
 * become somebody else nor leave anything in the session that would run later.
 * Outside of that a worker reads nothing but system catalogs.
 *
 * Locks: what any INSERT takes on apikey_usage, whose rows nobody else touches,
 * and what any SELECT takes on the tables of keys, which keeps the extension
 * from being dropped amid.  Beside that a lock that keeps other workers from
 * collecting the same counts, which they could if the launcher was terminated
 * and started anew.  It is not on the table, because that would keep autovacuum
 * away from it; nor on the extension, which anybody can lock for as long as a
 * transaction lasts (ALTER FUNCTION ... DEPENDS ON EXTENSION), but on a part of
 * the extension that no command knows.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "usage_internal.h"
#include "worker.h"

PGDLLEXPORT void usage_worker_main(Datum arg);

#define MAX_BATCH 65536			/* keys in a statement */

/* The part of the extension, as a number like that of a column, to lock. */
#define WORKERS 1

/* What is being written, column by column. */
typedef struct Batch
{
	Oid			table;
	int			size;
	bool		committing;
	Datum	   *key_ids;
	Datum	   *times;
	Datum	   *addrs;
	bool	   *no_addr;
	Datum	   *uses;
} Batch;

static Batch batch;

/* These have been written. */
static void
subtract_batch(void)
{
	UsageKey	key = {MyDatabaseId, batch.table, 0};

	for (int i = 0; i < batch.size; i++)
	{
		key.key_id = DatumGetInt64(batch.key_ids[i]);
		usage_subtract(&key, (uint64) DatumGetInt64(batch.uses[i]));
	}
	usage_count(COUNTER_FLUSHES);
	pg_atomic_write_u64(&usage_shared->last_flush,
						(uint64) GetCurrentTimestamp());
}

/*
 * Subtract the batch at commit; forget about it at abort.  Meanwhile, readers
 * are told that what they see may be counted twice (usage_funcs.c).
 */
static void
settle_batch(XactEvent event, void *arg pg_attribute_unused())
{
	if (batch.size == 0)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
	{
		batch.committing = true;
		pg_atomic_fetch_add_u64(&usage_shared->committing, 1);
	}
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT)
		subtract_batch();
	if (batch.committing)
		pg_atomic_fetch_add_u64(&usage_shared->settled, 1);
	batch.committing = false;
	batch.size = 0;
}

static void
make_batch(void)
{
	MemoryContextSwitchTo(TopMemoryContext);
	batch.key_ids = palloc(MAX_BATCH * sizeof(Datum));
	batch.times = palloc(MAX_BATCH * sizeof(Datum));
	batch.addrs = palloc(MAX_BATCH * sizeof(Datum));
	batch.no_addr = palloc(MAX_BATCH * sizeof(bool));
	batch.uses = palloc(MAX_BATCH * sizeof(Datum));
	RegisterXactCallback(settle_batch, NULL);
}

static Datum
inet_datum(const inet_struct *addr)
{
	inet	   *value = palloc0(sizeof(inet));

	value->inet_data = *addr;
	SET_INET_VARSIZE(value);
	return InetPGetDatum(value);
}

/*
 * Add a key to the batch; or forget it, if it belongs to another installation
 * of the extension in this database, which is no more.
 */
static void
add_to_batch(const UsageKey *key)
{
	int			n = batch.size;
	UsageCount	count;

	if (key->table != batch.table)
		usage_forget(key, true);
	else if (usage_read(key, &count) && count.uses > 0)
	{
		batch.key_ids[n] = Int64GetDatum(key->key_id);
		batch.times[n] = TimestampTzGetDatum(count.last_used_at);
		batch.no_addr[n] = count.addr.family == 0;
		batch.addrs[n] = batch.no_addr[n] ? (Datum) 0 : inet_datum(&count.addr);
		batch.uses[n] = Int64GetDatum((int64) count.uses);
		batch.size++;
	}
}

/* Collect what there is from a slot on; returns where to go on from. */
static uint32
collect_batch(Oid table, uint32 slot)
{
	batch.table = table;
	for (; slot < usage_shared->num_slots && batch.size < MAX_BATCH; slot++)
	{
		UsageKey	key;

		if (usage_has_counts(slot, &key) && key.database == MyDatabaseId)
			add_to_batch(&key);
	}
	return slot;
}

static Datum
array_of(Datum *values, bool *nulls, Oid type, int16 len, bool byval,
		 char align)
{
	int			dim = batch.size;
	int			lower_bound = 1;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &dim,
											  &lower_bound, type, len,
											  byval, align));
}

static void
write_batch(void)
{
	Datum		args[4];

	if (batch.size == 0)
		return;
	args[0] = array_of(batch.key_ids, NULL, INT8OID, sizeof(int64),
					   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	args[1] = array_of(batch.times, NULL, TIMESTAMPTZOID, sizeof(TimestampTz),
					   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	args[2] = array_of(batch.addrs, batch.no_addr, INETOID, -1,
					   false, TYPALIGN_INT);
	args[3] = array_of(batch.uses, NULL, INT8OID, sizeof(int64),
					   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	apikey_execute(STATEMENT_WRITE_USAGE, args, NULL);
	apikey_execute(STATEMENT_SWEEP_USAGE, NULL, NULL);
	SPI_finish();
}

/* Become the owner of apikey_usage, and keep other workers out. */
static bool
become_owner(void)
{
	if (!apikey_worker_become_owner("apikey_usage"))
		return false;
	LockDatabaseObject(ExtensionRelationId,
					   get_extension_oid("apikeys", false), WORKERS,
					   ShareUpdateExclusiveLock);
	return true;
}

/*
 * Write a batch from a slot on, in a transaction; returns where to go on from.
 */
static uint32
flush_batch(uint32 slot)
{
	Oid			user;
	int			sec_context;

	apikey_worker_settle_settings();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	GetUserIdAndSecContext(&user, &sec_context);
	if (become_owner())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		slot = collect_batch(apikey_catalog()->tables[TABLE_KEY], slot);
		write_batch();
		PopActiveSnapshot();
	}
	else
		slot = collect_batch(InvalidOid, slot);
	CommitTransactionCommand();
	SetUserIdAndSecContext(user, sec_context);
	return slot;
}

/*
 * A worker: its argument is the database.
 */
void
usage_worker_main(Datum arg)
{
	uint32		slot = 0;

	apikey_worker_connect(DatumGetObjectId(arg));
	make_batch();
	pgstat_report_activity(STATE_RUNNING, "apikeys: writing usage");
	while (slot < usage_shared->num_slots)
		slot = flush_batch(slot);
	pgstat_report_activity(STATE_IDLE, NULL);
	pg_atomic_fetch_add_u64(&usage_shared->workers_done, 1);
}
