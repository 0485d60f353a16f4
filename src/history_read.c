/*
 * history_read.c
 *		Reading events, in the order in which nothing can later appear before
 *		what was read.
 *
 * Events are read by their index, with the snapshot of the statement: those of
 * transactions below the snapshot's xmin, all of which have ended.  No lock is
 * kept.  It works on standbys.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "apikeys.h"
#include "history.h"
#include "tables.h"

PG_FUNCTION_INFO_V1(apikey_before_events);
PG_FUNCTION_INFO_V1(apikey_feed);

/* Two numbers of 64 bits, and what is between them. */
#define POSITION_MAX 40

/* The columns of an event that the feed shows, in its order. */
static const AttrNumber feed_columns[] = {
	Anum_event_event_id, Anum_event_at, Anum_event_kind, Anum_event_org_id,
	Anum_event_suffix, Anum_event_owner_id, Anum_event_name, Anum_event_level,
	Anum_event_actor_kind, Anum_event_actor_id, Anum_event_db_role,
	Anum_event_client_addr, Anum_event_changes
};

/*
 * The number below which all is complete for a snapshot.  Where nothing has
 * been written yet, all that the snapshot sees was there before.
 */
static int64
complete_below(Snapshot snapshot)
{
	int64		offset = apikey_xid_offset();
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);
	FullTransactionId xmin;

	if (offset < 0)
		return PG_INT64_MAX;
	if (snapshot->xmin > XidFromFullTransactionId(next))
		epoch--;
	xmin = FullTransactionIdFromEpochAndXid(epoch, snapshot->xmin);
	return offset + (int64) U64FromFullTransactionId(xmin);
}

/*
 * Begin to read behind a place, up to what is complete for a snapshot.  From
 * the beginning on is all that is there, whatever numbers somebody has given
 * it.
 */
void
apikey_begin_events(EventScan *scan, Snapshot snapshot, EventPlace after)
{
	ScanKeyData header;
	int			nkeys = after.xid == PG_INT64_MIN ? 0 : 1;

	/* before the table is looked at */
	scan->snapshot = RegisterSnapshot(snapshot);
	scan->below = complete_below(snapshot);
	apikey_open(INDEX_EVENT, &scan->table, &scan->index);
	scan->slot = table_slot_create(scan->table, NULL);
	scan->scan = apikey_index_beginscan(scan->table, scan->index,
										scan->snapshot, nkeys);

	/* (xid, event_id) > after */
	ScanKeyEntryInitialize(&scan->keys[0], SK_ROW_MEMBER, 1,
						   BTGreaterStrategyNumber, INT8OID, InvalidOid,
						   F_BTINT8CMP, Int64GetDatum(after.xid));
	ScanKeyEntryInitialize(&scan->keys[1], SK_ROW_MEMBER | SK_ROW_END, 2,
						   BTGreaterStrategyNumber, INT8OID, InvalidOid,
						   F_BTINT8CMP, Int64GetDatum(after.event_id));
	memset(&header, 0, sizeof(header));
	header.sk_flags = SK_ROW_HEADER;
	header.sk_attno = 1;
	header.sk_strategy = BTGreaterStrategyNumber;
	header.sk_argument = PointerGetDatum(scan->keys);
	index_rescan(scan->scan, &header, nkeys, NULL, 0);
}

static int64
number_of(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, attnum, &isnull));
}

/* The next event in the scan's slot; false if that was all. */
bool
apikey_next_event(EventScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
		return false;
	scan->place.xid = number_of(scan->slot, Anum_event_xid);
	scan->place.event_id = number_of(scan->slot, Anum_event_event_id);
	return scan->place.xid < scan->below;
}

void
apikey_end_events(EventScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->table, AccessShareLock);
	UnregisterSnapshot(scan->snapshot);
}

/* Which comes first: less than 0 for the one, more for the other. */
int
apikey_compare_places(EventPlace a, EventPlace b)
{
	if (a.xid != b.xid)
		return a.xid < b.xid ? -1 : 1;
	if (a.event_id != b.event_id)
		return a.event_id < b.event_id ? -1 : 1;
	return 0;
}

/* ----- What became of a key ----- */

static text *
copy_text(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	return isnull ? NULL : DatumGetTextPCopy(value);
}

static bool
is_text(const text *value, const char *wanted)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(wanted) &&
		memcmp(VARDATA_ANY(value), wanted, strlen(wanted)) == 0;
}

