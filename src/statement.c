/*
 * statement.c
 *		The statements that change our tables, run as their owner with plans
 *		that are kept.
 *
 * Callers borrow the owner's identity between apikey_borrow_owner() and
 * apikey_return_owner(), which also connect to SPI; on an error the
 * transaction (or subtransaction) gives both back.  Every function that comes
 * here must have "SET search_path = pg_catalog, pg_temp"; relations are named
 * with their schema (%1$s), pgcrypto's functions with theirs (%2$s).
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "apikeys.h"

#define MAX_ARGUMENTS 6

/* Types that stand for our enums in the lists below. */
#define LEVEL	((Oid) 1)
#define ROLE	((Oid) 2)
#define PLAN	((Oid) 3)

typedef struct Statement
{
	const char *sql;
	Oid			types[MAX_ARGUMENTS];	/* InvalidOid ends them */
	bool		read_latest;	/* whatever the isolation level */
	bool		plan_anew;		/* pgcrypto may be moved to another schema */
} Statement;

static const Statement statements[NUM_STATEMENTS] = {
	[STATEMENT_LOCK_ORG] = {
		"SELECT FROM %1$s.apikey_org WHERE org_id = $1 FOR KEY SHARE",
	{TEXTOID}},
	[STATEMENT_LOCK_ORG_TO_SAVE] = {
		"SELECT FROM %1$s.apikey_org WHERE org_id = $1 FOR NO KEY UPDATE",
	{TEXTOID}},
	[STATEMENT_LOCK_MEMBER_TO_SAVE] = {
		"SELECT FROM %1$s.apikey_member WHERE org_id = $1 AND user_id = $2"
		" FOR NO KEY UPDATE",
	{TEXTOID, TEXTOID}},
	[STATEMENT_LOCK_PLAN] = {
		"SELECT plan FROM %1$s.apikey_org WHERE org_id = $1 FOR SHARE",
	{TEXTOID}},
	[STATEMENT_LOCK_ROLE] = {
		"SELECT role FROM %1$s.apikey_member WHERE org_id = $1 AND user_id = $2"
		" FOR SHARE",
	{TEXTOID, TEXTOID}},

	/*
	 * Organization before member, everywhere: who removes an organization
	 * locks in this order too.
	 */
	[STATEMENT_LOCK_ROLE_AND_PLAN] = {
		"SELECT m.role, o.plan"
		" FROM %1$s.apikey_org o JOIN %1$s.apikey_member m ON m.org_id = o.org_id"
		" WHERE m.org_id = $1 AND m.user_id = $2"
		" FOR SHARE OF o, m",
	{TEXTOID, TEXTOID}},
	[STATEMENT_COUNT_ARCHITECTS] = {
		"SELECT pg_catalog.count(*) FROM %1$s.apikey_member"
		" WHERE org_id = $1 AND role = 'architect'",
	{TEXTOID}, true},
	[STATEMENT_INSERT_KEY] = {
		"INSERT INTO %1$s.apikey_key (org_id, owner_id, name, level, digest, expires_at)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (org_id, suffix) DO NOTHING",
	{TEXTOID, TEXTOID, TEXTOID, LEVEL, BYTEAOID, TIMESTAMPTZOID}},
	[STATEMENT_UPDATE_KEY] = {
		"UPDATE %1$s.apikey_key SET name = COALESCE($4, name),"
		" level = COALESCE($5, level), expires_at = COALESCE($6, expires_at)"
		" WHERE org_id = $1 AND owner_id = $2 AND suffix = $3",
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, LEVEL, TIMESTAMPTZOID}},
	[STATEMENT_LOCK_KEY] = {
		"SELECT name, level, expires_at FROM %1$s.apikey_key"
		" WHERE org_id = $1 AND owner_id = $2 AND suffix = $3 FOR UPDATE",
	{TEXTOID, TEXTOID, TEXTOID}},
	[STATEMENT_EXPIRE_KEY] = {
		"UPDATE %1$s.apikey_key SET expires_at ="
		" LEAST(expires_at, pg_catalog.clock_timestamp() + $4)"
		" WHERE org_id = $1 AND owner_id = $2 AND suffix = $3",
	{TEXTOID, TEXTOID, TEXTOID, INTERVALOID}},
	[STATEMENT_DELETE_KEY] = {
		"DELETE FROM %1$s.apikey_key"
		" WHERE org_id = $1 AND suffix = $3 AND ($4 OR owner_id = $2)",
	{TEXTOID, TEXTOID, TEXTOID, BOOLOID}},
	[STATEMENT_DELETE_KEYS_OF] = {
		"DELETE FROM %1$s.apikey_key WHERE org_id = $1 AND owner_id = $2",
	{TEXTOID, TEXTOID}, true},
	[STATEMENT_MOVE_KEYS] = {
		"UPDATE %1$s.apikey_key SET org_id = $3, owner_id = $4"
		" WHERE org_id = $1 AND owner_id = $2",
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID}, true},
	[STATEMENT_DELETE_LEGACY] = {
		"DELETE FROM %1$s.apikey_legacy WHERE org_id = $1",
	{TEXTOID}, true},
	[STATEMENT_INSERT_LEGACY] = {
		"INSERT INTO %1$s.apikey_legacy (org_id, digest)"
		" VALUES ($1, %2$s.digest($2, 'sha256'::text)) ON CONFLICT DO NOTHING",
	{TEXTOID, BYTEAOID}, false, true},
	[STATEMENT_MOVE_LEGACY] = {
		"UPDATE %1$s.apikey_legacy SET org_id = $2 WHERE org_id = $1",
	{TEXTOID, TEXTOID}, true},
	[STATEMENT_SAVE_ORG] = {
		"INSERT INTO %1$s.apikey_org AS o (org_id, name, plan)"
		" SELECT $1, COALESCE($2, was.name), COALESCE($3, was.plan, 'free')"
		" FROM (VALUES (1)) AS one"
		" LEFT JOIN %1$s.apikey_org was ON was.org_id = $1"
		" ON CONFLICT (org_id) DO UPDATE SET"
		" name = COALESCE($2, o.name), plan = COALESCE($3, o.plan)",
	{TEXTOID, TEXTOID, PLAN}},
	[STATEMENT_DELETE_ORG] = {
		"DELETE FROM %1$s.apikey_org WHERE org_id = $1",
	{TEXTOID}},
	[STATEMENT_SAVE_MEMBER] = {
		"INSERT INTO %1$s.apikey_member AS m (org_id, user_id, email, role, db_role)"
		" SELECT $1, $2, COALESCE($3, was.email),"
		" COALESCE($4, was.role, 'standard'), COALESCE($5, was.db_role)"
		" FROM (VALUES (1)) AS one"
		" LEFT JOIN %1$s.apikey_member was ON was.org_id = $1 AND was.user_id = $2"
		" ON CONFLICT (org_id, user_id) DO UPDATE SET"
		" email = COALESCE($3, m.email), role = COALESCE($4, m.role),"
		" db_role = COALESCE($5, m.db_role)",
	{TEXTOID, TEXTOID, TEXTOID, ROLE, NAMEOID}},
	[STATEMENT_DELETE_MEMBER] = {
		"DELETE FROM %1$s.apikey_member WHERE org_id = $1 AND user_id = $2",
	{TEXTOID, TEXTOID}},
	[STATEMENT_DELETE_MEMBERS_OF] = {
		"DELETE FROM %1$s.apikey_member WHERE org_id = $1",
	{TEXTOID}, true},

	/*
	 * Whether the keys are there is not asked: one may have been created by a
	 * transaction that goes on, and has used it already.  None of these rows
	 * is locked by anybody else.
	 */
	[STATEMENT_WRITE_USAGE] = {
		"INSERT INTO %1$s.apikey_usage AS u (key_id, last_used_at, last_used_addr, uses)"
		" SELECT n.key_id, n.last_used_at, n.addr, n.uses"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
		" pg_catalog.unnest($3), pg_catalog.unnest($4))"
		" AS n (key_id, last_used_at, addr, uses)"
		" ORDER BY n.key_id"
		" ON CONFLICT (key_id) DO UPDATE SET uses = u.uses + excluded.uses,"
		" last_used_at = GREATEST(u.last_used_at, excluded.last_used_at),"
		" last_used_addr = CASE WHEN excluded.last_used_at >= u.last_used_at"
		" THEN excluded.last_used_addr ELSE u.last_used_addr END",
	{INT8ARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID}},

	/*
	 * Deleting a key leaves its usage behind, lest it wait for this.  What is
	 * left is looked for in a different place each time; not before the end
	 * of a transaction that may have created the key.  Scalar subselects,
	 * unlike EXISTS, are index probes for certain: a plan that reads the
	 * table of keys each time would be tempting to the planner.
	 */
	[STATEMENT_SWEEP_USAGE] = {
		"DELETE FROM %1$s.apikey_usage WHERE key_id = ANY (ARRAY("
		" SELECT u.key_id FROM (SELECT key_id, last_used_at FROM %1$s.apikey_usage WHERE key_id >="
		" (SELECT pg_catalog.min(key_id) + (pg_catalog.random() *"
		" (pg_catalog.max(key_id) - pg_catalog.min(key_id) + 1))::bigint - 1000"
		" FROM %1$s.apikey_usage)"
		" ORDER BY key_id LIMIT 1000) AS u"
		" WHERE u.last_used_at < pg_catalog.now() - '1 day'::pg_catalog.interval AND"
		" COALESCE((SELECT false FROM %1$s.apikey_key k WHERE k.key_id = u.key_id),"
		" (SELECT false FROM %1$s.apikey_legacy l WHERE l.key_id = u.key_id), true)))",
	{InvalidOid}},
	[STATEMENT_MOVE_MEMBERS] = {
		"UPDATE %1$s.apikey_member SET org_id = $2 WHERE org_id = $1",
	{TEXTOID, TEXTOID}, true},
};

