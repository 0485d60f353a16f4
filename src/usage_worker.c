/*
 * usage_worker.c
 *		Writing what usage.c has counted, in batches, to apikey_usage.
 *
 * A launcher, attached to no database, starts a worker for one database after
 * another that has something to write; the worker writes it with one
 * statement and is gone.  In recovery the launcher is not started, and what is
 * counted waits for promotion.
 *
 * A count is subtracted from the shared memory when, and only when, the
 * transaction that wrote it has committed: at the commit callback, where no
 * interrupt is served.  So a worker that is terminated loses and doubles
 * nothing.  One worker writes at a time in a database: it holds
 * ShareUpdateExclusiveLock on apikey_usage, for which verification, creation
 * and deletion have no use.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apikeys.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(apikey_usage_flush);

PGDLLEXPORT void usage_launcher_main(Datum arg);
PGDLLEXPORT void usage_worker_main(Datum arg);

/* What is being written: slots and their counts. */
typedef struct Batch
{
	int			size;
	uint32	   *slots;
	uint64	   *uses;
} Batch;

static Batch batch;

/*
 * Subtract what has been written, at commit; or forget about it, at abort.
 */
static void
settle_batch(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && batch.size > 0)
	{
		for (int i = 0; i < batch.size; i++)
			pg_atomic_fetch_sub_u64(&usage_slots[batch.slots[i]].uses,
									batch.uses[i]);
		pg_atomic_fetch_add_u64(&usage_shared->flushes, 1);
		pg_atomic_write_u64(&usage_shared->last_flush,
							(uint64) GetCurrentTimestamp());
	}
	batch.size = 0;
}

/*
 * Run SQL as the worker: where names come from, and what an administrator may
 * have set for the database, must not matter.
 */
static void
settle_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		/* a standby that is away must not hold counts back */
		{"synchronous_commit", "local"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
}

static ArrayType *
make_array(Datum *values, Oid type, int len, bool byval, char align)
{
	return construct_array(values, batch.size, type, len, byval, align);
}

/*
 * Collect what this database has to write, as the arguments of the statement:
 * key ids, times, addresses, counts.
 */
