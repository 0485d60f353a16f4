/*
 * history_seal.c
 *		Sealing events, and pruning those that are sealed.
 *
 * A seal is the SHA-256 of the seal before it and of a number of events, in
 * the order in which they are read, so that the last seal tells whether any
 * event has been changed, added or taken away.  What exactly is hashed is
 * described in doc/history.md, by which others verify an export: it must not
 * change.
 *
 * Only what is complete is sealed (see history_read.c), so that no event can
 * later appear among those that are.  A seal is one row, which commits or not.
 *
 * Locks: whoever seals or prunes locks the table of seals, as an object, which
 * nobody else does, until the transaction ends.  What it goes on from is read
 * after that, with a snapshot that is newer.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"
#include "history_seal.h"
#include "tables.h"

PG_FUNCTION_INFO_V1(apikey_seal_history);
PG_FUNCTION_INFO_V1(apikey_prune_history);

/* The events under a seal, at most. */
#define MAX_EVENTS 10000

/* The columns of an event, in the order in which they are hashed. */
static const AttrNumber hashed_columns[] = {
	Anum_event_xid, Anum_event_event_id, Anum_event_at, Anum_event_kind,
	Anum_event_org_id, Anum_event_suffix, Anum_event_owner_id,
	Anum_event_name, Anum_event_level, Anum_event_actor_kind,
	Anum_event_actor_id, Anum_event_db_role, Anum_event_client_addr,
	Anum_event_changes
};

/* ----- What is hashed ----- */

static int64
unix_microseconds(TimestampTz time)
{
	return time + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* A value as text; as UTF-8, if the database knows what it has. */
static char *
text_of_value(Oid type, Datum value)
{
	char	   *result;
	Oid			output;
	bool		is_varlena;

	if (type == TIMESTAMPTZOID)
		return psprintf(INT64_FORMAT,
						unix_microseconds(DatumGetTimestampTz(value)));
	getTypeOutputInfo(type, &output, &is_varlena);
	result = OidOutputFunctionCall(output, value);
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return result;
	return pg_server_to_any(result, strlen(result), PG_UTF8);
}

/* Each column as its length in bytes, a colon, its text, and a comma. */
static void
serialize_event(EventScan *scan, StringInfo out)
{
	TupleDesc	desc = scan->slot->tts_tupleDescriptor;

	for (int i = 0; i < (int) lengthof(hashed_columns); i++)
	{
		AttrNumber	attnum = hashed_columns[i];
		bool		isnull;
		Datum		value = slot_getattr(scan->slot, attnum, &isnull);
		char	   *shown;

		if (isnull)
		{
			appendStringInfoChar(out, '-');
			continue;
		}
		shown = text_of_value(TupleDescAttr(desc, attnum - 1)->atttypid, value);
		appendStringInfo(out, "%d:%s,", (int) strlen(shown), shown);
	}
}

/* Go on with the hash of events by one. */
void
apikey_hash_event(EventScan *scan, uint8 *hash)
{
	static MemoryContext context = NULL;
	MemoryContext old;
	StringInfoData data;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "apikeys event",
										ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	initStringInfo(&data);
	appendBinaryStringInfo(&data, (char *) hash, APIKEY_DIGEST_LEN);
	serialize_event(scan, &data);
	apikey_digest(data.data, data.len, hash);
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
}

/* The seal of a row, which goes on from the seal before. */
void
apikey_hash_seal(const ApikeySeal *seal, const uint8 *before, uint8 *result)
{
	struct
	{
		uint8		before[APIKEY_DIGEST_LEN];
		uint8		events_hash[APIKEY_DIGEST_LEN];
		uint64		numbers[4];
	}			data;

	memcpy(data.before, before, APIKEY_DIGEST_LEN);
	memcpy(data.events_hash, seal->events_hash, APIKEY_DIGEST_LEN);
	data.numbers[0] = pg_hton64(seal->place.xid);
	data.numbers[1] = pg_hton64(seal->place.event_id);
	data.numbers[2] = pg_hton64(seal->events);
	data.numbers[3] = pg_hton64(unix_microseconds(seal->sealed_at));
	apikey_digest(&data, sizeof(data), result);
}

/* ----- Reading seals ----- */

void
apikey_begin_seals(SealScan *scan, Snapshot snapshot)
{
	scan->snapshot = RegisterSnapshot(snapshot);
	apikey_open(INDEX_SEAL, &scan->table, &scan->index);
	scan->slot = table_slot_create(scan->table, NULL);
	scan->scan = apikey_index_beginscan(scan->table, scan->index,
										scan->snapshot, 0);
	index_rescan(scan->scan, NULL, 0, NULL, 0);
}

/* A column that holds a digest; false if it does not. */
static bool
read_digest(TupleTableSlot *slot, AttrNumber attnum, uint8 *digest)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);
	bytea	   *bytes;

	memset(digest, 0, APIKEY_DIGEST_LEN);
	if (isnull)
		return false;
	bytes = DatumGetByteaPP(value);
	if (VARSIZE_ANY_EXHDR(bytes) != APIKEY_DIGEST_LEN)
		return false;
	memcpy(digest, VARDATA_ANY(bytes), APIKEY_DIGEST_LEN);
	return true;
}

