/*
 * catalog.c
 *		Finding the extension's objects, and opening its tables.
 *
 * The OIDs of our tables, indexes and enum labels are looked up once and kept
 * until a relcache invalidation arrives for one of the tables; what is not as
 * the install script made it is an error at that moment, so that the probes
 * need not check anything again.  The tables of usage and of history are looked
 * at on their own, when they are asked for: whoever locks or vacuums them must
 * not be felt by those who verify keys.
 *
 * What apikey_catalog() returns stays in its place but may be loaded anew by
 * whatever accepts invalidations: ask again after anything that can wait.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/hash.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "apikeys.h"
#include "tables.h"

#define COLUMN_SPEC(table, column, type, flags) {#column, type, flags},

static const ColumnSpec org_columns[] = {ORG_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec member_columns[] = {MEMBER_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec key_columns[] = {KEY_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec legacy_columns[] = {LEGACY_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec capability_columns[] = {
	CAPABILITY_COLUMNS(COLUMN_SPEC)
};
static const ColumnSpec usage_columns[] = {USAGE_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec event_columns[] = {EVENT_COLUMNS(COLUMN_SPEC)};
static const ColumnSpec seal_columns[] = {SEAL_COLUMNS(COLUMN_SPEC)};

#define TABLE_SPEC(name) \
	{"apikey_" #name, lengthof(name##_columns), name##_columns}

const TableSpec apikey_tables[NUM_TABLES] = {
	[TABLE_ORG] = TABLE_SPEC(org),
	[TABLE_MEMBER] = TABLE_SPEC(member),
	[TABLE_KEY] = TABLE_SPEC(key),
	[TABLE_LEGACY] = TABLE_SPEC(legacy),
	[TABLE_CAPABILITY] = TABLE_SPEC(capability),
	[TABLE_USAGE] = TABLE_SPEC(usage),
	[TABLE_EVENT] = TABLE_SPEC(event),
	[TABLE_SEAL] = TABLE_SPEC(seal),
};

const IndexSpec apikey_indexes[NUM_INDEXES] = {
	[INDEX_ORG] = {TABLE_ORG, BTREE_AM_OID, 1, {Anum_org_org_id}},
	[INDEX_MEMBER] = {TABLE_MEMBER, BTREE_AM_OID, 2,
	{Anum_member_org_id, Anum_member_user_id}},
	[INDEX_MEMBER_DB_ROLE] = {TABLE_MEMBER, BTREE_AM_OID, 1,
	{Anum_member_db_role}},
	[INDEX_KEY] = {TABLE_KEY, HASH_AM_OID, 1, {Anum_key_digest}},
	[INDEX_KEY_ID] = {TABLE_KEY, BTREE_AM_OID, 1, {Anum_key_key_id}},
	[INDEX_KEY_SUFFIX] = {TABLE_KEY, BTREE_AM_OID, 2,
	{Anum_key_org_id, Anum_key_suffix}},
	[INDEX_KEY_OWNER] = {TABLE_KEY, BTREE_AM_OID, 3,
	{Anum_key_org_id, Anum_key_owner_id, Anum_key_suffix}, true},
	[INDEX_KEY_CREATED] = {TABLE_KEY, BTREE_AM_OID, 3,
	{Anum_key_org_id, Anum_key_created_at, Anum_key_suffix}, true},
	[INDEX_KEY_NAME] = {TABLE_KEY, BTREE_AM_OID, 3,
	{Anum_key_org_id, Anum_key_name, Anum_key_suffix}, true},
	[INDEX_LEGACY] = {TABLE_LEGACY, HASH_AM_OID, 1, {Anum_legacy_digest}},
	[INDEX_LEGACY_ID] = {TABLE_LEGACY, BTREE_AM_OID, 1, {Anum_legacy_key_id}},
	[INDEX_LEGACY_ORG] = {TABLE_LEGACY, BTREE_AM_OID, 1, {Anum_legacy_org_id}},
	[INDEX_CAPABILITY] = {TABLE_CAPABILITY, BTREE_AM_OID, 1,
	{Anum_capability_capability}},
	[INDEX_USAGE] = {TABLE_USAGE, BTREE_AM_OID, 1, {Anum_usage_key_id}},
	[INDEX_EVENT] = {TABLE_EVENT, BTREE_AM_OID, 2,
	{Anum_event_xid, Anum_event_event_id}},
	[INDEX_EVENT_SUFFIX] = {TABLE_EVENT, BTREE_AM_OID, 2,
	{Anum_event_suffix, Anum_event_org_id}, true},
	[INDEX_SEAL] = {TABLE_SEAL, BTREE_AM_OID, 1, {Anum_seal_seal_id}},
};

/* In the order of ApikeyLevel and ApikeyRole. */
static const char *const level_labels[] = {NULL, "standard", "architect", "admin"};
static const char *const role_labels[] = {NULL, "guest", "standard", "architect", "admin"};

