/*
 * lookup.c
 *		Finding rows by their keys, without SPI or the executor.
 *
 * Probes take AccessShareLock on table and index and release both at the end:
 * nobody waits for a transaction that has verified a key.  They read with the
 * latest snapshot, whatever the isolation level.  Results are copied into the
 * caller's memory context.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/hash.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/parallel.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "tables.h"

static RegProcedure
equality_of(Oid type)
{
	switch (type)
	{
		case BYTEAOID:
			return F_BYTEAEQ;
		case INT8OID:
			return F_INT8EQ;
		case NAMEOID:
			return F_NAMEEQ;
		case TIMESTAMPTZOID:
			return F_TIMESTAMPTZ_EQ;
		default:
			return F_TEXTEQ;
	}
}

/* The scan keys of each index, but for the arguments. */
static ScanKeyData scan_keys[NUM_INDEXES][MAX_INDEX_KEYS];

/* The scan keys never change: they name columns and built-in functions. */
void
apikey_lookup_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < NUM_INDEXES; i++)
	{
		const IndexSpec *index = &apikey_indexes[i];
		StrategyNumber equal = BTEqualStrategyNumber;

		if (index->am == HASH_AM_OID)
			equal = HTEqualStrategyNumber;
		for (int k = 0; k < index->nkeys; k++)
		{
			const ColumnSpec *column = apikey_column_of(index, k);

			ScanKeyEntryInitialize(&scan_keys[i][k], 0, k + 1, equal,
								   InvalidOid, apikey_collation_of(column),
								   equality_of(column->type), (Datum) 0);
		}
	}
	MemoryContextSwitchTo(old);
}

/*
 * The newest snapshot there is.  GetLatestSnapshot() refuses parallel mode;
 * the snapshot for catalogs is as new, for tables without a syscache.
 */
static Snapshot
latest_snapshot(Oid relid)
{
	if (IsInParallelMode())
		return GetCatalogSnapshot(relid);
	return GetLatestSnapshot();
}

/* A probe under way. */
typedef struct Probe
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} Probe;

static void
open_probe(ApikeyIndex which, Probe *probe)
{
	apikey_open(which, &probe->table, &probe->index);
	probe->snapshot =
		RegisterSnapshot(latest_snapshot(RelationGetRelid(probe->table)));
	probe->slot = table_slot_create(probe->table, NULL);
	probe->scan = apikey_index_beginscan(probe->table, probe->index,
										 probe->snapshot,
										 apikey_indexes[which].nkeys);
}

/* Position on the row whose keys are these; false if there is none. */
static bool
position_probe(ApikeyIndex which, const Datum *args, Probe *probe)
{
	ScanKeyData keys[MAX_INDEX_KEYS];
	int			nkeys = apikey_indexes[which].nkeys;

	memcpy(keys, scan_keys[which], sizeof(keys));
	for (int k = 0; k < nkeys; k++)
		keys[k].sk_argument = args[k];
	index_rescan(probe->scan, keys, nkeys, NULL, 0);
	return index_getnext_slot(probe->scan, ForwardScanDirection, probe->slot);
}

/* Both; ended by end_probe(), whether or not there is such a row. */
static bool
begin_probe(ApikeyIndex which, const Datum *args, Probe *probe)
{
	open_probe(which, probe);
	return position_probe(which, args, probe);
}

static void
end_probe(Probe *probe)
{
	index_endscan(probe->scan);
	ExecDropSingleTupleTableSlot(probe->slot);
	UnregisterSnapshot(probe->snapshot);
	index_close(probe->index, AccessShareLock);
	table_close(probe->table, AccessShareLock);
}

static inline Datum
column(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	if (unlikely(isnull))
		elog(ERROR, "unexpected null in column %d of a table of extension \"apikeys\"",
			 attnum);
	return value;
}

static ApikeyLevel
level_column(TupleTableSlot *slot, AttrNumber attnum)
{
	return apikey_level_of_oid(DatumGetObjectId(column(slot, attnum)));
}

