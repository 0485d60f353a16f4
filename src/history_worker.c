/*
 * history_worker.c
 *		Sealing events, and warning of keys that are about to expire, in the
 *		background.
 *
 * A launcher, attached to no database, starts a worker for one database after
 * the other each interval, as autovacuum does; where the extension is not, the
 * worker is gone at once.  A worker connects as the bootstrap superuser, and is
 * the owner of the tables in a security-restricted operation from before it
 * reads or writes any of them: see usage_worker.c.
 *
 * Locks: what any INSERT takes on apikey_event, which keeps the extension from
 * being dropped, and that of whoever seals.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apikeys.h"
#include "history_seal.h"
#include "worker.h"

PGDLLEXPORT void history_launcher_main(Datum arg);
PGDLLEXPORT void history_worker_main(Datum arg);

int			history_seal_interval = 60;
int			history_expiry_warning = 7 * SECS_PER_DAY;

#define LAUNCHER_RESTART 5		/* s until a terminated launcher is back */
#define LOCK_PATIENCE "10s"		/* of a worker, while others wait for theirs */

/* What STATEMENT_FIND_EXPIRING gives, at most so much of it at a time. */
#define MAX_WARNINGS 1000

/* ----- A worker ----- */

static const text *
text_result(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

static Datum
result(uint64 row, int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, &isnull);
}

/* Write that a key is about to expire: its expiry is what is told. */
static void
warn_of_expiry(uint64 row)
{
	char		expiry[MAXDATELEN + 1];
	int			utc = 0;
	ApikeyEvent event = {
		.kind = EVENT_KEY_EXPIRING,
		.org_id = text_result(row, 1),
		.suffix = text_result(row, 2),
		.owner_id = text_result(row, 3),
		.name = text_result(row, 4),
		.level = DatumGetObjectId(result(row, 5)),
		.by_worker = true
	};

	JsonEncodeDateTime(expiry, result(row, 6), TIMESTAMPTZOID, &utc);
	event.changes = psprintf("{\"expires_at\": {\"old\": \"%s\", \"new\": \"%s\"}}",
							 expiry, expiry);
	apikey_record(&event);
}

/* Warn of some keys; false if those were all. */
static bool
warn_of_some(void)
{
	Datum		args[2] = {
		Int32GetDatum(history_expiry_warning), Int32GetDatum(MAX_WARNINGS)
	};
	uint64		count;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	count = apikey_execute(STATEMENT_FIND_EXPIRING, args, NULL);
	for (uint64 i = 0; i < count; i++)
		warn_of_expiry(i);
	SPI_finish();
	return count == MAX_WARNINGS;
}

static bool
seal_all(void)
{
	ApikeySeal	last;

	apikey_seal_events(&last);
	return false;
}

/*
 * Do something as the owner, in a transaction; returns whether there is more of
 * it to do.
 */
static bool
work(bool (*what) (void))
{
	Oid			user;
	int			sec_context;
	bool		more = false;

	apikey_worker_settle_settings();
	SetConfigOption("lock_timeout", LOCK_PATIENCE, PGC_SUSET, PGC_S_SESSION);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	GetUserIdAndSecContext(&user, &sec_context);
	if (apikey_worker_become_owner("apikey_event"))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		more = what();
		PopActiveSnapshot();
	}
	CommitTransactionCommand();
	SetUserIdAndSecContext(user, sec_context);
	return more;
}

/*
 * A worker: its argument is the database.
 */
void
history_worker_main(Datum arg)
{
	apikey_worker_connect(DatumGetObjectId(arg));
	pgstat_report_activity(STATE_RUNNING, "apikeys: sealing history");
	while (apikey_history && history_expiry_warning > 0 && work(warn_of_some))
		CHECK_FOR_INTERRUPTS();
	(void) work(seal_all);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ----- The launcher ----- */

/* The databases that can be connected to, but for templates. */
static List *
find_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit >= -1)
			databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/* Have a worker do what there is to do in a database, and wait for it. */
static void
run_worker(Oid database)
{
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
	strlcpy(worker.bgw_function_name, "history_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikeys history worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikeys history worker", BGW_MAXLEN);
	/* if there is no place for one, the next round will do */
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return;
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	pfree(handle);
}

static void
make_round(void)
{
	List	   *databases = find_databases();
	ListCell   *cell;

	foreach(cell, databases)
	{
		CHECK_FOR_INTERRUPTS();
		run_worker(lfirst_oid(cell));
	}
	list_free(databases);
}

/* Wait for the time of the next round. */
static void
wait_for_time(TimestampTz began)
{
	for (;;)
	{
		TimestampTz next =
		TimestampTzPlusMilliseconds(began, history_seal_interval * 1000L);
		long		timeout =
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);

		/* at the end of the server it goes without a word */
		if (ProcDiePending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			continue;
		}
		if (timeout <= 0)
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(timeout, history_seal_interval * 1000L),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * The launcher.
 */
void
history_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* no database: only what all share can be read */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	MemoryContextSwitchTo(TopMemoryContext);
	for (;;)
	{
		TimestampTz began = GetCurrentTimestamp();

		wait_for_time(began);
		make_round();
	}
}

void
history_register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART;
	strlcpy(worker.bgw_library_name, "apikeys", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "history_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikeys history launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikeys history launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
