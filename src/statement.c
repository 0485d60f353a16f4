/*
 * statement.c
 *		The statements that change our tables, run as their owner with plans
 *		that are kept.
 *
 * Callers borrow the owner's identity between apikey_borrow_owner() and
 * apikey_return_owner(), which also connect to SPI; on an error the
 * transaction (or subtransaction) gives both back.  Every function that comes
 * here must have "SET search_path = pg_catalog, pg_temp"; relations are named
 * with their schema, pgcrypto's functions with theirs (%1$s).
 *
 * A statement can wait, and can fire triggers that run other statements, while
 * anything is done to the extension.  So whoever borrows holds a lock by which
 * the extension stays the same until the transaction ends, and plans are freed
 * only when no statement is running.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "apikeys.h"

/* Types that stand for our enums in the lists below. */
#define LEVEL	((Oid) 1)
#define ROLE	((Oid) 2)
#define PLAN	((Oid) 3)

/* The types of a statement's arguments; InvalidOid ends them. */
#define TYPES(...) ((const Oid[]) {__VA_ARGS__, InvalidOid})

typedef struct Statement
{
	const char *sql;
	const Oid  *types;
	bool		read_latest;	/* whatever the isolation level */
	bool		uses_pgcrypto;	/* which may be moved to another schema */
} Statement;

