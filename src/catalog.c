/*
 * catalog.c
 *		Finding the extension's objects, and rows by their keys.
 *
 * The OIDs of our tables, indexes and enum labels are looked up once and kept
 * until a relcache invalidation arrives for one of the tables; what is not as
 * the install script made it is an error at that moment, so that the probes
 * need not check anything again.  The table of usage is looked at on its own,
 * when it is asked for: whoever locks or vacuums it must not be felt by those
 * who verify keys.
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
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "apikeys.h"

/* A column that the code relies on; NULL ends a list. */
typedef struct ColumnSpec
{
	const char *name;
	Oid			type;			/* InvalidOid for one of our enums */
} ColumnSpec;

typedef struct TableSpec
{
	const char *name;
	ColumnSpec	columns[10];
} TableSpec;

typedef struct IndexSpec
{
	ApikeyTable table;
	Oid			am;
	int			nkeys;
	AttrNumber	keys[2];
} IndexSpec;

static const TableSpec tables[NUM_TABLES] = {
	[TABLE_ORG] = {"apikey_org",
	{{"org_id", TEXTOID}, {"name", TEXTOID}, {"plan", InvalidOid}}},
	[TABLE_MEMBER] = {"apikey_member",
		{{"org_id", TEXTOID}, {"user_id", TEXTOID}, {"email", TEXTOID},
	{"role", InvalidOid}, {"db_role", NAMEOID}}},
	[TABLE_KEY] = {"apikey_key",
		{{"key_id", INT8OID}, {"org_id", TEXTOID}, {"owner_id", TEXTOID},
		{"name", TEXTOID}, {"level", InvalidOid}, {"digest", BYTEAOID},
		{"suffix", TEXTOID}, {"created_at", TIMESTAMPTZOID},
	{"expires_at", TIMESTAMPTZOID}}},
	[TABLE_LEGACY] = {"apikey_legacy",
		{{"org_id", TEXTOID}, {"key_id", INT8OID}, {"digest", BYTEAOID},
	{"created_at", TIMESTAMPTZOID}}},
	[TABLE_CAPABILITY] = {"apikey_capability",
	{{"capability", TEXTOID}, {"level", InvalidOid}}},
	[TABLE_USAGE] = {"apikey_usage",
		{{"key_id", INT8OID}, {"last_used_at", TIMESTAMPTZOID},
	{"last_used_addr", INETOID}, {"uses", INT8OID}}},
};

static const IndexSpec indexes[NUM_INDEXES] = {
	[INDEX_ORG] = {TABLE_ORG, BTREE_AM_OID, 1, {Anum_org_org_id}},
	[INDEX_MEMBER] = {TABLE_MEMBER, BTREE_AM_OID, 2,
	{Anum_member_org_id, Anum_member_user_id}},
	[INDEX_MEMBER_DB_ROLE] = {TABLE_MEMBER, BTREE_AM_OID, 1,
	{Anum_member_db_role}},
	[INDEX_KEY] = {TABLE_KEY, HASH_AM_OID, 1, {Anum_key_digest}},
	[INDEX_KEY_SUFFIX] = {TABLE_KEY, BTREE_AM_OID, 2,
	{Anum_key_org_id, Anum_key_suffix}},
	[INDEX_LEGACY] = {TABLE_LEGACY, HASH_AM_OID, 1, {Anum_legacy_digest}},
	[INDEX_LEGACY_ORG] = {TABLE_LEGACY, BTREE_AM_OID, 1, {Anum_legacy_org_id}},
	[INDEX_CAPABILITY] = {TABLE_CAPABILITY, BTREE_AM_OID, 1,
	{Anum_capability_capability}},
	[INDEX_USAGE] = {TABLE_USAGE, BTREE_AM_OID, 1, {Anum_usage_key_id}},
};

/* In the order of ApikeyLevel and ApikeyRole. */
static const char *const level_labels[] = {NULL, "standard", "architect", "admin"};
static const char *const role_labels[] = {NULL, "guest", "standard", "architect", "admin"};

static ApikeyCatalog catalog;
static bool catalog_is_valid = false;

/* The scan keys of each index, but for the arguments. */
static ScanKeyData scan_keys[NUM_INDEXES][2];

/*
 * Something changed in a relation, or in any (InvalidOid).  Where
 * debug_discard_caches pretends the latter, whenever a lock is taken, nothing
 * did, and the catalog would never be loaded to its end.
 */
