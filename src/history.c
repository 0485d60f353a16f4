/*
 * history.c
 *		Writing an event.
 *
 * An event goes straight into apikey_event and its indexes, without SPI, in the
 * transaction of the change.  It is written as the owner of the tables, lest an
 * expression that the owner has put an index on gets our caller's identity.
 *
 * Readers rely on the order (xid, event_id): what was written by transactions
 * that ended before a snapshot is complete.  Numbers of transactions are the
 * server's, and start again where a dump is restored into another.  So what
 * is stored is the number plus an offset, which whoever is the first to write
 * sets to the highest that is stored already.  It is kept in a sequence, which
 * neither a rollback takes back nor a dump takes along.  Until it is set,
 * nobody has written here, so that all that can be seen is complete.
 *
 * Locks: RowExclusiveLock on apikey_event, as any INSERT; nothing that another
 * writer or a reader waits for, but for the moment when the offset is set.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"
#include "tables.h"

static Oid
find_sequence(const char *name)
{
	Oid			namespace = apikey_catalog()->private_namespace;
	Oid			sequence = get_relname_relid(name, namespace);

	if (!OidIsValid(sequence))
		apikey_not_as_installed("sequence", name);
	return sequence;
}

/* Sequences of ours are the owner's to read and set. */
static Datum
call_as_owner(PGFunction function, FunctionCallInfo fcinfo)
{
	Oid			user;
	int			sec_context;
	Datum		result;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(apikey_catalog()->owner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	result = function(fcinfo);
	SetUserIdAndSecContext(user, sec_context);
	return result;
}

/* What a sequence is at, or -1 if it has never been used. */
static int64
last_value(Oid sequence)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		value;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	value = call_as_owner(pg_sequence_last_value, fcinfo);
	return fcinfo->isnull ? -1 : DatumGetInt64(value);
}

static void
set_sequence(Oid sequence, int64 value)
{
	LOCAL_FCINFO(fcinfo, 2);

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = Int64GetDatum(value);
	fcinfo->args[1].isnull = false;
	(void) call_as_owner(setval_oid, fcinfo);
}

