/*
 * revoke.c
 *		Taking something away from members who would hold that up.
 *
 * A revocation waits for row locks of other transactions like any statement,
 * but not for long: whoever is in its way after PATIENCE has its session ended,
 * as by pg_terminate_backend().  Spared are the sessions of those who may call
 * the application's functions, superusers among them.  A member who is no admin
 * ends only sessions of its own database role; so does an admin whose own keys
 * it is about, or the owner of keys could undo another admin's deleting them.
 *
 * The statements run in a subtransaction, so that the locks that they have are
 * released while we look for whoever is in the way: in the rows concerned,
 * whose headers name the transactions that hold them.  What is limited is the
 * time of all of it, not that of each wait, as by lock_timeout: sessions that
 * take turns would never reach that.  For
 * those who are spared, we go on waiting until the caller's own lock_timeout;
 * in turns, since somebody who is not spared may come to be in the way.
 *
 * A prepared transaction has no session, and is waited for as usual.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "apikeys.h"

/*
 * In milliseconds.  Shorter than PostgreSQL's deadlock_timeout, lest who makes
 * a deadlock of it has us fail.
 */
#define PATIENCE		900
#define PATIENCE_AGAIN	100		/* having ended somebody's session */
#define PATIENCE_MAX	60000	/* with those who are spared */

/* Enough for all sessions of a server, some of them slow to end. */
#define MAX_ROUNDS		1000

/* How soon to look again whether statements that take longer are waiting. */
#define LOOK_AGAIN		20

static bool under_way = false;
static volatile sig_atomic_t time_was_up = false;

static TimeoutId patience_timeout(void);

/*
 * The time is up.  Runs in a signal handler.
 *
 * Waiting is broken off, but not work: there may be many rows to delete.
 * PostgreSQL's lock timeout does it, which nobody else sets while lock_timeout
 * is 0.
 */
static void
time_is_up(void)
{
	if (MyProc->waitLock == NULL)
	{
		enable_timeout_after(patience_timeout(), LOOK_AGAIN);
		return;
	}
	time_was_up = true;
	enable_timeout_after(LOCK_TIMEOUT, 1);
}

static TimeoutId
patience_timeout(void)
{
	static TimeoutId timeout = MAX_TIMEOUTS;

	if (timeout == MAX_TIMEOUTS)
		timeout = RegisterTimeout(USER_TIMEOUT, time_is_up);
	return timeout;
}

static void
begin_patience(int patience)
{
	/* what is saved comes back with the end of the subtransaction */
	if (LockTimeout != 0)
		(void) set_config_option("lock_timeout", "0",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	under_way = true;
	time_was_up = false;
	enable_timeout_after(patience_timeout(), patience);
}

/* The lock timeout still says why we were interrupted, if we were. */
static void
end_patience(void)
{
	disable_timeout(patience_timeout(), false);
	disable_timeout(LOCK_TIMEOUT, true);
	under_way = false;
}

/* Did the statements fail because somebody was in their way? */
static bool
was_held_up(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		(time_was_up && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE);
}

static uint64
run(const ApikeyRevocation *revocation)
{
	if (revocation->run != NULL)
		return revocation->run(revocation->arg);
	return apikey_run(revocation->statement, revocation->args, NULL);
}

/*
 * Run the statements, and see whether they wait for a lock when the time is up.
 * The error if they fail, after a rollback.
 */
static ErrorData *
attempt(const ApikeyRevocation *revocation, int patience, uint64 *count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		begin_patience(patience);
		*count = run(revocation);
		end_patience();
		/* the time may have been up at the last moment */
		CHECK_FOR_INTERRUPTS();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		end_patience();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* May we end sessions of this role? */
static bool
may_end(const ApikeyRevocation *revocation, Oid role)
{
	const ApikeyActor *actor = revocation->actor;
	ApikeyMember member;

	if (!OidIsValid(role) || superuser_arg(role) ||
		apikey_can_be_application(role))
		return false;
	if (actor == NULL || (apikey_manages_all(actor) && !revocation->own))
		return true;
	return apikey_find_member_of_role(role, &member) &&
		apikey_text_equal(member.org_id, actor->org_id) &&
		apikey_text_equal(member.user_id, actor->user_id);
}

/* End the session that runs this transaction, if there is one and we may. */
static bool
end_session(const ApikeyRevocation *revocation, TransactionId xid)
{
	PGPROC	   *proc;
	int			pid;
	Oid			role;

	if (!TransactionIdIsNormal(xid) ||
		TransactionIdIsCurrentTransactionId(xid) ||
		!TransactionIdIsInProgress(xid))
		return false;
	xid = SubTransGetTopmostTransaction(xid);
	pid = BackendXidGetPid(xid);
	proc = pid != 0 ? BackendPidGetProc(pid) : NULL;
	if (proc == NULL || proc == MyProc || !APIKEY_IS_SESSION(proc))
		return false;
	role = proc->roleId;
	if (!may_end(revocation, role) || BackendXidGetPid(xid) != pid)
		return false;
	ereport(LOG,
			(errmsg("ending the session of process %d, which holds up a revocation",
					pid)));
	return kill(pid, SIGTERM) == 0;
}

/* End the sessions of those who have locked or changed this row. */
static bool
end_sessions_at(const ApikeyRevocation *revocation, Relation rel,
				ItemPointer tid)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(tid));
	uint16		infomask = HEAP_XMAX_INVALID;
	TransactionId xmax = InvalidTransactionId;
	MultiXactMember *members;
	Page		page;
	ItemId		item;
	int			nmembers;
	bool		ended = false;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	if (ItemIdIsNormal(item))
	{
		HeapTupleHeader header = (HeapTupleHeader) PageGetItem(page, item);

		infomask = header->t_infomask;
		xmax = HeapTupleHeaderGetRawXmax(header);
	}
	UnlockReleaseBuffer(buffer);

	if ((infomask & HEAP_XMAX_INVALID) || HEAP_LOCKED_UPGRADED(infomask))
		return false;
	if (!(infomask & HEAP_XMAX_IS_MULTI))
		return !(revocation->updates && HEAP_XMAX_IS_KEYSHR_LOCKED(infomask)) &&
			end_session(revocation, xmax);
	nmembers = GetMultiXactIdMembers(xmax, &members, false,
									 HEAP_XMAX_IS_LOCKED_ONLY(infomask));
	for (int i = 0; i < nmembers; i++)
		if (!revocation->updates ||
			members[i].status != MultiXactStatusForKeyShare)
			ended |= end_session(revocation, members[i].xid);
	return ended;
}