static int64
read_number(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, attnum, &isnull));
}

/* The next seal; or the last, going backward from the end. */
bool
apikey_next_seal(SealScan *scan, ScanDirection direction, ApikeySeal *seal)
{
	TupleTableSlot *slot = scan->slot;

	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan->scan, direction, slot))
		return false;
	seal->id = read_number(slot, Anum_seal_seal_id);
	seal->sealed_at = read_number(slot, Anum_seal_sealed_at);
	seal->place.xid = read_number(slot, Anum_seal_xid);
	seal->place.event_id = read_number(slot, Anum_seal_event_id);
	seal->events = read_number(slot, Anum_seal_events);
	seal->pruned = read_number(slot, Anum_seal_pruned);
	(void) read_digest(slot, Anum_seal_pruned_hash, seal->pruned_hash);
	seal->is_whole =
		read_digest(slot, Anum_seal_events_hash, seal->events_hash) &
		read_digest(slot, Anum_seal_seal, seal->seal);
	return true;
}

void
apikey_end_seals(SealScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->table, AccessShareLock);
	UnregisterSnapshot(scan->snapshot);
}

/* ----- Sealing ----- */

/* Be the only one who seals or prunes, until the transaction ends. */
static void
lock_seals(void)
{
	apikey_hold_extension();
	LockDatabaseObject(RelationRelationId, apikey_catalog()->tables[TABLE_SEAL],
					   1, ExclusiveLock);
}

/* The last seal; one of nothing if there is none. */
static void
find_last_seal(Snapshot snapshot, ApikeySeal *seal)
{
	SealScan	scan;

	memset(seal, 0, sizeof(*seal));
	seal->place.xid = seal->place.event_id = PG_INT64_MIN;
	apikey_begin_seals(&scan, snapshot);
	(void) apikey_next_seal(&scan, BackwardScanDirection, seal);
	apikey_end_seals(&scan);
}

static Datum
digest_datum(const uint8 *digest)
{
	bytea	   *result = palloc(VARHDRSZ + APIKEY_DIGEST_LEN);

	SET_VARSIZE(result, VARHDRSZ + APIKEY_DIGEST_LEN);
	memcpy(VARDATA(result), digest, APIKEY_DIGEST_LEN);
	return PointerGetDatum(result);
}

/* Store a seal of the events that were read, and begin the next. */
static void
store_seal(ApikeySeal *seal)
{
	Datum		values[Natts_seal - 1];
	bool		nulls[Natts_seal - 1] = {false};
	uint8		before[APIKEY_DIGEST_LEN];

	memcpy(before, seal->seal, APIKEY_DIGEST_LEN);
	seal->id++;
	seal->sealed_at = GetCurrentTimestamp();
	apikey_hash_seal(seal, before, seal->seal);
	values[Anum_seal_seal_id - 1] = Int64GetDatum(seal->id);
	values[Anum_seal_sealed_at - 1] = TimestampTzGetDatum(seal->sealed_at);
	values[Anum_seal_xid - 1] = Int64GetDatum(seal->place.xid);
	values[Anum_seal_event_id - 1] = Int64GetDatum(seal->place.event_id);
	values[Anum_seal_events - 1] = Int64GetDatum(seal->events);
	values[Anum_seal_events_hash - 1] = digest_datum(seal->events_hash);
	values[Anum_seal_seal - 1] = digest_datum(seal->seal);
	values[Anum_seal_pruned - 1] = Int64GetDatum(0);
	nulls[Anum_seal_pruned_hash - 1] = true;
	apikey_insert(INDEX_SEAL, values, nulls, lengthof(values));
	seal->events = 0;
	memset(seal->events_hash, 0, APIKEY_DIGEST_LEN);
}