/* The highest number that is stored, whether or not it can be seen; or 0. */
static int64
highest_xid(void)
{
	Relation	table;
	Relation	index;
	SysScanDesc scan;
	HeapTuple	row;
	int64		xid = 0;

	apikey_open(INDEX_EVENT, &table, &index);
	scan = systable_beginscan_ordered(table, index, SnapshotAny, 0, NULL);
	row = systable_getnext_ordered(scan, BackwardScanDirection);
	if (HeapTupleIsValid(row))
	{
		bool		isnull;

		xid = DatumGetInt64(heap_getattr(row, Anum_event_xid,
										 RelationGetDescr(table), &isnull));
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	return xid;
}

/* Set the offset, unless another has meanwhile. */
static int64
set_xid_offset(Oid sequence)
{
	int64		offset;

	/* not the sequence's own lock, which setval() keeps */
	LockDatabaseObject(RelationRelationId, sequence, 1, ExclusiveLock);
	offset = last_value(sequence);
	if (offset < 0)
	{
		offset = highest_xid();
		set_sequence(sequence, offset);
	}
	UnlockDatabaseObject(RelationRelationId, sequence, 1, ExclusiveLock);
	return offset;
}

/* The same for who reads: -1 if nothing has been written here yet. */
int64
apikey_xid_offset(void)
{
	static Oid	known_sequence = InvalidOid;
	static int64 known_offset = -1;
	Oid			sequence = find_sequence("apikey_xid_offset");

	if (sequence == known_sequence && known_offset >= 0)
		return known_offset;
	known_offset = last_value(sequence);
	known_sequence = sequence;
	return known_offset;
}

static int64
stored_xid(void)
{
	FullTransactionId xid = GetTopFullTransactionId();
	int64		offset = apikey_xid_offset();

	if (unlikely(offset < 0))
		offset = set_xid_offset(find_sequence("apikey_xid_offset"));
	return offset + (int64) U64FromFullTransactionId(xid);
}

/* A row in the making. */
typedef struct EventRow
{
	Datum		values[Natts_event - 1];
	bool		nulls[Natts_event - 1];
} EventRow;

static void
set_value(EventRow *row, AttrNumber attnum, Datum value)
{
	row->values[attnum - 1] = value;
	row->nulls[attnum - 1] = false;
}

static void
set_text(EventRow *row, AttrNumber attnum, const text *value)
{
	if (value != NULL)
		set_value(row, attnum, PointerGetDatum(value));
}

static void
set_actor_kind(EventRow *row, const char *kind)
{
	set_value(row, Anum_event_actor_kind, CStringGetTextDatum(kind));
}

/*
 * Is a principal of this organization?  Who acts for a member of another, and
 * can change something here, is the application or a DBA; and members of an
 * organization shall not read of others'.
 */
static bool
is_of_org(const ApikeyActor *actor, const ApikeyEvent *event)
{
	return (event->org_id != NULL &&
			apikey_text_equal(actor->org_id, event->org_id)) ||
		(event->old_org_id != NULL &&
		 apikey_text_equal(actor->org_id, event->old_org_id));
}

static void
set_actor(EventRow *row, const ApikeyEvent *event)
{
	Oid			role = event->by_worker ? GetUserId() : GetOuterUserId();
	char	   *role_name = GetUserNameFromId(role, true);
	NameData   *db_role = palloc0(sizeof(NameData));
	ApikeyActor actor;

	if (role_name != NULL)
		namestrcpy(db_role, role_name);
	set_value(row, Anum_event_db_role, NameGetDatum(db_role));
	if (event->by_worker)
		set_actor_kind(row, "worker");
	else if (!apikey_actor_of_session(&actor) || !is_of_org(&actor, event))
	{
		set_actor_kind(row, "role");
		set_value(row, Anum_event_actor_id,
				  CStringGetTextDatum(NameStr(*db_role)));
	}
	else
	{
		set_actor_kind(row, actor.is_key ? "key" : "member");
		set_text(row, Anum_event_actor_id,
				 actor.is_key ? actor.suffix : actor.user_id);
	}
}

static void
set_client_addr(EventRow *row)
{
	const inet_struct *addr = apikey_client_addr();
	inet	   *value;

	if (addr->family == 0)
		return;
	value = palloc0(sizeof(inet));
	value->inet_data = *addr;
	SET_INET_VARSIZE(value);
	set_value(row, Anum_event_client_addr, InetPGetDatum(value));
}

static void
fill_row(EventRow *row, const ApikeyEvent *event)
{
#define KIND_NAME(kind, name) name,
	static const char *const kinds[] = {EVENT_KINDS(KIND_NAME)};
	int64		event_id;

	memset(row->nulls, true, sizeof(row->nulls));
	event_id = nextval_internal(find_sequence("apikey_event_id_seq"), false);
	set_value(row, Anum_event_event_id, Int64GetDatum(event_id));
	set_value(row, Anum_event_xid, Int64GetDatum(stored_xid()));
	set_value(row, Anum_event_at, TimestampTzGetDatum(GetCurrentTimestamp()));
	set_value(row, Anum_event_kind, CStringGetTextDatum(kinds[event->kind]));
	set_text(row, Anum_event_org_id, event->org_id);
	set_text(row, Anum_event_suffix, event->suffix);
	set_text(row, Anum_event_owner_id, event->owner_id);
	set_text(row, Anum_event_name, event->name);
	if (OidIsValid(event->level))
		set_value(row, Anum_event_level, ObjectIdGetDatum(event->level));
	set_actor(row, event);
	set_client_addr(row);
	if (event->changes != NULL)
		set_value(row, Anum_event_changes,
				  DirectFunctionCall1(jsonb_in,
									  CStringGetDatum(event->changes)));
}

/*
 * Insert a row into the table of an index, as the owner.  The columns have been
 * looked at when the index was opened; a table with more of them is not as it
 * was installed.
 */
void
apikey_insert(ApikeyIndex which, const Datum *values, const bool *nulls,
			  int natts)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);
	TupleTableSlot *slot;
	Oid			user;
	int			sec_context;
	Relation	table;
	Relation	index;

	apikey_open(which, &table, &index);
	index_close(index, AccessShareLock);
	LockRelation(table, RowExclusiveLock);
	if (RelationGetDescr(table)->natts != natts)
		apikey_not_as_installed("table", RelationGetRelationName(table));
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(apikey_catalog()->owner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsVirtual);
	InitResultRelInfo(info, table, 1, NULL, 0);
	ExecOpenIndices(info, false);
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	simple_table_tuple_insert(table, slot);
	apikey_insert_index_tuples(info, slot, estate);
	ExecCloseIndices(info);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	SetUserIdAndSecContext(user, sec_context);
	table_close(table, AccessShareLock);
}

/* Write an event. */
void
apikey_record(const ApikeyEvent *event)
{
	EventRow	row;

	if (!apikey_history)
		return;
	fill_row(&row, event);
	apikey_insert(INDEX_EVENT, row.values, row.nulls, lengthof(row.values));
}