static void
collect_batch(Oid table, Datum *args)
{
	uint32		max = usage_shared->max_slots;
	Datum	   *ids = palloc_extended(max * sizeof(Datum), MCXT_ALLOC_HUGE);
	Datum	   *times = palloc_extended(max * sizeof(Datum), MCXT_ALLOC_HUGE);
	Datum	   *addrs = palloc_extended(max * sizeof(Datum), MCXT_ALLOC_HUGE);
	Datum	   *uses = palloc_extended(max * sizeof(Datum), MCXT_ALLOC_HUGE);
	int			n = 0;

	batch.slots = palloc_extended(max * sizeof(uint32), MCXT_ALLOC_HUGE);
	batch.uses = palloc_extended(max * sizeof(uint64), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < max; i++)
	{
		UsageSlot  *slot = &usage_slots[i];
		char		addr[USAGE_ADDR_LEN];
		TimestampTz last_used_at;

		if (!pg_atomic_read_u32(&slot->used))
			continue;
		pg_read_barrier();
		if (slot->key.database != MyDatabaseId || slot->key.table != table)
			continue;
		batch.uses[n] = pg_atomic_read_u64(&slot->uses);
		if (batch.uses[n] == 0)
			continue;
		usage_snapshot_slot(slot, &last_used_at, addr);
		batch.slots[n] = i;
		ids[n] = Int64GetDatum(slot->key.key_id);
		times[n] = TimestampTzGetDatum(last_used_at);
		addrs[n] = CStringGetTextDatum(addr);
		uses[n] = Int64GetDatum((int64) batch.uses[n]);
		n++;
	}
	batch.size = n;
	args[0] = PointerGetDatum(make_array(ids, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(make_array(times, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[2] = PointerGetDatum(make_array(addrs, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(make_array(uses, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

/* Slots of a table that is no more, in this database. */
static void
forget_other_tables(Oid table)
{
	for (uint32 i = 0; i < usage_shared->max_slots; i++)
		if (pg_atomic_read_u32(&usage_slots[i].used) &&
			usage_slots[i].key.database == MyDatabaseId &&
			usage_slots[i].key.table != table)
			usage_forget_slot(i);
}

/*
 * Lock the extension so that it is not dropped meanwhile; InvalidOid if there
 * is none.
 */
static Oid
lock_extension(void)
{
	Oid			extension = get_extension_oid("apikeys", true);

	if (!OidIsValid(extension))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid("apikeys", true);
}

/*
 * Write what this database has to write, in the current transaction.
 */
static void
write_usage(void)
{
	const ApikeyCatalog *catalog;
	Datum		args[4];

	if (!OidIsValid(lock_extension()))
	{
		forget_other_tables(InvalidOid);
		return;
	}
	catalog = apikey_catalog();
	forget_other_tables(catalog->tables[TABLE_KEY]);
	LockRelationOid(catalog->tables[TABLE_USAGE], ShareUpdateExclusiveLock);
	collect_batch(catalog->tables[TABLE_KEY], args);
	if (batch.size > 0)
	{
		apikey_run(STATEMENT_WRITE_USAGE, args, NULL);
		apikey_run(STATEMENT_SWEEP_USAGE, NULL, NULL);
	}
}

/*
 * A worker: its argument is the database.
 */
void
usage_worker_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg),
											  InvalidOid, 0);
	RegisterXactCallback(settle_batch, NULL);
	settle_settings();

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "apikeys: writing usage");
	write_usage();
	PopActiveSnapshot();
	CommitTransactionCommand();
	usage_forget_unused();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Run a worker and wait for its end; false if none could be started. */
static bool
run_worker(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	strlcpy(worker.bgw_library_name, "apikeys", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "usage_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikeys usage worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikeys usage worker", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	if (WaitForBackgroundWorkerStartup(handle, &pid) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	pfree(handle);
	return true;
}

/* Is there still a database of this OID? */
static bool
database_exists(Oid database)
{
	bool		exists;

	StartTransactionCommand();
	exists = get_database_name(database) != NULL;
	CommitTransactionCommand();
	return exists;
}

/* The databases that have something to write. */
static List *
databases_to_write(void)
{
	List	   *databases = NIL;

	for (uint32 i = 0; i < usage_shared->max_slots; i++)
		if (pg_atomic_read_u32(&usage_slots[i].used) &&
			pg_atomic_read_u64(&usage_slots[i].uses) > 0)
			databases = list_append_unique_oid(databases,
											   usage_slots[i].key.database);
	return databases;
}

static void
flush_all(void)
{
	uint64		request;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	List	   *databases;
	ListCell   *cell;

	/* what is asked for from now on is asked for again */
	pg_atomic_write_u32(&usage_shared->flush_asked, false);
	pg_memory_barrier();
	request = pg_atomic_read_u64(&usage_shared->requested);
	databases = databases_to_write();

	foreach(cell, databases)
	{
		CHECK_FOR_INTERRUPTS();
		if (database_exists(lfirst_oid(cell)))
			run_worker(lfirst_oid(cell));
		else
			usage_forget_database(lfirst_oid(cell));
	}
	list_free(databases);
	MemoryContextSwitchTo(old);
	pg_atomic_write_u64(&usage_shared->completed, request);
	ConditionVariableBroadcast(&usage_shared->done);
}

static void
launcher_gone(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	usage_shared->launcher = NULL;
}

/*
 * The launcher.
 */
void
usage_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* no database: only what all share can be read */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_gone, (Datum) 0);
	usage_shared->launcher = MyLatch;

	for (;;)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 usage_flush_interval * 1000L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		flush_all();
	}
}

void
usage_register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "apikeys", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "usage_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikeys usage launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikeys usage launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * apikey_usage_flush() returns void
 *
 * Asks the launcher, and waits until it has been around all databases.
 */
Datum
apikey_usage_flush(APIKEY_NO_ARGS)
{
	uint64		request;

	apikey_require_usage();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage cannot be written during recovery"),
				 errhint("It is kept until this server is promoted.")));
	request = pg_atomic_add_fetch_u64(&usage_shared->requested, 1);
	usage_ask_for_flush();
	ConditionVariablePrepareToSleep(&usage_shared->done);
	while (pg_atomic_read_u64(&usage_shared->completed) < request)
	{
		(void) ConditionVariableTimedSleep(&usage_shared->done, 100,
										   PG_WAIT_EXTENSION);
		/* it may have been starting, or asked while it was at work */
		usage_ask_for_flush();
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}