static const Statement statements[NUM_STATEMENTS] = {
	[STATEMENT_LOCK_ORG] = {
		"SELECT FROM apikeys_private.apikey_org WHERE org_id = $1 FOR KEY SHARE",
	TYPES(TEXTOID)},
	[STATEMENT_LOCK_ORG_TO_SAVE] = {
		"SELECT FROM apikeys_private.apikey_org WHERE org_id = $1 FOR NO KEY UPDATE",
	TYPES(TEXTOID)},
	[STATEMENT_LOCK_MEMBER_TO_SAVE] = {
		"SELECT FROM apikeys_private.apikey_member WHERE org_id = $1 AND user_id = $2"
		" FOR NO KEY UPDATE",
	TYPES(TEXTOID, TEXTOID)},
	[STATEMENT_LOCK_PLAN] = {
		"SELECT plan FROM apikeys_private.apikey_org WHERE org_id = $1 FOR SHARE",
	TYPES(TEXTOID)},
	[STATEMENT_LOCK_ROLE] = {
		"SELECT role FROM apikeys_private.apikey_member WHERE org_id = $1 AND user_id = $2"
		" FOR SHARE",
	TYPES(TEXTOID, TEXTOID)},

	/*
	 * Organization before member, everywhere: who removes an organization
	 * locks in this order too.
	 */
	[STATEMENT_LOCK_ROLE_AND_PLAN] = {
		"SELECT m.role, o.plan"
		" FROM apikeys_private.apikey_org o JOIN apikeys_private.apikey_member m ON m.org_id = o.org_id"
		" WHERE m.org_id = $1 AND m.user_id = $2"
		" FOR SHARE OF o, m",
	TYPES(TEXTOID, TEXTOID)},
	[STATEMENT_COUNT_ARCHITECTS] = {
		"SELECT pg_catalog.count(*) FROM apikeys_private.apikey_member"
		" WHERE org_id = $1 AND role = 'architect'",
	TYPES(TEXTOID), true},
	[STATEMENT_INSERT_KEY] = {
		"INSERT INTO apikeys_private.apikey_key (org_id, owner_id, name, level, digest, expires_at)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (org_id, suffix) DO NOTHING",
	TYPES(TEXTOID, TEXTOID, TEXTOID, LEVEL, BYTEAOID, TIMESTAMPTZOID)},

	/*
	 * The key has been looked up; that it is still the organization's and
	 * owner's is asked again, in case the statement waits for somebody who
	 * changes that.
	 */
	[STATEMENT_UPDATE_KEY] = {
		"UPDATE apikeys_private.apikey_key SET name = COALESCE($4, name),"
		" level = COALESCE($5, level), expires_at = COALESCE($6, expires_at)"
		" WHERE key_id = $1 AND org_id = $2 AND owner_id = $3",
	TYPES(INT8OID, TEXTOID, TEXTOID, TEXTOID, LEVEL, TIMESTAMPTZOID)},
	[STATEMENT_LOCK_KEY] = {
		"SELECT name, level, COALESCE(expires_at, 'infinity') FROM apikeys_private.apikey_key"
		" WHERE key_id = $1 AND org_id = $2 AND owner_id = $3 FOR UPDATE",
	TYPES(INT8OID, TEXTOID, TEXTOID)},
	[STATEMENT_EXPIRE_KEY] = {
		"UPDATE apikeys_private.apikey_key SET expires_at ="
		" LEAST(expires_at, pg_catalog.clock_timestamp() + $4)"
		" WHERE key_id = $1 AND org_id = $2 AND owner_id = $3",
	TYPES(INT8OID, TEXTOID, TEXTOID, INTERVALOID)},
	[STATEMENT_DELETE_KEY] = {
		"DELETE FROM apikeys_private.apikey_key"
		" WHERE key_id = $1 AND org_id = $2 AND ($4 OR owner_id = $3)",
	TYPES(INT8OID, TEXTOID, TEXTOID, BOOLOID)},
	[STATEMENT_DELETE_KEYS_OF] = {
		"DELETE FROM apikeys_private.apikey_key WHERE org_id = $1 AND owner_id = $2",
	TYPES(TEXTOID, TEXTOID), true},
	[STATEMENT_MOVE_KEYS] = {
		"UPDATE apikeys_private.apikey_key SET org_id = $3, owner_id = $4"
		" WHERE org_id = $1 AND owner_id = $2",
	TYPES(TEXTOID, TEXTOID, TEXTOID, TEXTOID), true},
	[STATEMENT_DELETE_LEGACY] = {
		"DELETE FROM apikeys_private.apikey_legacy WHERE org_id = $1",
	TYPES(TEXTOID), true},
	[STATEMENT_INSERT_LEGACY] = {
		"INSERT INTO apikeys_private.apikey_legacy (org_id, digest)"
		" VALUES ($1, %1$s.digest($2, 'sha256'::text)) ON CONFLICT DO NOTHING",
	TYPES(TEXTOID, BYTEAOID), false, true},
	[STATEMENT_MOVE_LEGACY] = {
		"UPDATE apikeys_private.apikey_legacy SET org_id = $2 WHERE org_id = $1",
	TYPES(TEXTOID, TEXTOID), true},
	[STATEMENT_SAVE_ORG] = {
		"INSERT INTO apikeys_private.apikey_org AS o (org_id, name, plan)"
		" SELECT $1, COALESCE($2, was.name), COALESCE($3, was.plan, 'free')"
		" FROM (VALUES (1)) AS one"
		" LEFT JOIN apikeys_private.apikey_org was ON was.org_id = $1"
		" ON CONFLICT (org_id) DO UPDATE SET"
		" name = COALESCE($2, o.name), plan = COALESCE($3, o.plan)",
	TYPES(TEXTOID, TEXTOID, PLAN)},
	[STATEMENT_DELETE_ORG] = {
		"DELETE FROM apikeys_private.apikey_org WHERE org_id = $1",
	TYPES(TEXTOID)},
	[STATEMENT_SAVE_MEMBER] = {
		"INSERT INTO apikeys_private.apikey_member AS m (org_id, user_id, email, role)"
		" SELECT $1, $2, COALESCE($3, was.email),"
		" COALESCE($4, was.role, 'standard')"
		" FROM (VALUES (1)) AS one"
		" LEFT JOIN apikeys_private.apikey_member was ON was.org_id = $1 AND was.user_id = $2"
		" ON CONFLICT (org_id, user_id) DO UPDATE SET"
		" email = COALESCE($3, m.email), role = COALESCE($4, m.role)",
	TYPES(TEXTOID, TEXTOID, TEXTOID, ROLE)},
	[STATEMENT_SET_DB_ROLE] = {
		"UPDATE apikeys_private.apikey_member SET db_role = $3"
		" WHERE org_id = $1 AND user_id = $2",
	TYPES(TEXTOID, TEXTOID, NAMEOID)},
	[STATEMENT_DELETE_MEMBER] = {
		"DELETE FROM apikeys_private.apikey_member WHERE org_id = $1 AND user_id = $2",
	TYPES(TEXTOID, TEXTOID)},
	[STATEMENT_DELETE_MEMBERS_OF] = {
		"DELETE FROM apikeys_private.apikey_member WHERE org_id = $1",
	TYPES(TEXTOID), true},

	/*
	 * Whether the keys are there is not asked: one may have been created by a
	 * transaction that goes on, and has used it already.  None of these rows
	 * is locked by anybody else.
	 */
	[STATEMENT_WRITE_USAGE] = {
		"INSERT INTO apikeys_private.apikey_usage AS u (key_id, last_used_at, last_used_addr, uses)"
		" SELECT n.key_id, n.last_used_at, n.addr, n.uses"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
		" pg_catalog.unnest($3), pg_catalog.unnest($4))"
		" AS n (key_id, last_used_at, addr, uses)"
		" ORDER BY n.key_id"
		" ON CONFLICT (key_id) DO UPDATE SET uses = u.uses + excluded.uses,"
		" last_used_at = GREATEST(u.last_used_at, excluded.last_used_at),"
		" last_used_addr = CASE WHEN excluded.last_used_at >= u.last_used_at"
		" THEN excluded.last_used_addr ELSE u.last_used_addr END",
	TYPES(INT8ARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID)},

	/*
	 * Deleting a key leaves its usage behind, lest it wait for this.  What is
	 * left is looked for in a different place each time; not before the end
	 * of a transaction that may have created the key.  Scalar subselects,
	 * unlike EXISTS, are index probes for certain: a plan that reads the
	 * table of keys each time would be tempting to the planner.
	 */
	[STATEMENT_SWEEP_USAGE] = {
		"DELETE FROM apikeys_private.apikey_usage WHERE key_id = ANY (ARRAY("
		" SELECT u.key_id FROM (SELECT key_id, last_used_at FROM apikeys_private.apikey_usage WHERE key_id >="
		" (SELECT pg_catalog.min(key_id) + (pg_catalog.random() *"
		" (pg_catalog.max(key_id) - pg_catalog.min(key_id) + 1))::bigint - 1000"
		" FROM apikeys_private.apikey_usage)"
		" ORDER BY key_id LIMIT 1000) AS u"
		" WHERE u.last_used_at < pg_catalog.now() - '1 day'::pg_catalog.interval AND"
		" COALESCE((SELECT false FROM apikeys_private.apikey_key k WHERE k.key_id = u.key_id),"
		" (SELECT false FROM apikeys_private.apikey_legacy l WHERE l.key_id = u.key_id), true)))",
	TYPES(InvalidOid)},
	[STATEMENT_MOVE_MEMBERS] = {
		"UPDATE apikeys_private.apikey_member SET org_id = $2 WHERE org_id = $1",
	TYPES(TEXTOID, TEXTOID), true},

	/* The rows that a revocation may have to wait for: see revoke.c. */
	[STATEMENT_FIND_ORG] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_org WHERE org_id = $1",
	TYPES(TEXTOID), true},
	[STATEMENT_FIND_ORG_AND_ALL] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_org WHERE org_id = $1"
		" UNION ALL SELECT tableoid, ctid FROM apikeys_private.apikey_member WHERE org_id = $1"
		" UNION ALL SELECT tableoid, ctid FROM apikeys_private.apikey_key WHERE org_id = $1"
		" UNION ALL SELECT tableoid, ctid FROM apikeys_private.apikey_legacy WHERE org_id = $1",
	TYPES(TEXTOID), true},
	[STATEMENT_FIND_MEMBER] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_member"
		" WHERE org_id = $1 AND user_id = $2",
	TYPES(TEXTOID, TEXTOID), true},
	[STATEMENT_FIND_MEMBER_AND_KEYS] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_member"
		" WHERE org_id = $1 AND user_id = $2"
		" UNION ALL SELECT tableoid, ctid FROM apikeys_private.apikey_key"
		" WHERE org_id = $1 AND owner_id = $2",
	TYPES(TEXTOID, TEXTOID), true},
	[STATEMENT_FIND_KEYS_OF] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_key"
		" WHERE org_id = $1 AND owner_id = $2",
	TYPES(TEXTOID, TEXTOID), true},
	[STATEMENT_FIND_KEY] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_key WHERE key_id = $1",
	TYPES(INT8OID), true},
	[STATEMENT_FIND_LEGACY] = {
		"SELECT tableoid, ctid FROM apikeys_private.apikey_legacy WHERE org_id = $1",
	TYPES(TEXTOID), true},

	/* Pruning, under the lock that keeps others from it: see history_seal.c. */
	[STATEMENT_DELETE_EVENTS] = {
		"DELETE FROM apikeys_private.apikey_event"
		" WHERE (xid, event_id) >= ($1, $2) AND (xid, event_id) <= ($3, $4)",
	TYPES(INT8OID, INT8OID, INT8OID, INT8OID), true},
	[STATEMENT_PRUNE_SEAL] = {
		"UPDATE apikeys_private.apikey_seal SET pruned = $2, pruned_hash = $3"
		" WHERE seal_id = $1",
	TYPES(INT8OID, INT8OID, BYTEAOID), true},

	/* Not those of whose expiry history tells already: history_worker.c. */
	[STATEMENT_FIND_EXPIRING] = {
		"SELECT k.org_id, k.suffix, k.owner_id, k.name, k.level, k.expires_at"
		" FROM apikeys_private.apikey_key k"
		" WHERE pg_catalog.timezone('UTC', k.expires_at) > pg_catalog.timezone('UTC', pg_catalog.now())"
		" AND pg_catalog.timezone('UTC', k.expires_at) <="
		" pg_catalog.timezone('UTC', pg_catalog.now()) + $1 * '1 second'::pg_catalog.interval"
		" AND NOT EXISTS (SELECT FROM apikeys_private.apikey_event e"
		" WHERE e.suffix = k.suffix AND e.org_id = k.org_id AND e.kind = 'key.expiring'"
		" AND (e.changes -> 'expires_at' ->> 'new')::pg_catalog.timestamptz = k.expires_at)"
		" ORDER BY k.expires_at LIMIT $2",
	TYPES(INT4OID, INT4OID), true},
};

