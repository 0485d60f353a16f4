/*
 * usage_launcher.c
 *		Having usage written: when, and for which databases.
 *
 * A launcher, attached to no database, makes a round each interval: for one
 * database after another that has something to write it starts a worker
 * (usage_worker.c), which writes it and is gone.  In recovery the launcher is
 * not started, and what is counted waits for promotion.  A worker that is held
 * up, by somebody's lock on apikey_usage for instance, does not hold up the
 * other databases for long: the launcher goes on without it, and starts no
 * second one there meanwhile.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "usage.h"
#include "usage_internal.h"

PGDLLEXPORT void usage_launcher_main(Datum arg);

int			usage_flush_interval = 10;

#define WORKER_PATIENCE 10000	/* ms that a round waits for a worker */

/* Databases that DROP DATABASE left half-way; 15.3 does not have it. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

/* A worker that has outlasted the launcher's patience. */
typedef struct LateWorker
{
	Oid			database;
	BackgroundWorkerHandle *handle;
} LateWorker;

static List *late_workers = NIL;

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