/*
 * End the sessions that are in the way of a revocation; false if there is none
 * that may be ended.
 */
static bool
end_sessions_in_the_way(const ApikeyRevocation *revocation)
{
	/* keeps the rows in their places */
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ApikeyBorrow borrow;
	uint64		count;
	bool		ended = false;

	apikey_borrow_owner(&borrow);
	count = apikey_execute(revocation->find, revocation->args, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Datum		relid = SPI_getbinval(row, desc, 1, &isnull);
		Datum		tid = SPI_getbinval(row, desc, 2, &isnull);
		Relation	rel = table_open(DatumGetObjectId(relid), AccessShareLock);

		CHECK_FOR_INTERRUPTS();
		ended |= end_sessions_at(revocation, rel,
								 (ItemPointer) DatumGetPointer(tid));
		table_close(rel, AccessShareLock);
	}
	apikey_return_owner(&borrow);
	UnregisterSnapshot(snapshot);
	return ended;
}

/*
 * How long to wait next for those who are spared: longer each time, but not
 * beyond what the caller has set.  No more than 0 if that is over.
 */
static int
next_patience(int patience, TimestampTz start)
{
	TimestampTz now = GetCurrentTimestamp();
	long		elapsed = TimestampDifferenceMilliseconds(start, now);

	patience = Min(Max(2 * patience, 2 * PATIENCE), PATIENCE_MAX);
	if (LockTimeout > 0)
		patience = Min(patience, LockTimeout - elapsed);
	return patience;
}

/*
 * Run a revocation; returns what its statements do.
 */
uint64
apikey_revoke(const ApikeyRevocation *revocation)
{
	TimestampTz start = GetCurrentTimestamp();
	int			patience = PATIENCE;
	uint64		count = 0;

	/* by a trigger of somebody's that another revocation has fired */
	if (under_way)
		return run(revocation);
	if (LockTimeout > 0)
		patience = Min(LockTimeout, PATIENCE);
	for (int round = 0;; round++)
	{
		ErrorData  *error = attempt(revocation, patience, &count);

		if (error == NULL)
			return count;
		if (!was_held_up(error))
			ReThrowError(error);
		if (round < MAX_ROUNDS && end_sessions_in_the_way(revocation))
			patience = PATIENCE_AGAIN;
		else if (error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
				 (patience = next_patience(patience, start)) <= 0)
			ReThrowError(error);
		FreeErrorData(error);
	}
}