typedef enum CatalogState
{
	CATALOG_INVALID,			/* one of our tables has changed */
	CATALOG_DOUBTFUL,			/* anything may have */
	CATALOG_VALID
} CatalogState;

static ApikeyCatalog catalog;
static CatalogState catalog_state = CATALOG_INVALID;
static Oid	announcer = InvalidOid; /* the function of change.c's triggers */

/* Does an invalidation of this relation say that keys may have changed? */
bool
apikey_stands_for_keys(Oid relid)
{
	if (!OidIsValid(relid) || relid == catalog.change)
		return true;
	for (int i = 0; i < TABLE_USAGE; i++)
		if (relid == catalog.tables[i])
			return true;
	return false;
}

/*
 * Something changed in a relation, or so much everywhere that PostgreSQL does
 * not say what (InvalidOid).
 */
static void
relcache_callback(Datum arg pg_attribute_unused(), Oid relid)
{
	if (!OidIsValid(relid))
	{
		catalog_state = Min(catalog_state, CATALOG_DOUBTFUL);
		return;
	}
	if (relid != catalog.change && apikey_stands_for_keys(relid))
		catalog_state = CATALOG_INVALID;
	for (int i = INDEX_USAGE; i < NUM_INDEXES; i++)
		if (relid == catalog.tables[apikey_indexes[i].table])
			catalog.indexes[i] = InvalidOid;
}