/* Kept plans, and the schema and table that they were made for. */
static SPIPlanPtr plans[NUM_STATEMENTS];
static NameData plans_schema;
static Oid	plans_table = InvalidOid;

void
apikey_borrow_owner(ApikeyBorrow *borrow)
{
	GetUserIdAndSecContext(&borrow->user, &borrow->sec_context);
	SetUserIdAndSecContext(apikey_catalog()->owner,
						   borrow->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
apikey_return_owner(const ApikeyBorrow *borrow)
{
	SPI_finish();
	SetUserIdAndSecContext(borrow->user, borrow->sec_context);
}

static void
forget_plan(ApikeyStatement which)
{
	if (plans[which] != NULL)
		SPI_freeplan(plans[which]);
	plans[which] = NULL;
}

/* Drop plans that were made before the schema was renamed or made anew. */
static void
forget_stale_plans(const ApikeyCatalog *catalog, const char *schema)
{
	if (plans_table == catalog->tables[TABLE_KEY] &&
		strcmp(NameStr(plans_schema), schema) == 0)
		return;
	for (int i = 0; i < NUM_STATEMENTS; i++)
		forget_plan(i);
	namestrcpy(&plans_schema, schema);
	plans_table = catalog->tables[TABLE_KEY];
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
prepare(ApikeyStatement which, const ApikeyCatalog *catalog,
		const char *schema)
{
	const Statement *statement = &statements[which];
	Oid			types[MAX_ARGUMENTS];
	int			nargs = 0;
	char	   *sql;
	SPIPlanPtr	plan;

	while (nargs < MAX_ARGUMENTS && OidIsValid(statement->types[nargs]))
	{
		types[nargs] = resolve_type(statement->types[nargs], catalog);
		nargs++;
	}
	sql = psprintf(statement->sql, quote_identifier(schema),
				   quote_identifier(get_namespace_name(apikey_schema_of_extension("pgcrypto"))));
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	plans[which] = plan;
}

/*
 * PostgreSQL shows a row that violates a constraint to whom it belongs to, as
 * which we run: but the digest is nobody's to see.
 */
static void
hide_row(void *arg pg_attribute_unused())
{
	int			code = geterrcode();

	if (code == ERRCODE_CHECK_VIOLATION || code == ERRCODE_NOT_NULL_VIOLATION ||
		code == ERRCODE_EXCLUSION_VIOLATION)
		errdetail("The row is not shown.");
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
	char	   *schema = get_namespace_name(catalog->namespace);
	ErrorContextCallback callback = {error_context_stack, hide_row, NULL};
	int			result;

	forget_stale_plans(catalog, schema);
	if (statements[which].plan_anew)
		forget_plan(which);
	if (plans[which] == NULL)
		prepare(which, catalog, schema);
	error_context_stack = &callback;
	if (statements[which].read_latest)
		result = SPI_execute_snapshot(plans[which], args, nulls,
									  GetLatestSnapshot(), InvalidSnapshot,
									  false, true, 0);
	else
		result = SPI_execute_plan(plans[which], args, nulls, false, 0);
	error_context_stack = callback.previous;
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
