/*
 * change.c
 *		Announcing that keys have changed: to all backends, which keep what they
 *		have verified (cache.c), and to synchronous standbys.
 *
 * A hit must never be a yes to a key that was deleted, lowered or expired by
 * a transaction that is visible to us.  That rests on this order:
 *
 *	(1) whoever changes a key marks its tuple (xmax);
 *	(2) then, before it can commit, sends a relcache invalidation that says
 *		so, by hand and at once (announce()), through WAL to standbys too;
 *	(3) only then does its commit become visible.
 *
 *	A verification accepts pending invalidations, then looks into the cache.
 *	What it finds was stored either before (2) was sent, and then it has just
 *	been dropped, or after; but whoever reads the tuple after (2), hence after
 *	(1), finds it marked, and lookup.c does not store what is marked.  Finally,
 *	a tuple read before and stored after an invalidation was accepted is told
 *	by the generation, which every invalidation raises.
 *
 * That PostgreSQL sends the same invalidation again after the commit is
 * welcome, but would not be enough: between (3) and that message there would
 * be a moment of wrong answers.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "storage/standby.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "tables.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(apikey_announce_change);

/* The last transaction here that took something away from a key. */
static LocalTransactionId revoking_transaction = InvalidLocalTransactionId;

/*
 * Make the commit of who revoked a key wait until synchronous standbys have
 * applied it, unless the user has chosen not to wait for them at all.  What is
 * in force then counts: a function that revoked had its own settings.
 */
static void
commit_at_remote_apply(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT &&
		revoking_transaction == APIKEY_MY_LXID &&
		apikey_revoke_remote_apply &&
		(synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE ||
		 synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_FLUSH))
		(void) set_config_option("synchronous_commit", "remote_apply",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

/* A value among those of its column, by how much it gives; NULL is the most. */
static int64
rank_of(TriggerData *trigger, HeapTuple row, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(row, attnum,
									 RelationGetDescr(trigger->tg_relation),
									 &isnull);

	if (isnull)
		return PG_INT64_MAX;
	if (apikey_tables[TABLE_KEY].columns[attnum - 1].type == TIMESTAMPTZOID)
		return DatumGetTimestampTz(value);
	return apikey_level_of_oid(DatumGetObjectId(value));
}

/* Does this change take anything away from a key? */
static bool
revokes(TriggerData *trigger)
{
	const TableSpec *table = &apikey_tables[TABLE_KEY];

	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		return true;
	if (RelationGetRelid(trigger->tg_relation) !=
		apikey_catalog()->tables[TABLE_KEY])
		return false;
	for (int i = 0; i < table->natts; i++)
		if ((table->columns[i].flags & REVOKES_IF_LESS) &&
			rank_of(trigger, trigger->tg_newtuple, i + 1) <
			rank_of(trigger, trigger->tg_trigtuple, i + 1))
			return true;
	return false;
}

/*
 * Tell all backends, here and on standbys, to drop what they keep of keys; at
 * once, not at commit: see above.  Once for each command is enough, because
 * AFTER triggers fire when all its rows have been marked.  That is the command
 * which marked the row: the current one may be that of a function which it
 * called, and which changed keys before the others were marked.
 *
 * The message is for the relation of a type that nobody uses, not for the
 * table: nobody's descriptor of the table, and no plan, must be made anew.
 */
static void
announce(TriggerData *trigger)
{
	static LocalTransactionId last_transaction = InvalidLocalTransactionId;
	static SubTransactionId last_subtransaction = InvalidSubTransactionId;
	static CommandId last_command = InvalidCommandId;
	static Oid	last_relid = InvalidOid;
	Oid			relid = RelationGetRelid(trigger->tg_relation);
	Oid			change = apikey_catalog()->change;
	CommandId	command = InvalidCommandId;
	SharedInvalidationMessage message;

	apikey_cache_reset();
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		command = HeapTupleHeaderGetCmax(trigger->tg_trigtuple->t_data);
	if (command != InvalidCommandId && last_command == command &&
		last_transaction == APIKEY_MY_LXID &&
		last_subtransaction == GetCurrentSubTransactionId() &&
		last_relid == relid)
		return;

	memset(&message, 0, sizeof(message));
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = change;
	SendSharedInvalidMessages(&message, 1);
	if (XLogStandbyInfoActive())
		LogStandbyInvalidations(1, &message, false);
	/* and once more at commit, in PostgreSQL's own way */
	CacheInvalidateRelcacheByRelid(change);

	last_transaction = APIKEY_MY_LXID;
	last_subtransaction = GetCurrentSubTransactionId();
	last_command = command;
	last_relid = relid;
}

/*
 * apikey_announce_change(): AFTER UPDATE OR DELETE, for each row, and AFTER
 * TRUNCATE
 */
Datum
apikey_announce_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = apikey_trigger_data(fcinfo, false,
											   TABLE_KEY, TABLE_LEGACY);

	if (revokes(trigger))
		revoking_transaction = APIKEY_MY_LXID;
	announce(trigger);
	PG_RETURN_POINTER(NULL);
}

/*
 * Keys have changed, or a table of keys has, or anything may have.
 */
static void
relcache_callback(Datum arg pg_attribute_unused(), Oid relid)
{
	if (apikey_stands_for_keys(relid))
		apikey_cache_reset();
}

/*
 * Whatever was announced before a verification started must be seen by it, and
 * the check for messages is not itself a barrier.
 */
void
apikey_accept_changes(void)
{
	pg_memory_barrier();
	AcceptInvalidationMessages();
}

void
apikey_change_init(void)
{
	RegisterXactCallback(commit_at_remote_apply, NULL);
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}