/* When a key expires: NULL is never. */
static TimestampTz
expiry_column(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

static TimestampTz
time_column(TupleTableSlot *slot, AttrNumber attnum)
{
	return DatumGetTimestampTz(column(slot, attnum));
}

/* A copy, which outlives the probe. */
static text *
copy_column(TupleTableSlot *slot, AttrNumber attnum)
{
	return DatumGetTextPCopy(column(slot, attnum));
}

/* Not a copy. */
static text *
text_column(TupleTableSlot *slot, AttrNumber attnum)
{
	return DatumGetTextPP(column(slot, attnum));
}

/*
 * Is this row committed, and has nobody begun to change or delete it?  Reads
 * the hint bits that the visibility check has just left: a missing one says
 * no, which is safe.
 */
static bool
row_is_settled(Probe *probe)
{
	HeapTupleHeader header;

	if (!TTS_IS_BUFFERTUPLE(probe->slot))
		return false;
	header = ((HeapTupleTableSlot *) probe->slot)->tuple->t_data;
	return HeapTupleHeaderXminCommitted(header) &&
		((header->t_infomask & HEAP_XMAX_INVALID) != 0 ||
		 HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
}

/*
 * Position on the key of this digest.  A hash index keeps 32 bits of it, so
 * several rows may have to be looked at.
 */
static bool
begin_key_probe(ApikeyShape shape, const uint8 *digest, Probe *probe)
{
	struct
	{
		int32		header;
		uint8		bytes[APIKEY_DIGEST_LEN];
	}			wanted;
	Datum		arg = PointerGetDatum(&wanted);
	AttrNumber	attnum;
	bool		found;

	SET_VARSIZE(&wanted, sizeof(wanted));
	memcpy(wanted.bytes, digest, APIKEY_DIGEST_LEN);
	attnum = shape == SHAPE_NATIVE ? Anum_key_digest : Anum_legacy_digest;
	found = begin_probe(shape == SHAPE_NATIVE ? INDEX_KEY : INDEX_LEGACY,
						&arg, probe);
	while (found)
	{
		bytea	   *stored = DatumGetByteaPP(column(probe->slot, attnum));

		if (VARSIZE_ANY_EXHDR(stored) == APIKEY_DIGEST_LEN &&
			memcmp(VARDATA_ANY(stored), digest, APIKEY_DIGEST_LEN) == 0)
			return true;
		found = index_getnext_slot(probe->scan, ForwardScanDirection,
								   probe->slot);
	}
	return false;
}

static void
read_grant(ApikeyShape shape, TupleTableSlot *slot, ApikeyGrant *grant)
{
	grant->legacy = shape == SHAPE_LEGACY;
	if (grant->legacy)
	{
		grant->key_id = DatumGetInt64(column(slot, Anum_legacy_key_id));
		grant->level = LEVEL_ADMIN;
		grant->expires_at = DT_NOEND;
		return;
	}
	grant->key_id = DatumGetInt64(column(slot, Anum_key_key_id));
	grant->level = level_column(slot, Anum_key_level);
	grant->expires_at = expiry_column(slot, Anum_key_expires_at);
}

/* All of a row; its texts point into it. */
void
apikey_read_key(ApikeyShape shape, TupleTableSlot *slot, ApikeyKey *key)
{
	memset(key, 0, sizeof(*key));
	read_grant(shape, slot, &key->grant);
	if (shape == SHAPE_LEGACY)
	{
		key->org_id = text_column(slot, Anum_legacy_org_id);
		key->created_at = time_column(slot, Anum_legacy_created_at);
		return;
	}
	key->org_id = text_column(slot, Anum_key_org_id);
	key->owner_id = text_column(slot, Anum_key_owner_id);
	key->name = text_column(slot, Anum_key_name);
	key->suffix = text_column(slot, Anum_key_suffix);
	key->created_at = time_column(slot, Anum_key_created_at);
}

text *
apikey_copy_text(const text *value)
{
	return value == NULL ? NULL :
		cstring_to_text_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

/*
 * The hot path: what a decision about a level needs, from this backend's
 * cache if it is there.
 */
bool
apikey_find_grant(ApikeyShape shape, const uint8 *digest, ApikeyGrant *grant,
				  bool *from_cache)
{
	Probe		probe;
	uint32		generation;
	bool		found;

	apikey_accept_changes();
	*from_cache = apikey_cache_find(shape, digest, grant);
	if (*from_cache)
		return true;
	/* before anything is read, see change.c */
	generation = apikey_cache_generation();
	found = begin_key_probe(shape, digest, &probe);
	if (found)
	{
		read_grant(shape, probe.slot, grant);
		if (apikey_catalog()->changes_are_announced && row_is_settled(&probe))
			apikey_cache_store(digest, grant, generation);
	}
	end_probe(&probe);
	return found;
}

/*
 * Take the key that a probe found, if any, and what is shown of it, if that is
 * wanted; and end the probe.
 */
static bool
take_key(ApikeyShape shape, bool found, Probe *probe, ApikeyKey *key,
		 ApikeyRow *shown)
{
	if (found)
	{
		apikey_read_key(shape, probe->slot, key);
		key->org_id = apikey_copy_text(key->org_id);
		key->owner_id = apikey_copy_text(key->owner_id);
		key->name = apikey_copy_text(key->name);
		key->suffix = apikey_copy_text(key->suffix);
		if (shown != NULL && shape == SHAPE_LEGACY)
			apikey_show_legacy_key(shown, key);
		else if (shown != NULL)
			apikey_show_key(shown, probe->slot);
	}
	end_probe(probe);
	return found;
}

/* All of a key, always from the table. */
bool
apikey_find_key(ApikeyShape shape, const uint8 *digest, ApikeyKey *key,
				ApikeyRow *shown)
{
	Probe		probe;
	bool		found = begin_key_probe(shape, digest, &probe);

	return take_key(shape, found, &probe, key, shown);
}

/* The same for a key that was found before. */
bool
apikey_find_key_by_id(ApikeyShape shape, int64 key_id, ApikeyKey *key)
{
	Datum		arg = Int64GetDatum(key_id);
	Probe		probe;
	bool		found = begin_probe(shape == SHAPE_NATIVE ?
									INDEX_KEY_ID : INDEX_LEGACY_ID,
									&arg, &probe);

	return take_key(shape, found, &probe, key, NULL);
}

static bool
find_member(ApikeyIndex which, const Datum *args, ApikeyMember *member)
{
	Probe		probe;
	bool		found = begin_probe(which, args, &probe);

	if (found)
	{
		Datum		role = column(probe.slot, Anum_member_role);
		bool		isnull;
		Datum		db_role = slot_getattr(probe.slot,
										   Anum_member_db_role_oid, &isnull);

		member->org_id = copy_column(probe.slot, Anum_member_org_id);
		member->user_id = copy_column(probe.slot, Anum_member_user_id);
		member->email = copy_column(probe.slot, Anum_member_email);
		member->role = apikey_role_of_oid(DatumGetObjectId(role));
		member->db_role = isnull ? InvalidOid : DatumGetObjectId(db_role);
	}
	end_probe(&probe);
	return found;
}

bool
apikey_find_member(Datum org_id, Datum user_id, ApikeyMember *member)
{
	Datum		args[] = {org_id, user_id};

	return find_member(INDEX_MEMBER, args, member);
}

/* The member whose database role this is, by name and OID; see db_role.c. */
bool
apikey_find_member_of_role(Oid db_role, ApikeyMember *member)
{
	const char *role_name = GetUserNameFromId(db_role, true);
	NameData	name;
	Datum		arg = NameGetDatum(&name);

	if (role_name == NULL)
		return false;
	namestrcpy(&name, role_name);
	return find_member(INDEX_MEMBER_DB_ROLE, &arg, member) &&
		member->db_role == db_role;
}

bool
apikey_org_exists(Datum org_id)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_ORG, &org_id, &probe);

	end_probe(&probe);
	return found;
}

bool
apikey_find_capability(Datum capability, ApikeyLevel *level)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_CAPABILITY, &capability, &probe);

	if (found)
		*level = level_column(probe.slot, Anum_capability_level);
	end_probe(&probe);
	return found;
}