static void
relcache_callback(Datum arg pg_attribute_unused(), Oid relid)
{
	bool		ours = !OidIsValid(relid);

	if (ours && debug_discard_caches > 0)
		return;
	for (int i = 0; i < NUM_TABLES; i++)
		ours |= i != TABLE_USAGE && relid == catalog.tables[i];
	if (ours)
		catalog_is_valid = false;
	if (relid == catalog.tables[TABLE_USAGE])
		catalog.indexes[INDEX_USAGE] = InvalidOid;
	if (ours || relid == catalog.change)
		apikey_cache_reset();
}

/* The scan keys never change: they name columns and built-in functions. */
static void
init_scan_keys(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < NUM_INDEXES; i++)
	{
		const IndexSpec *index = &indexes[i];
		const ColumnSpec *columns = tables[index->table].columns;
		StrategyNumber equal;

		equal = index->am == HASH_AM_OID ?
			HTEqualStrategyNumber : BTEqualStrategyNumber;
		for (int k = 0; k < index->nkeys; k++)
		{
			Oid			type = columns[index->keys[k] - 1].type;
			bool		collates = type == TEXTOID || type == NAMEOID;

			ScanKeyEntryInitialize(&scan_keys[i][k], 0, k + 1, equal,
								   InvalidOid,
								   collates ? C_COLLATION_OID : InvalidOid,
								   type == BYTEAOID ? F_BYTEAEQ :
								   type == INT8OID ? F_INT8EQ :
								   type == NAMEOID ? F_NAMEEQ : F_TEXTEQ,
								   (Datum) 0);
		}
	}
	MemoryContextSwitchTo(old);
}

void
apikey_catalog_init(void)
{
	init_scan_keys();
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}

void
apikey_not_as_installed(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s \"%s\" of extension \"apikeys\" is missing or not as it was installed",
					what, name),
			 errhint("Undo what was changed by hand, or restore it into a new installation of the extension.")));
}

static void
check_columns(Relation rel, const TableSpec *table)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; table->columns[i].name != NULL; i++)
	{
		Form_pg_attribute attr;

		if (i >= desc->natts)
			apikey_not_as_installed("column", table->columns[i].name);
		attr = TupleDescAttr(desc, i);
		if (attr->attisdropped ||
			strcmp(NameStr(attr->attname), table->columns[i].name) != 0 ||
			(OidIsValid(table->columns[i].type) ?
			 attr->atttypid != table->columns[i].type :
			 !type_is_enum(attr->atttypid)))
			apikey_not_as_installed("column", table->columns[i].name);
	}
}

/* Can this index answer with every row, and has it just these keys? */
static bool
index_serves(Relation rel, const IndexSpec *index)
{
	Form_pg_index form = rel->rd_index;

	if (rel->rd_rel->relam != index->am ||
		form->indnkeyatts != index->nkeys ||
		!form->indisvalid || !form->indisready || !form->indislive ||
		!(form->indisunique || form->indisexclusion) ||
		!heap_attisnull(rel->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int k = 0; k < index->nkeys; k++)
		if (form->indkey.values[k] != index->keys[k] ||
			(OidIsValid(rel->rd_indcollation[k]) &&
			 rel->rd_indcollation[k] != C_COLLATION_OID))
			return false;
	return true;
}

static Oid
find_index(Relation rel, const IndexSpec *index)
{
	Oid			found = InvalidOid;
	List	   *candidates = RelationGetIndexList(rel);
	ListCell   *cell;

	foreach(cell, candidates)
	{
		Relation	candidate = index_open(lfirst_oid(cell), AccessShareLock);

		if (!OidIsValid(found) && index_serves(candidate, index))
			found = RelationGetRelid(candidate);
		index_close(candidate, AccessShareLock);
	}
	list_free(candidates);
	if (!OidIsValid(found))
		apikey_not_as_installed("index on table", RelationGetRelationName(rel));
	return found;
}

/*
 * Do changes of this table's rows fire our trigger in every session?
 */
static bool
changes_are_announced(Relation rel, Oid function)
{
	TriggerDesc *triggers = rel->trigdesc;
	bool		update = false;
	bool		delete = false;
	bool		truncate = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgfoid != function || trigger->tgqual != NULL ||
			trigger->tgnattr != 0 || trigger->tgdeferrable ||
			!TRIGGER_FOR_AFTER(trigger->tgtype) ||
			trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype))
		{
			update |= TRIGGER_FOR_UPDATE(trigger->tgtype);
			delete |= TRIGGER_FOR_DELETE(trigger->tgtype);
		}
		truncate |= TRIGGER_FOR_TRUNCATE(trigger->tgtype);
	}
	return update && delete && truncate;
}

