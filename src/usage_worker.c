/*
 * usage_worker.c
 *		Writing what usage.c has counted, in batches, to apikey_usage.
 *
 * A launcher, attached to no database, makes a round each interval: for one
 * database after another that has something to write it starts a worker, which
 * writes it and is gone.  In recovery the launcher is not started, and what is
 * counted waits for promotion.  A worker that is held up, by somebody's lock
 * on apikey_usage for instance, does not hold up the other databases for long:
 * the launcher goes on without it, and starts no second one there meanwhile.
 *
 * A count is subtracted from the shared memory when, and only when, the
 * transaction that wrote it has committed: at the commit callback, where no
 * interrupt is served.  So a worker that is terminated loses and doubles
 * nothing.
 *
 * Locks: ShareUpdateExclusiveLock on the extension, as an object.  It keeps it
 * from being dropped amid, and other workers from collecting the same counts,
 * which they could if the launcher was terminated and started anew.  It is not
 * the table that is locked in this mode, because that would keep autovacuum
 * away from it.  Beside that, what any INSERT takes on apikey_usage, whose
 * rows nobody else touches, and what any SELECT takes on the tables of keys.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apikeys.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(apikey_usage_flush);

PGDLLEXPORT void usage_launcher_main(Datum arg);
PGDLLEXPORT void usage_worker_main(Datum arg);

#define MAX_BATCH 65536			/* keys in a statement */
#define WORKER_PATIENCE 10000	/* ms that a round waits for a worker */
#define LAUNCHER_RESTART 5		/* s until a terminated launcher is back */
#define FLUSH_POLL 100			/* ms between two looks of whoever waits */

/* Databases that DROP DATABASE left half-way; 15.3 does not have it. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

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

/* A worker that has outlasted the launcher's patience. */
typedef struct LateWorker
{
	Oid			database;
	BackgroundWorkerHandle *handle;
} LateWorker;

static List *late_workers = NIL;

/* ----- The worker ----- */

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
	pg_atomic_fetch_add_u64(&usage_shared->flushes, 1);
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
	apikey_run(STATEMENT_WRITE_USAGE, args, NULL);
	apikey_run(STATEMENT_SWEEP_USAGE, NULL, NULL);
}

/* Lock the extension; false if it is not in this database. */
static bool
lock_extension(void)
{
	for (;;)
	{
		Oid			extension = get_extension_oid("apikeys", true);

		if (!OidIsValid(extension))
			return false;
		LockDatabaseObject(ExtensionRelationId, extension, 0,
						   ShareUpdateExclusiveLock);
		/* it may have been dropped while we waited, and made again */
		if (get_extension_oid("apikeys", true) == extension)
			return true;
		UnlockDatabaseObject(ExtensionRelationId, extension, 0,
							 ShareUpdateExclusiveLock);
	}
}

/*
 * Write a batch from a slot on, in a transaction; returns where to go on from.
 */
static uint32
flush_batch(uint32 slot)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (lock_extension())
	{
		slot = collect_batch(apikey_catalog()->tables[TABLE_KEY], slot);
		write_batch();
	}
	else
		slot = collect_batch(InvalidOid, slot);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return slot;
}

/*
 * What an administrator may have set for the database or for everybody must
 * not matter.
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
		{"transaction_timeout", "0"},
		/* a standby that is away must not hold counts back */
		{"synchronous_commit", "local"},
		/* compiling would take longer than the statement */
		{"jit", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		/* not every version has all of them */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
}

/*
 * A database may be dropped, or closed, between the launcher's look at it and
 * the worker's connecting to it: nothing that anybody need read of.
 */
static void
hush_lost_database(ErrorData *edata)
{
	if (edata->sqlerrcode == ERRCODE_UNDEFINED_DATABASE ||
		edata->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		edata->output_to_server = false;
}

/*
 * A worker: its argument is the database.
 */
void
usage_worker_main(Datum arg)
{
	emit_log_hook_type log_hook = emit_log_hook;
	uint32		slot = 0;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	emit_log_hook = hush_lost_database;
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg),
											  InvalidOid, 0);
	emit_log_hook = log_hook;

	settle_settings();
	make_batch();
	pgstat_report_activity(STATE_RUNNING, "apikeys: writing usage");
	while (slot < usage_shared->num_slots)
		slot = flush_batch(slot);
	pgstat_report_activity(STATE_IDLE, NULL);
	pg_atomic_fetch_add_u64(&usage_shared->workers_done, 1);
}

/* ----- The launcher ----- */

/*
 * Wait until something happens, or some milliseconds have passed.  At the
 * end of the server the launcher goes without a word.
 */
static void
wait_for_event(long timeout)
{
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	if (ProcDiePending)
		proc_exit(1);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Start a worker; NULL if there is no place for one. */
static BackgroundWorkerHandle *
start_worker(Oid database)
{
	static bool told = false;
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

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
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		told = false;
		return handle;
	}
	if (!told)
		ereport(LOG,
				(errmsg("usage of API keys cannot be written now, as there are too many background workers"),
				 errhint("It is kept and tried again. You may need to increase max_worker_processes.")));
	told = true;
	return NULL;
}