static bool
find_key_id(ApikeyIndex which, const Datum *args, int64 *key_id)
{
	Probe		probe;
	bool		found = begin_probe(which, args, &probe);

	if (found)
		*key_id = DatumGetInt64(column(probe.slot, Anum_key_key_id));
	end_probe(&probe);
	return found;
}

/* A key of the organization, as people name it. */
bool
apikey_find_key_of_org(Datum org_id, Datum suffix, int64 *key_id)
{
	Datum		args[] = {org_id, suffix};

	return find_key_id(INDEX_KEY_SUFFIX, args, key_id);
}

/*
 * A member's own key.  No other member's key is met on the way, so that
 * neither time nor statistics tell whether somebody else has it.
 */
bool
apikey_find_key_of_member(Datum org_id, Datum user_id, Datum suffix,
						  int64 *key_id)
{
	Datum		args[] = {org_id, user_id, suffix};

	return find_key_id(INDEX_KEY_OWNER, args, key_id);
}

/* The organization's legacy key. */
bool
apikey_find_legacy_key(Datum org_id, ApikeyKey *key)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_LEGACY_ORG, &org_id, &probe);

	return take_key(SHAPE_LEGACY, found, &probe, key, NULL);
}

/*
 * When keys were last used, as far as it has been written: for many keys, one
 * after the other, with one snapshot and one look for the table.
 */
struct ApikeyUses
{
	Probe		probe;
};

ApikeyUses *
apikey_begin_uses(void)
{
	ApikeyUses *uses = palloc(sizeof(ApikeyUses));

	open_probe(INDEX_USAGE, &uses->probe);
	return uses;
}

/* False for never. */
bool
apikey_written_use(ApikeyUses *uses, int64 key_id, ApikeyUse *use)
{
	Datum		arg = Int64GetDatum(key_id);
	TupleTableSlot *slot = uses->probe.slot;

	if (!position_probe(INDEX_USAGE, &arg, &uses->probe))
		return false;
	use->last_used_at = time_column(slot, Anum_usage_last_used_at);
	use->uses = DatumGetInt64(column(slot, Anum_usage_uses));
	return true;
}

void
apikey_end_uses(ApikeyUses *uses)
{
	end_probe(&uses->probe);
	pfree(uses);
}