/*
 * Kept plans, and the table that they were made for.  Those that are of no use
 * any more are put aside, since they may be running.
 */
static SPIPlanPtr plans[NUM_STATEMENTS];
static Oid	plans_table = InvalidOid;
static List *discarded_plans = NIL;

/* How many statements are running, each fired by the one before. */
static int	running = 0;

/*
 * Hold the extension as it is until the transaction ends: it cannot be dropped,
 * nor made anew with tables, types and keys that are others under the names and
 * numbers that the caller goes on with.
 */
void
apikey_hold_extension(void)
{
	for (;;)
	{
		Oid			table = apikey_catalog()->tables[TABLE_KEY];

		LockRelationOid(table, AccessShareLock);
		if (apikey_catalog()->tables[TABLE_KEY] == table)
			return;
		UnlockRelationOid(table, AccessShareLock);
	}
}

/*
 * Be the owner of the tables.
 *
 * The identity is given back before the transaction ends, and what an owner who
 * is no superuser has put on the tables must not get that of our caller then.
 * So nothing can be left for later (deferred triggers, cursors WITH HOLD), nor
 * can a setting be left changed.  An owner who is a superuser has nothing to
 * gain; there, a product's deferred foreign keys to our tables may work.
 */
void
apikey_borrow_owner(ApikeyBorrow *borrow)
{
	Oid			owner;
	int			security;

	apikey_hold_extension();
	owner = apikey_catalog()->owner;
	security = SECURITY_LOCAL_USERID_CHANGE;
	if (!superuser_arg(owner))
		security |= SECURITY_RESTRICTED_OPERATION;
	GetUserIdAndSecContext(&borrow->user, &borrow->sec_context);
	SetUserIdAndSecContext(owner, borrow->sec_context | security);
	borrow->nest_level = NewGUCNestLevel();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
apikey_return_owner(const ApikeyBorrow *borrow)
{
	SPI_finish();
	AtEOXact_GUC(false, borrow->nest_level);
	SetUserIdAndSecContext(borrow->user, borrow->sec_context);
}

static void
discard_plan(ApikeyStatement which)
{
	MemoryContext old;

	if (plans[which] == NULL)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	discarded_plans = lappend(discarded_plans, plans[which]);
	MemoryContextSwitchTo(old);
	plans[which] = NULL;
}

/* Discard plans that were made before the extension was made anew. */
static void
discard_stale_plans(const ApikeyCatalog *catalog)
{
	if (plans_table == catalog->tables[TABLE_KEY])
		return;
	for (int i = 0; i < NUM_STATEMENTS; i++)
		discard_plan(i);
	plans_table = catalog->tables[TABLE_KEY];
}

static void
free_discarded_plans(void)
{
	if (running > 0)
		return;
	while (discarded_plans != NIL)
	{
		SPIPlanPtr	plan = linitial(discarded_plans);

		discarded_plans = list_delete_first(discarded_plans);
		SPI_freeplan(plan);
	}
}

static Oid
resolve_type(Oid type, const ApikeyCatalog *catalog)
{
	if (type == LEVEL)
		return catalog->level_type;
	if (type == ROLE)
		return catalog->role_type;
	if (type == PLAN)
		return catalog->plan_type;
	return type;
}

static void
prepare(ApikeyStatement which, const ApikeyCatalog *catalog)
{
	const Statement *statement = &statements[which];
	const char *sql = statement->sql;
	int			nargs = 0;
	Oid		   *types;
	SPIPlanPtr	plan;

	while (OidIsValid(statement->types[nargs]))
		nargs++;
	types = palloc((nargs + 1) * sizeof(Oid));
	for (int i = 0; i < nargs; i++)
		types[i] = resolve_type(statement->types[i], catalog);
	if (statement->uses_pgcrypto)
		sql = psprintf(sql, quote_identifier(get_namespace_name(apikey_schema_of_extension("pgcrypto"))));
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	plans[which] = plan;
}

/*
 * A caller's label of one of our enums is stored as it is.  It may be of an
 * extension that was there when the caller's statement was parsed.
 */
static void
check_labels(ApikeyStatement which, const Datum *args, const char *nulls,
			 const ApikeyCatalog *catalog)
{
	const Oid  *types = statements[which].types;

	for (int i = 0; OidIsValid(types[i]); i++)
	{
		HeapTuple	label;
		Oid			type = InvalidOid;

		if (resolve_type(types[i], catalog) == types[i] ||
			(nulls != NULL && nulls[i] == 'n'))
			continue;
		label = SearchSysCache1(ENUMOID, args[i]);
		if (HeapTupleIsValid(label))
		{
			type = ((Form_pg_enum) GETSTRUCT(label))->enumtypid;
			ReleaseSysCache(label);
		}
		if (type != resolve_type(types[i], catalog))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"apikeys\" was made anew while the statement ran"),
					 errhint("Run it again.")));
	}
}