void
apikey_catalog_init(void)
{
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

	for (int i = 0; i < table->natts; i++)
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

/* The column that is a key of an index, from 0. */
const ColumnSpec *
apikey_column_of(const IndexSpec *index, int k)
{
	return &apikey_tables[index->table].columns[index->keys[k] - 1];
}

/* The collation that an index of a column must have. */
Oid
apikey_collation_of(const ColumnSpec *column)
{
	if (column->type != TEXTOID && column->type != NAMEOID)
		return InvalidOid;
	return column->flags & SORTS_AS_TEXT ?
		DEFAULT_COLLATION_OID : C_COLLATION_OID;
}

/*
 * Does an operator family sort or hash as operators say?  PostgreSQL's own do,
 * for the types that we have; but for text there is one more, for LIKE.
 */
static bool
is_usual(Oid family)
{
	return family < FirstUnpinnedObjectId &&
		family != TEXT_PATTERN_BTREE_FAM_OID;
}

/*
 * Can this index answer with every row, and has it just these keys, ascending?
 */
static bool
index_serves(Relation rel, const IndexSpec *index)
{
	Form_pg_index form = rel->rd_index;

	if (rel->rd_rel->relam != index->am ||
		form->indnkeyatts != index->nkeys ||
		!form->indisvalid || !form->indisready || !form->indislive ||
		!(form->indisunique || form->indisexclusion || index->is_plain) ||
		!heap_attisnull(rel->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int k = 0; k < index->nkeys; k++)
	{
		const ColumnSpec *column = apikey_column_of(index, k);

		if (form->indkey.values[k] != index->keys[k] ||
			rel->rd_indoption[k] != 0 ||
			!is_usual(rel->rd_opfamily[k]) ||
			rel->rd_indcollation[k] != apikey_collation_of(column))
			return false;
	}
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
changes_are_announced(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;
	bool		update = false;
	bool		delete = false;
	bool		truncate = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgfoid != announcer || trigger->tgqual != NULL ||
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
	const char *name = apikey_tables[which].name;
	Oid			relid = get_relname_relid(name, catalog.private_namespace);

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
		catalog_state = CATALOG_INVALID;
	return rel;
}

static inline bool
is_usable(ApikeyIndex which, bool fresh)
{
	return (catalog_state == CATALOG_VALID ||
			(fresh && catalog_state == CATALOG_DOUBTFUL)) &&
		OidIsValid(catalog.indexes[which]);
}

/* Check a table, and find its indexes. */
static void
load_table(ApikeyTable which)
{
	const TableSpec *table = &apikey_tables[which];
	Relation	rel = open_table(which);

	if (rel == NULL)
		return;
	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		apikey_not_as_installed("table", table->name);
	check_columns(rel, table);
	for (int i = 0; i < NUM_INDEXES; i++)
		if (apikey_indexes[i].table == which)
			catalog.indexes[i] = find_index(rel, &apikey_indexes[i]);
	if (which == TABLE_KEY)
		catalog.owner = rel->rd_rel->relowner;
	if (which == TABLE_KEY || which == TABLE_LEGACY)
		catalog.changes_are_announced &= changes_are_announced(rel);
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

	catalog.namespace = apikey_schema_of_extension("apikeys");
	catalog.private_namespace = get_namespace_oid(APIKEYS_PRIVATE, true);
	if (!OidIsValid(catalog.private_namespace))
		apikey_not_as_installed("schema", APIKEYS_PRIVATE);
	/* not by LookupFuncName(), which wants USAGE on the schema */
	announcer = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
								CStringGetDatum("apikey_announce_change"),
								PointerGetDatum(buildoidvector(NULL, 0)),
								ObjectIdGetDatum(catalog.private_namespace));
	catalog.changes_are_announced = OidIsValid(announcer);
	catalog.change = get_relname_relid("apikey_change",
									   catalog.private_namespace);
	if (!OidIsValid(catalog.change))
		apikey_not_as_installed("type", "apikey_change");
	load_enums();
	for (int i = 0; i < NUM_TABLES; i++)
		find_table(i, extension);
	for (int i = 0; i < TABLE_USAGE; i++)
		load_table(i);
}

/*
 * Load the catalog, and once more if one of our tables changed meanwhile.
 *
 * That anything may have changed meanwhile is no reason to: all of it has been
 * read after whatever was committed before this was called.  The next who asks
 * loads it again.
 */
static void
load_fresh_catalog(void)
{
	do
	{
		memset(&catalog, 0, sizeof(catalog));
		catalog_state = CATALOG_VALID;
		PG_TRY();
		{
			load_catalog();
		}
		PG_CATCH();
		{
			catalog_state = CATALOG_INVALID;
			PG_RE_THROW();
		}
		PG_END_TRY();
	} while (catalog_state == CATALOG_INVALID);
}

const ApikeyCatalog *
apikey_catalog(void)
{
	if (unlikely(catalog_state != CATALOG_VALID))
		load_fresh_catalog();
	return &catalog;
}

/*
 * Open a table and its index.  Locking a table accepts invalidations: if one of
 * them was for us, what we know must be learnt again, and may be an error.  If
 * anything may have changed, that is learnt once more at the most; and the
 * table again when it is locked, since it may have been altered in between.
 */
void
apikey_open(ApikeyIndex which, Relation *table, Relation *index)
{
	ApikeyTable of = apikey_indexes[which].table;
	bool		fresh = false;

	for (;;)
	{
		if (catalog_state != CATALOG_VALID)
		{
			load_fresh_catalog();
			fresh = true;
		}
		*table = open_table(of);
		if (unlikely(*table == NULL))
			continue;
		if (unlikely(catalog_state == CATALOG_DOUBTFUL ||
					 !OidIsValid(catalog.indexes[which])))
			load_table(of);
		if (likely(is_usable(which, fresh)))
		{
			*index = index_open(catalog.indexes[which], AccessShareLock);
			if (likely(is_usable(which, fresh)))
				return;
			index_close(*index, AccessShareLock);
		}
		table_close(*table, AccessShareLock);
	}
}

/* The number of a label among those of its type, whose first is none. */
static int
number_of_label(const Oid *labels, int count, Oid label, const char *type)
{
	for (int i = 1; i < count; i++)
		if (labels[i] == label)
			return i;
	apikey_not_as_installed("type", type);
}

ApikeyLevel
apikey_level_of_oid(Oid oid)
{
	return number_of_label(apikey_catalog()->levels, lengthof(catalog.levels),
						   oid, "apikey_level");
}

ApikeyRole
apikey_role_of_oid(Oid oid)
{
	return number_of_label(apikey_catalog()->roles, lengthof(catalog.roles),
						   oid, "apikey_role");
}