static bool
is_running(BackgroundWorkerHandle *handle)
{
	pid_t		pid;
	BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

	return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

/*
 * Have a worker write what there is of a database; false if it could not, or
 * not yet.
 */
static bool
run_worker(Oid database)
{
	uint64		done = pg_atomic_read_u64(&usage_shared->workers_done);
	TimestampTz started_at = GetCurrentTimestamp();
	BackgroundWorkerHandle *handle = start_worker(database);
	LateWorker *late;

	if (handle == NULL)
		return false;
	while (is_running(handle))
	{
		if (TimestampDifferenceExceeds(started_at, GetCurrentTimestamp(),
									   WORKER_PATIENCE))
		{
			late = palloc(sizeof(LateWorker));
			late->database = database;
			late->handle = handle;
			late_workers = lappend(late_workers, late);
			return false;
		}
		wait_for_event(WORKER_PATIENCE);
	}
	pfree(handle);
	return pg_atomic_read_u64(&usage_shared->workers_done) != done;
}

/* Is an earlier worker of this database still at it? */
static bool
has_late_worker(Oid database)
{
	ListCell   *cell;

	foreach(cell, late_workers)
	{
		LateWorker *late = lfirst(cell);

		if (late->database != database)
			continue;
		if (is_running(late->handle))
			return true;
		late_workers = foreach_delete_current(late_workers, cell);
		pfree(late->handle);
		pfree(late);
		return false;
	}
	return false;
}

typedef enum DatabaseState
{
	DATABASE_GONE,
	DATABASE_CLOSED,			/* to all connections, for now */
	DATABASE_OPEN
} DatabaseState;

static DatabaseState
state_of_database(Oid database)
{
	DatabaseState state = DATABASE_GONE;
	HeapTuple	tuple;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datconnlimit != DATCONNLIMIT_INVALID_DB)
			state = form->datallowconn ? DATABASE_OPEN : DATABASE_CLOSED;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return state;
}

static void
forget_database(Oid database)
{
	for (uint32 i = 0; i < usage_shared->num_slots; i++)
	{
		UsageKey	key;

		if (usage_has_counts(i, &key) && key.database == database)
			usage_forget(&key, true);
	}
}

/* Write a database; false if something is left over. */
static bool
flush_database(Oid database)
{
	switch (state_of_database(database))
	{
		case DATABASE_OPEN:
			return !has_late_worker(database) && run_worker(database);
		case DATABASE_GONE:
			forget_database(database);
			return true;
		default:
			return false;
	}
}

/* The databases that have something to write. */
static List *
databases_to_write(void)
{
	List	   *databases = NIL;

	for (uint32 i = 0; i < usage_shared->num_slots; i++)
	{
		UsageKey	key;

		if (usage_has_counts(i, &key))
			databases = list_append_unique_oid(databases, key.database);
	}
	return databases;
}

static void
make_round(void)
{
	uint64		request = pg_atomic_read_u64(&usage_shared->requested);
	uint64		left_over = 0;
	List	   *databases;
	ListCell   *cell;

	/* what was counted before the request must be seen */
	pg_memory_barrier();
	databases = databases_to_write();
	foreach(cell, databases)
	{
		if (!flush_database(lfirst_oid(cell)))
			left_over++;
	}
	list_free(databases);
	usage_make_room();

	pg_atomic_write_u64(&usage_shared->left_over, left_over);
	pg_write_barrier();
	pg_atomic_write_u64(&usage_shared->completed, request);
	ConditionVariableBroadcast(&usage_shared->done);
}

/*
 * Wait for the time of the next round, or until somebody asks for one.  Given
 * is when room was asked for before the last round: that has been served.
 */
static void
wait_for_time(uint64 asked_at)
{
	TimestampTz began = GetCurrentTimestamp();
	long		timeout = 0;	/* interrupts are served at least once */

	do
	{
		TimestampTz next;

		wait_for_event(timeout);
		next = TimestampTzPlusMilliseconds(began, usage_flush_interval * 1000L);
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);
		timeout = Min(timeout, usage_flush_interval * 1000L);
	} while (timeout > 0 &&
			 pg_atomic_read_u64(&usage_shared->asked_at) == asked_at &&
			 pg_atomic_read_u64(&usage_shared->requested) ==
			 pg_atomic_read_u64(&usage_shared->completed));
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
	uint64		asked_at = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* no database: only what all share can be read */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_gone, (Datum) 0);
	usage_shared->launcher = MyLatch;
	MemoryContextSwitchTo(TopMemoryContext);

	for (;;)
	{
		wait_for_time(asked_at);
		asked_at = pg_atomic_read_u64(&usage_shared->asked_at);
		make_round();
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
	worker.bgw_restart_time = LAUNCHER_RESTART;
	strlcpy(worker.bgw_library_name, "apikeys", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "usage_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikeys usage launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikeys usage launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* ----- SQL ----- */

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

	apikey_require_usage();
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