/*
 * Raise an error of our statement as one of our caller's: of its context, only
 * what is the caller's, and no row.
 *
 * PostgreSQL shows a row that violates a constraint to whom it belongs to, as
 * which we run: but the digest is nobody's to see.
 */
static void
raise_as_callers(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_CHECK_VIOLATION ||
		error->sqlerrcode == ERRCODE_NOT_NULL_VIOLATION ||
		error->sqlerrcode == ERRCODE_EXCLUSION_VIOLATION)
		error->detail = pstrdup("The row is not shown.");
	error->context = NULL;
	error->internalquery = NULL;
	error->internalpos = 0;
	ThrowErrorData(error);
}

/*
 * Run a statement as the owner; returns how many rows it gave or changed.
 *
 * What must reach every row there is, so that no key outlives its owner, reads
 * the latest state: a REPEATABLE READ transaction that began before may be the
 * one that removes the owner.
 */
uint64
apikey_execute(ApikeyStatement which, Datum *args, const char *nulls)
{
	const ApikeyCatalog *catalog = apikey_catalog();
	MemoryContext context = CurrentMemoryContext;
	volatile int result = 0;

	discard_stale_plans(catalog);
	if (statements[which].uses_pgcrypto)
		discard_plan(which);
	free_discarded_plans();
	check_labels(which, args, nulls, catalog);
	if (plans[which] == NULL)
		prepare(which, catalog);
	running++;
	PG_TRY();
	{
		error_context_stack = NULL; /* restored at the end of the block */
		if (statements[which].read_latest)
			result = SPI_execute_snapshot(plans[which], args, nulls,
										  GetLatestSnapshot(), InvalidSnapshot,
										  false, true, 0);
		else
			result = SPI_execute_plan(plans[which], args, nulls, false, 0);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		running--;
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		raise_as_callers(error);
	}
	PG_END_TRY();
	running--;
	if (result < 0)
		elog(ERROR, "could not execute a statement: %s",
			 SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * The same, from borrowing to returning, for whom the count is enough.
 */
uint64
apikey_run(ApikeyStatement which, Datum *args, const char *nulls)
{
	ApikeyBorrow borrow;
	uint64		count;

	apikey_borrow_owner(&borrow);
	count = apikey_execute(which, args, nulls);
	apikey_return_owner(&borrow);
	return count;
}

/* A column, from 1, of the only row that a statement gave; it is not null. */
Datum
apikey_result(int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
						 column, &isnull);
}