/*
 * Seal what is complete.  Leaves the last seal; its number is 0 if there is
 * none.
 */
static void
seal_events(ApikeySeal *last)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EventScan	scan;

	find_last_seal(snapshot, last);
	last->events = 0;
	memset(last->events_hash, 0, APIKEY_DIGEST_LEN);
	apikey_begin_events(&scan, snapshot, last->place);
	while (apikey_next_event(&scan))
	{
		apikey_hash_event(&scan, last->events_hash);
		last->place = scan.place;
		if (++last->events == MAX_EVENTS)
			store_seal(last);
	}
	if (last->events > 0)
		store_seal(last);
	apikey_end_events(&scan);
	UnregisterSnapshot(snapshot);
}

/* For the background worker too. */
void
apikey_seal_events(ApikeySeal *last)
{
	lock_seals();
	seal_events(last);
}

/*
 * apikey_seal_history() returns bytea
 */
Datum
apikey_seal_history(PG_FUNCTION_ARGS)
{
	ApikeySeal	last;

	PreventCommandIfReadOnly("apikey_seal_history()");
	apikey_seal_events(&last);
	if (last.id == 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(digest_datum(last.seal));
}

/* ----- Pruning ----- */

/* Delete events of a seal, the first that are left, and note what they were. */
static void
prune_seal(const ApikeySeal *seal, EventPlace after, EventPlace last,
		   const uint8 *hash, int64 count)
{
	Datum		range[4] = {
		Int64GetDatum(after.xid), Int64GetDatum(after.event_id),
		Int64GetDatum(last.xid), Int64GetDatum(last.event_id)
	};
	Datum		note[3] = {
		Int64GetDatum(seal->id), Int64GetDatum(seal->pruned + count),
		digest_datum(hash)
	};

	apikey_run(STATEMENT_DELETE_EVENTS, range, NULL);
	apikey_run(STATEMENT_PRUNE_SEAL, note, NULL);
}

/*
 * Prune a seal's events that are before a time, from the current one of a scan
 * on; returns how many.  If any is left, the scan stands there.
 */
static int64
prune_events(const ApikeySeal *seal, EventScan *scan, bool *more,
			 TimestampTz before)
{
	EventPlace	after = APIKEY_BEGINNING;
	EventPlace	last = after;
	uint8		hash[APIKEY_DIGEST_LEN];
	int64		count = 0;
	bool		isnull;

	memcpy(hash, seal->pruned_hash, APIKEY_DIGEST_LEN);
	while (*more && apikey_compare_places(scan->place, seal->place) <= 0)
	{
		Datum		at = slot_getattr(scan->slot, Anum_event_at, &isnull);

		if (DatumGetTimestampTz(at) >= before)
			break;
		apikey_hash_event(scan, hash);
		last = scan->place;
		count++;
		*more = apikey_next_event(scan);
	}
	if (count > 0)
		prune_seal(seal, after, last, hash, count);
	return count;
}

/*
 * apikey_prune_history(before timestamptz) returns bigint
 */
Datum
apikey_prune_history(PG_FUNCTION_ARGS)
{
	EventPlace	beginning = APIKEY_BEGINNING;
	ApikeySeal	seal;
	SealScan	seals;
	EventScan	events;
	Snapshot	snapshot;
	TimestampTz before;
	int64		pruned = 0;
	bool		more;

	apikey_require_arguments(fcinfo);
	PreventCommandIfReadOnly("apikey_prune_history()");
	before = PG_GETARG_TIMESTAMPTZ(0);
	apikey_seal_events(&seal);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	apikey_begin_seals(&seals, snapshot);
	apikey_begin_events(&events, snapshot, beginning);
	more = apikey_next_event(&events);
	while (more && apikey_next_seal(&seals, ForwardScanDirection, &seal))
	{
		if (apikey_compare_places(events.place, seal.place) > 0)
			continue;
		pruned += prune_events(&seal, &events, &more, before);
		if (more && apikey_compare_places(events.place, seal.place) <= 0)
			break;
	}
	apikey_end_events(&events);
	apikey_end_seals(&seals);
	UnregisterSnapshot(snapshot);
	PG_RETURN_INT64(pruned);
}