/* Take an event, if it is the deletion of such a key, and newer. */
static bool
take_deletion(TupleTableSlot *slot, ApikeyShape shape,
			  ApikeyDeletion *deletion)
{
	EventPlace	place = {
		number_of(slot, Anum_event_xid), number_of(slot, Anum_event_event_id)
	};
	text	   *kind = copy_text(slot, Anum_event_kind);
	bool		legacy = is_text(kind, "legacy.delete");
	text	   *actor_id = copy_text(slot, Anum_event_actor_id);
	bool		isnull;

	if (!(is_text(kind, "key.delete") || (legacy && shape == SHAPE_LEGACY)) ||
		apikey_compare_places(place, deletion->place) < 0)
		return false;
	deletion->place = place;
	deletion->legacy = legacy;
	deletion->at = number_of(slot, Anum_event_at);
	deletion->org_id = copy_text(slot, Anum_event_org_id);
	deletion->owner_id = copy_text(slot, Anum_event_owner_id);
	deletion->name = copy_text(slot, Anum_event_name);
	deletion->suffix = copy_text(slot, Anum_event_suffix);
	deletion->level = DatumGetObjectId(slot_getattr(slot, Anum_event_level,
													&isnull));
	deletion->by = copy_text(slot, Anum_event_actor_kind);
	if (actor_id != NULL)
		deletion->by = cstring_to_text(psprintf("%s %s",
												text_to_cstring(deletion->by),
												text_to_cstring(actor_id)));
	return true;
}

/*
 * The last deletion of a key of this digest, of which history has the suffix:
 * for whom the table has no such key.
 */
bool
apikey_find_deletion(ApikeyShape shape, const uint8 *digest,
					 ApikeyDeletion *deletion)
{
	char		bytes[APIKEY_SUFFIX_LEN];
	text	   *suffix;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation	table;
	Relation	index;
	IndexScanDesc scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	bool		found = false;

	memset(deletion, 0, sizeof(*deletion));
	apikey_suffix_of(digest, bytes);
	suffix = cstring_to_text_with_len(bytes, APIKEY_SUFFIX_LEN);
	apikey_open(INDEX_EVENT_SUFFIX, &table, &index);
	slot = table_slot_create(table, NULL);
	scan = apikey_index_beginscan(table, index, snapshot, 1);
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(suffix));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		found |= take_deletion(slot, shape, deletion);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return found;
}

/* ----- The feed ----- */

/* A number without a sign; NULL if there is none. */
static const char *
parse_number(const char *text, int64 *number)
{
	char	   *end;

	if (*text < '0' || *text > '9')
		return NULL;
	errno = 0;
	*number = strtoi64(text, &end, 10);
	return errno == 0 ? end : NULL;
}

/* A position is both numbers, with a hyphen between them. */
static bool
parse_position(Datum position, EventPlace *place)
{
	const char *rest;

	if (toast_raw_datum_size(position) > POSITION_MAX + VARHDRSZ)
		return false;
	rest = parse_number(TextDatumGetCString(position), &place->xid);
	if (rest == NULL || *rest != '-')
		return false;
	rest = parse_number(rest + 1, &place->event_id);
	return rest != NULL && *rest == '\0';
}

static void
put_event(EventScan *scan, ReturnSetInfo *result)
{
	Datum		values[1 + lengthof(feed_columns)];
	bool		nulls[1 + lengthof(feed_columns)];
	char		position[POSITION_MAX + 1];
	text	   *shown;

	snprintf(position, sizeof(position), INT64_FORMAT "-" INT64_FORMAT,
			 scan->place.xid, scan->place.event_id);
	shown = cstring_to_text(position);
	values[0] = PointerGetDatum(shown);
	nulls[0] = false;
	for (int i = 0; i < (int) lengthof(feed_columns); i++)
		values[i + 1] = slot_getattr(scan->slot, feed_columns[i],
									 &nulls[i + 1]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	pfree(shown);
}

/*
 * apikey_feed(after text, max integer) returns table
 */
Datum
apikey_feed(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EventPlace	after = APIKEY_BEGINNING;
	EventScan	scan;
	int			max;

	apikey_require_argument(fcinfo, 1);
	max = PG_GETARG_INT32(1);
	if (max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at least one event must be asked for")));
	if (!PG_ARGISNULL(0) && !parse_position(PG_GETARG_DATUM(0), &after))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is no position of the feed"),
				 errhint("Give the \"position\" of the last event that was read, or NULL to begin.")));
	InitMaterializedSRF(fcinfo, 0);
	apikey_begin_events(&scan, GetActiveSnapshot(), after);
	while (max-- > 0 && apikey_next_event(&scan))
		put_event(&scan, result);
	apikey_end_events(&scan);
	PG_RETURN_NULL();
}

/*
 * apikey_before_events() returns bigint
 */
Datum
apikey_before_events(APIKEY_NO_ARGS)
{
	PG_RETURN_INT64(PG_INT64_MIN);
}