static void
find_table(ApikeyTable which, Oid extension)
{
	const char *name = tables[which].name;
	Oid			relid = get_relname_relid(name, catalog.namespace);

	if (!OidIsValid(relid) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		apikey_not_as_installed("table", name);
	catalog.tables[which] = relid;
}

/*
 * Open a table.  NULL if it was dropped while we waited for it: then what we
 * know is of an extension that is no more, and must be learnt again.
 */
static Relation
open_table(ApikeyTable which)
{
	Relation	rel = try_table_open(catalog.tables[which], AccessShareLock);

	if (unlikely(rel == NULL))
		catalog_is_valid = false;
	return rel;
}

/* Check a table, and find its indexes. */
static void
load_table(ApikeyTable which, Oid announcer)
{
	const TableSpec *table = &tables[which];
	Relation	rel = open_table(which);

	if (rel == NULL)
		return;
	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		apikey_not_as_installed("table", table->name);
	check_columns(rel, table);
	for (int i = 0; i < NUM_INDEXES; i++)
		if (indexes[i].table == which)
			catalog.indexes[i] = find_index(rel, &indexes[i]);
	if (which == TABLE_KEY)
		catalog.owner = rel->rd_rel->relowner;
	if (which == TABLE_KEY || which == TABLE_LEGACY)
		catalog.changes_are_announced &= changes_are_announced(rel, announcer);
	table_close(rel, AccessShareLock);
}

static Oid
load_label(Oid type, const char *label)
{
	Oid			oid = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
									  ObjectIdGetDatum(type),
									  CStringGetDatum(label));

	if (!OidIsValid(oid))
		apikey_not_as_installed("enum label", label);
	return oid;
}

static Oid
load_type(const char *name)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum(name),
									   ObjectIdGetDatum(catalog.namespace));

	if (!OidIsValid(type))
		apikey_not_as_installed("type", name);
	return type;
}

static void
load_enums(void)
{
	catalog.level_type = load_type("apikey_level");
	catalog.role_type = load_type("apikey_role");
	catalog.plan_type = load_type("apikey_plan");
	for (int i = LEVEL_STANDARD; i <= LEVEL_ADMIN; i++)
		catalog.levels[i] = load_label(catalog.level_type, level_labels[i]);
	for (int i = ROLE_GUEST; i <= ROLE_ADMIN; i++)
		catalog.roles[i] = load_label(catalog.role_type, role_labels[i]);
	catalog.enterprise = load_label(catalog.plan_type, "enterprise");
}

/* get_extension_schema() is not exported by 15. */
Oid
apikey_schema_of_extension(const char *name)
{
	Oid			extension = get_extension_oid(name, false);
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

static void
load_catalog(void)
{
	Oid			extension = get_extension_oid("apikeys", false);
	Oid			announcer;
	List	   *name;

	catalog.namespace = apikey_schema_of_extension("apikeys");
	name = list_make2(makeString(get_namespace_name(catalog.namespace)),
					  makeString("apikey_announce_change"));
	announcer = LookupFuncName(name, 0, NULL, true);
	catalog.changes_are_announced = OidIsValid(announcer);
	catalog.change = get_relname_relid("apikey_change", catalog.namespace);
	if (!OidIsValid(catalog.change))
		apikey_not_as_installed("type", "apikey_change");
	load_enums();
	for (int i = 0; i < NUM_TABLES; i++)
		find_table(i, extension);
	for (int i = 0; i < NUM_TABLES; i++)
		if (i != TABLE_USAGE)
			load_table(i, announcer);
}

/*
 * The catalog, loaded anew if it was invalidated, even while it was loading.
 */
const ApikeyCatalog *
apikey_catalog(void)
{
	while (unlikely(!catalog_is_valid))
	{
		memset(&catalog, 0, sizeof(catalog));
		catalog_is_valid = true;
		PG_TRY();
		{
			load_catalog();
		}
		PG_CATCH();
		{
			catalog_is_valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return &catalog;
}

ApikeyLevel
apikey_level_of_oid(Oid oid)
{
	const ApikeyCatalog *cat = apikey_catalog();

	for (int i = LEVEL_STANDARD; i <= LEVEL_ADMIN; i++)
		if (cat->levels[i] == oid)
			return i;
	apikey_not_as_installed("type", "apikey_level");
}

ApikeyRole
apikey_role_of_oid(Oid oid)
{
	const ApikeyCatalog *cat = apikey_catalog();

	for (int i = ROLE_GUEST; i <= ROLE_ADMIN; i++)
		if (cat->roles[i] == oid)
			return i;
	apikey_not_as_installed("type", "apikey_role");
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

static inline bool
is_loaded(ApikeyIndex which)
{
	return catalog_is_valid && OidIsValid(catalog.indexes[which]);
}

/*
 * Open table and index.  Locking a table accepts invalidations: if one of
 * them was for us, what we know must be learnt again, and may be an error.
 */
static void
open_relations(ApikeyIndex which, Probe *probe)
{
	for (;;)
	{
		const ApikeyCatalog *cat = apikey_catalog();

		if (unlikely(!OidIsValid(cat->indexes[which])))
		{
			load_table(indexes[which].table, InvalidOid);
			continue;
		}
		probe->table = open_table(indexes[which].table);
		if (unlikely(probe->table == NULL))
			continue;
		if (likely(is_loaded(which)))
		{
			probe->index = index_open(cat->indexes[which], AccessShareLock);
			if (likely(is_loaded(which)))
				return;
			index_close(probe->index, AccessShareLock);
		}
		table_close(probe->table, AccessShareLock);
	}
}

/*
 * Position on the row whose keys are these; false if there is none.  Ended
 * by end_probe() in both cases.
 */
static bool
begin_probe(ApikeyIndex which, Datum key1, Datum key2, Probe *probe)
{
	ScanKeyData keys[2];
	int			nkeys = indexes[which].nkeys;

	open_relations(which, probe);
	memcpy(keys, scan_keys[which], sizeof(keys));
	keys[0].sk_argument = key1;
	keys[1].sk_argument = key2;
	probe->snapshot =
		RegisterSnapshot(latest_snapshot(RelationGetRelid(probe->table)));
	probe->slot = table_slot_create(probe->table, NULL);
	probe->scan = apikey_index_beginscan(probe->table, probe->index,
										 probe->snapshot, nkeys);
	index_rescan(probe->scan, keys, nkeys, NULL, 0);
	return index_getnext_slot(probe->scan, ForwardScanDirection, probe->slot);
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
column(Probe *probe, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(probe->slot, attnum, &isnull);

	if (unlikely(isnull))
		elog(ERROR, "unexpected null in column %d of table \"%s\"",
			 attnum, RelationGetRelationName(probe->table));
	return value;
}

static ApikeyLevel
level_column(Probe *probe, AttrNumber attnum)
{
	return apikey_level_of_oid(DatumGetObjectId(column(probe, attnum)));
}

static TimestampTz
time_column(Probe *probe, AttrNumber attnum)
{
	return DatumGetTimestampTz(column(probe, attnum));
}

static text *
copy_column(Probe *probe, AttrNumber attnum)
{
	return DatumGetTextPCopy(column(probe, attnum));
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
	AttrNumber	attnum;
	bool		found;

	SET_VARSIZE(&wanted, sizeof(wanted));
	memcpy(wanted.bytes, digest, APIKEY_DIGEST_LEN);
	attnum = shape == SHAPE_NATIVE ? Anum_key_digest : Anum_legacy_digest;
	found = begin_probe(shape == SHAPE_NATIVE ? INDEX_KEY : INDEX_LEGACY,
						PointerGetDatum(&wanted), (Datum) 0, probe);
	while (found)
	{
		bytea	   *stored = DatumGetByteaPP(column(probe, attnum));

		if (VARSIZE_ANY_EXHDR(stored) == APIKEY_DIGEST_LEN &&
			memcmp(VARDATA_ANY(stored), digest, APIKEY_DIGEST_LEN) == 0)
			return true;
		found = index_getnext_slot(probe->scan, ForwardScanDirection,
								   probe->slot);
	}
	return false;
}

static void
read_grant(ApikeyShape shape, Probe *probe, ApikeyGrant *grant)
{
	grant->legacy = shape == SHAPE_LEGACY;
	if (grant->legacy)
	{
		grant->key_id = DatumGetInt64(column(probe, Anum_legacy_key_id));
		grant->level = LEVEL_ADMIN;
		grant->expires_at = DT_NOEND;
		return;
	}
	grant->key_id = DatumGetInt64(column(probe, Anum_key_key_id));
	grant->level = level_column(probe, Anum_key_level);
	grant->expires_at = time_column(probe, Anum_key_expires_at);
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

	/*
	 * Whatever was announced before this verification started must be seen,
	 * and the check for messages is not itself a barrier.
	 */
	pg_memory_barrier();
	AcceptInvalidationMessages();
	*from_cache = apikey_cache_find(shape, digest, grant);
	if (*from_cache)
		return true;
	/* before anything is read, see cache.c */
	generation = apikey_cache_generation();
	found = begin_key_probe(shape, digest, &probe);
	if (found)
	{
		read_grant(shape, &probe, grant);
		if (catalog.changes_are_announced && row_is_settled(&probe))
			apikey_cache_store(digest, grant, generation);
	}
	end_probe(&probe);
	return found;
}

/* All of a key, always from the table. */
bool
apikey_find_key(ApikeyShape shape, const uint8 *digest, ApikeyKey *key)
{
	Probe		probe;
	bool		found = begin_key_probe(shape, digest, &probe);

	memset(key, 0, sizeof(*key));
	if (found)
	{
		read_grant(shape, &probe, &key->grant);
		if (shape == SHAPE_LEGACY)
		{
			key->org_id = copy_column(&probe, Anum_legacy_org_id);
			key->created_at = time_column(&probe, Anum_legacy_created_at);
		}
		else
		{
			key->org_id = copy_column(&probe, Anum_key_org_id);
			key->owner_id = copy_column(&probe, Anum_key_owner_id);
			key->name = copy_column(&probe, Anum_key_name);
			key->suffix = copy_column(&probe, Anum_key_suffix);
			key->created_at = time_column(&probe, Anum_key_created_at);
		}
	}
	end_probe(&probe);
	return found;
}

static bool
find_member(ApikeyIndex which, Datum key1, Datum key2, ApikeyMember *member)
{
	Probe		probe;
	bool		found = begin_probe(which, key1, key2, &probe);

	if (found)
	{
		Datum		role = column(&probe, Anum_member_role);

		member->org_id = copy_column(&probe, Anum_member_org_id);
		member->user_id = copy_column(&probe, Anum_member_user_id);
		member->email = copy_column(&probe, Anum_member_email);
		member->role = apikey_role_of_oid(DatumGetObjectId(role));
	}
	end_probe(&probe);
	return found;
}

bool
apikey_find_member(Datum org_id, Datum user_id, ApikeyMember *member)
{
	return find_member(INDEX_MEMBER, org_id, user_id, member);
}

/* The member whose database role this is. */
bool
apikey_find_member_of_role(Oid db_role, ApikeyMember *member)
{
	const char *role_name = GetUserNameFromId(db_role, true);
	NameData	name;

	if (role_name == NULL)
		return false;
	namestrcpy(&name, role_name);
	return find_member(INDEX_MEMBER_DB_ROLE, NameGetDatum(&name), (Datum) 0,
					   member);
}

bool
apikey_org_exists(Datum org_id)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_ORG, org_id, (Datum) 0, &probe);

	end_probe(&probe);
	return found;
}

bool
apikey_find_capability(Datum capability, ApikeyLevel *level)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_CAPABILITY, capability, (Datum) 0,
									&probe);

	if (found)
		*level = level_column(&probe, Anum_capability_level);
	end_probe(&probe);
	return found;
}

/* A key as people name it. */
bool
apikey_find_listed(Datum org_id, Datum suffix, int64 *key_id, Datum *owner_id)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_KEY_SUFFIX, org_id, suffix, &probe);

	if (found)
	{
		*key_id = DatumGetInt64(column(&probe, Anum_key_key_id));
		*owner_id = PointerGetDatum(copy_column(&probe, Anum_key_owner_id));
	}
	end_probe(&probe);
	return found;
}

bool
apikey_find_legacy_id(Datum org_id, int64 *key_id)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_LEGACY_ORG, org_id, (Datum) 0,
									&probe);

	if (found)
		*key_id = DatumGetInt64(column(&probe, Anum_legacy_key_id));
	end_probe(&probe);
	return found;
}

/* What has been written of a key's usage. */
bool
apikey_find_use(int64 key_id, ApikeyUse *use)
{
	Probe		probe;
	bool		found = begin_probe(INDEX_USAGE, Int64GetDatum(key_id),
									(Datum) 0, &probe);

	if (found)
	{
		use->last_used_at = time_column(&probe, Anum_usage_last_used_at);
		use->uses = DatumGetInt64(column(&probe, Anum_usage_uses));
	}
	end_probe(&probe);
	return found;
}
