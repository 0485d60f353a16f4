/*
 * principal.c
 *		On whose behalf the session acts.
 *
 * The principal is kept in the setting apikeys.principal, which nobody but
 * this file can give a value: so guc.c makes it follow transactions,
 * savepoints and exceptions, and parallel workers inherit it.  Its text is
 *
 *	member <tab> org_id <tab> user_id		(ids hold no control characters)
 *	key <tab> native|legacy <tab> key_id <tab> created_at
 *
 * and is not shown.  A digest must not be in it: guc.c copies it for parallel
 * workers, and shows it in the context of whatever error one of them has then,
 * running out of memory for the copy included.  It says who the principal is;
 * what that may do is read from the tables, with the latest snapshot, each time
 * it is asked for.
 *
 * A transaction that has had a principal set is sealed, whatever becomes of
 * the principal; see seal_transaction().
 */
#include "postgres.h"

#include <limits.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "apikeys.h"

PG_FUNCTION_INFO_V1(apikey_act_as);
PG_FUNCTION_INFO_V1(apikey_authenticate);
PG_FUNCTION_INFO_V1(apikey_current_org);
PG_FUNCTION_INFO_V1(apikey_current_user);
PG_FUNCTION_INFO_V1(apikey_current_role);
PG_FUNCTION_INFO_V1(apikey_current_level);
PG_FUNCTION_INFO_V1(apikey_current_suffix);
PG_FUNCTION_INFO_V1(apikey_allows);
PG_FUNCTION_INFO_V1(apikey_visible_org);
PG_FUNCTION_INFO_V1(apikey_admin_org);
PG_FUNCTION_INFO_V1(apikey_own_seat);

/* The setting's text, taken apart; guc.c keeps it beside the text. */
typedef struct Principal
{
	bool		is_key;
	ApikeyShape shape;			/* of a key */
	int64		key_id;
	TimestampTz created_at;		/* in case the number is another key's now */
	const char *user_id;		/* of a member; points into ids */
	char		ids[FLEXIBLE_ARRAY_MEMBER]; /* org_id */
} Principal;

static char *principal_text = NULL;
static const Principal *presented = NULL;
static bool setting_principal = false;
static uint64 principal_changes = 0;

/* The transaction that has had a principal set, in the setting's type. */
static int	sealed_transaction = 0;

/* The last transaction here that looked for its principal by database role. */
static LocalTransactionId role_transaction = InvalidLocalTransactionId;

/*
 * Take the setting's text apart; NULL if it makes no sense or memory is out.
 */
static Principal *
parse_principal(const char *text)
{
	const char *first = strchr(text, '\t');
	const char *second = first ? strchr(first + 1, '\t') : NULL;
	Principal  *principal;
	size_t		len;

	if (second == NULL)
		return NULL;
	len = strlen(first + 1);
	principal = apikey_guc_malloc(offsetof(Principal, ids) + len + 1);
	if (principal == NULL)
	{
		/* the default message would tell whose principal it is */
		GUC_check_errcode(ERRCODE_OUT_OF_MEMORY);
		GUC_check_errmsg("out of memory");
		return NULL;
	}
	memset(principal, 0, offsetof(Principal, ids));
	principal->is_key = strncmp(text, "key\t", 4) == 0;
	memcpy(principal->ids, first + 1, len + 1);
	principal->ids[second - first - 1] = '\0';
	principal->user_id = principal->ids + (second - first);
	if (principal->is_key)
	{
		char	   *end;

		principal->shape = strcmp(principal->ids, "native") == 0 ?
			SHAPE_NATIVE : SHAPE_LEGACY;
		principal->key_id = strtoi64(second + 1, &end, 10);
		principal->created_at = strtoi64(end, NULL, 10);
	}
	return principal;
}

/* May the setting be given a value that is not the one it has at start? */
static bool
may_set(const char *name)
{
	if (setting_principal || InitializingParallelWorker)
		return true;
	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("parameter \"%s\" cannot be set", name);
	GUC_check_errhint("Use apikey_act_as() or apikey_authenticate().");
	return false;
}

static bool
check_principal(char **newval, void **extra, GucSource source)
{
	if (source == PGC_S_DEFAULT && **newval == '\0')
		return true;			/* the value at start and of RESET */
	if (!may_set("apikeys.principal"))
		return false;
	if (**newval == '\0')
		return true;
	*extra = parse_principal(*newval);
	return *extra != NULL;
}

static bool
check_sealed(int *newval, void **extra pg_attribute_unused(), GucSource source)
{
	if (source == PGC_S_DEFAULT && *newval == 0)
		return true;
	return may_set("apikeys.sealed_transaction");
}

static void
assign_principal(const char *newval pg_attribute_unused(), void *extra)
{
	presented = extra;
	principal_changes++;
}

static const char *
show_principal(void)
{
	if (presented == NULL)
		return "";
	return presented->is_key ? "key" : "member";
}

/*
 * A prepared transaction keeps its locks for as long as whoever prepared it
 * likes, so that it could hold up its own member's removal.  What counts is
 * that the principal was looked for by database role, whether or not there was
 * one.
 *
 * Parallel workers look for themselves, and don't tell; but they can't take
 * locks that last, nor change anything.
 */
static void
refuse_to_prepare(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_PREPARE &&
		role_transaction == APIKEY_MY_LXID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has used the database role as its principal")));
}

void
apikey_principal_init(void)
{
	DefineCustomStringVariable("apikeys.principal",
							   "On whose behalf the session acts.",
							   "Set by apikey_act_as() and apikey_authenticate() only.",
							   &principal_text, "",
							   PGC_USERSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   check_principal, assign_principal,
							   show_principal);
	DefineCustomIntVariable("apikeys.sealed_transaction",
							"The last transaction that has had a principal set.",
							"Set by apikey_act_as() and apikey_authenticate() only.",
							&sealed_transaction, 0, INT_MIN, INT_MAX,
							PGC_USERSET,
							GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE |
							GUC_DISALLOW_IN_FILE,
							check_sealed, NULL, NULL);
	RegisterXactCallback(refuse_to_prepare, NULL);
}

/*
 * Has this transaction had a principal set?  A parallel worker has a
 * transaction number of its own, and asks for its leader's, which waits for it.
 */
static bool
transaction_is_sealed(void)
{
	PGPROC	   *leader = MyProc->lockGroupLeader;

	return sealed_transaction ==
		(int) APIKEY_LXID_OF(leader != NULL ? leader : MyProc);
}

/*
 * Remember that this transaction has had a principal set.
 *
 * That is a setting too, so that parallel workers inherit it.  Of this source
 * a value is not the transaction's: it becomes the one that RESET and
 * ROLLBACK TO SAVEPOINT go back to as well, and RESET ALL leaves it.
 */
static void
seal_transaction(void)
{
	char		value[12];

	snprintf(value, sizeof(value), "%d", (int) APIKEY_MY_LXID);
	(void) set_config_option("apikeys.sealed_transaction", value,
							 PGC_USERSET, PGC_S_OVERRIDE, GUC_ACTION_SET,
							 true, ERROR, false);
}

/*
 * Whoever can run SQL in the middle of a request shall not become somebody
 * else: a transaction has one principal.
 */
static void
check_seal(void)
{
	if (apikey_seal_principal && transaction_is_sealed() && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("this transaction has had its principal set already"),
				 errhint("Serve each request in a transaction of its own.")));
}

/*
 * Is this call made by a statement of its own, outside a transaction block?
 * A principal that it set would be gone with the statement.  A function or
 * procedure that made the call still has the rest of itself to run.
 *
 * PostgreSQL doesn't tell who called.  All procedural languages, DO too, are
 * connected to SPI while they run something; what tells that without a side
 * effect is to unregister a relation of a name that none can have.  Functions
 * in SQL run their statements by executors of their own, whose memory is below
 * that of the executor that called the function, in all versions; unless CALL
 * did.  A function in SQL that the planner has inlined is part of the
 * statement, and has no rest.
 */
static bool
is_statement_of_its_own(FunctionCallInfo fcinfo)
{
	int			executors = 0;

	if (IsTransactionBlock() ||
		SPI_unregister_relation("") != SPI_ERROR_UNCONNECTED)
		return false;
	if (ActivePortal != NULL && list_length(ActivePortal->stmts) == 1)
	{
		PlannedStmt *statement = linitial_node(PlannedStmt,
											   ActivePortal->stmts);

		if (statement->utilityStmt != NULL &&
			IsA(statement->utilityStmt, CallStmt))
			return false;
	}
	for (MemoryContext context = fcinfo->flinfo->fn_mcxt; context != NULL;
		 context = context->parent)
		if (strcmp(context->name, "ExecutorState") == 0)
			executors++;
	return executors < 2;
}

/*
 * Error where a principal may not be set, or would have no effect: before
 * anything is looked at.
 *
 * A principal of the session is the next client's too, where a connection
 * pooler gives a connection to one client after another; so it takes somebody
 * who knows that there is none.
 */
static void
check_scope(FunctionCallInfo fcinfo, bool session)
{
	if (session && !apikey_session_principal && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set the principal of the session"),
				 errhint("Set it in each transaction.")));
	if (!session && is_statement_of_its_own(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
				 errmsg("the principal must be set in a transaction block"),
				 errhint("Begin a transaction first.")));
}

static void
set_principal(const char *value, bool session)
{
	check_seal();
	setting_principal = true;
	PG_TRY();
	{
		(void) set_config_option("apikeys.principal", value,
								 PGC_USERSET, PGC_S_SESSION,
								 session ? GUC_ACTION_SET : GUC_ACTION_LOCAL,
								 true, ERROR, false);
		seal_transaction();
	}
	PG_FINALLY();
	{
		setting_principal = false;
	}
	PG_END_TRY();
}

static void
actor_of_member(const ApikeyMember *member, ApikeyActor *actor)
{
	actor->role = member->role;
	actor->level = apikey_level_of_role(member->role);
	actor->org_id = member->org_id;
	actor->user_id = member->user_id;
}

static void
actor_of_key(const ApikeyKey *key, ApikeyActor *actor)
{
	actor->is_key = true;
	actor->level = key->grant.level;
	actor->org_id = key->org_id;
	actor->user_id = key->owner_id;
	actor->suffix = key->suffix;
}

/* The presented key, if it is alive. */
static bool
find_presented_key(ApikeyKey *key)
{
	return apikey_find_active_by_id(presented->shape, presented->key_id,
									key) == STATUS_ACTIVE &&
		key->created_at == presented->created_at;
}

/*
 * The member whose database role is current_user.
 *
 * Not in a transaction that was sealed: what a request injects could make its
 * role somebody's, drop the principal, and be that member.  Superusers are
 * none, also where the role became one later.
 */
static bool
find_member_by_role(ApikeyMember *member)
{
	if (transaction_is_sealed() || superuser())
		return false;
	role_transaction = APIKEY_MY_LXID;
	return apikey_find_member_of_role(GetUserId(), member);
}

/*
 * The principal and what it may do at this moment; false if there is none.
 *
 * Where PostgreSQL runs code that its caller did not choose (REFRESH of a
 * materialized view, index expressions in maintenance), nobody is acting.
 */
bool
apikey_actor(ApikeyActor *actor)
{
	ApikeyMember member;
	ApikeyKey	key;

	memset(actor, 0, sizeof(*actor));
	if (InSecurityRestrictedOperation())
		return false;
	if (presented == NULL)
	{
		if (!find_member_by_role(&member))
			return false;
		actor->by_role = true;
	}
	else if (presented->is_key)
	{
		if (!find_presented_key(&key))
			return false;
		actor_of_key(&key, actor);
		return true;
	}
	else if (!apikey_find_member(CStringGetTextDatum(presented->ids),
								 CStringGetTextDatum(presented->user_id),
								 &member))
		return false;
	actor_of_member(&member, actor);
	return true;
}

/*
 * The same for history, which tells it of changes that are made as the owner of
 * the tables: the principal, or else the member whose database role the session
 * has outside of functions.  Not all of what it may do is filled in, but who.
 */
bool
apikey_actor_of_session(ApikeyActor *actor)
{
	Oid			role = GetOuterUserId();
	ApikeyMember member;
	ApikeyKey	key;

	memset(actor, 0, sizeof(*actor));
	if (presented == NULL)
	{
		if (transaction_is_sealed() || superuser_arg(role) ||
			!apikey_find_member_of_role(role, &member))
			return false;
		actor_of_member(&member, actor);
		return true;
	}
	if (presented->is_key)
	{
		if (!find_presented_key(&key))
			return false;
		actor_of_key(&key, actor);
		return true;
	}
	actor->org_id = cstring_to_text(presented->ids);
	actor->user_id = cstring_to_text(presented->user_id);
	return true;
}

/* How often the setting has been given a value, or taken one back. */
uint64
apikey_principal_changes(void)
{
	return principal_changes;
}

/*
 * apikey_act_as(org_id text, user_id text, session boolean) returns void
 */
Datum
apikey_act_as(PG_FUNCTION_ARGS)
{
	ApikeyMember member;

	apikey_require_arguments(fcinfo);
	check_scope(fcinfo, PG_GETARG_BOOL(2));
	if (!apikey_find_member(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &member))
		apikey_no_such("member");
	set_principal(psprintf("member\t%s\t%s",
						   text_to_cstring(member.org_id),
						   text_to_cstring(member.user_id)),
				  PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

/*
 * apikey_authenticate(key text, session boolean) returns apikey_identity
 */
Datum
apikey_authenticate(PG_FUNCTION_ARGS)
{
	uint8		digest[APIKEY_DIGEST_LEN];
	ApikeyShape shape;
	ApikeyStatus status;
	ApikeyKey	key;

	apikey_require_arguments(fcinfo);
	check_scope(fcinfo, PG_GETARG_BOOL(1));
	shape = apikey_shape_of_datum(PG_GETARG_DATUM(0), digest);
	status = apikey_find_active(shape, digest, &key, NULL);
	if (status != STATUS_ACTIVE)
	{
		apikey_count_refusal(status);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PASSWORD),
				 errmsg("the key is not valid")));
	}
	set_principal(psprintf("key\t%s\t" INT64_FORMAT "\t" INT64_FORMAT,
						   shape == SHAPE_NATIVE ? "native" : "legacy",
						   key.grant.key_id, key.created_at),
				  PG_GETARG_BOOL(1));
	apikey_count_use(&key.grant, false);
	PG_RETURN_DATUM(apikey_identity_datum(fcinfo, &key));
}

/*
 * apikey_current_org() returns text
 */
Datum
apikey_current_org(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(actor.org_id);
}

/*
 * apikey_current_user() returns text
 */
Datum
apikey_current_user(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || actor.user_id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(actor.user_id);
}

/*
 * apikey_current_role() returns apikey_role
 */
Datum
apikey_current_role(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || actor.role == ROLE_NONE)
		PG_RETURN_NULL();
	PG_RETURN_OID(apikey_catalog()->roles[actor.role]);
}

/*
 * apikey_current_level() returns apikey_level
 */
Datum
apikey_current_level(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || actor.level == LEVEL_NONE)
		PG_RETURN_NULL();
	PG_RETURN_OID(apikey_catalog()->levels[actor.level]);
}

/*
 * apikey_current_suffix() returns text
 */
Datum
apikey_current_suffix(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || actor.suffix == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(actor.suffix);
}

/*
 * apikey_allows(capability text) returns boolean
 */
Datum
apikey_allows(PG_FUNCTION_ARGS)
{
	ApikeyLevel required;
	ApikeyActor actor;

	apikey_require_arguments(fcinfo);
	required = apikey_required_level(PG_GETARG_DATUM(0));
	PG_RETURN_BOOL(apikey_actor(&actor) && actor.level >= required);
}

/*
 * apikey_visible_org() returns text
 *
 * The organization some of whose keys the principal may see and delete, for
 * the policies.
 */
Datum
apikey_visible_org(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || !apikey_manages_keys(&actor))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(actor.org_id);
}

/*
 * apikey_admin_org() returns text
 *
 * The organization if these are all of its keys, not the principal's own only.
 */
Datum
apikey_admin_org(APIKEY_NO_ARGS)
{
	ApikeyActor actor;

	if (!apikey_actor(&actor) || !apikey_manages_all(&actor))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(actor.org_id);
}

/*
 * apikey_own_seat(OUT org_id text, OUT user_id text)
 *
 * Whose keys are the principal's own, asked at one moment: policies must not
 * put together an organization and a user of two principals.
 */
Datum
apikey_own_seat(PG_FUNCTION_ARGS)
{
	ApikeyActor actor;
	ApikeyRow	row;

	apikey_begin_row(&row, apikey_result_desc(fcinfo));
	if (apikey_actor(&actor) && apikey_manages_keys(&actor))
	{
		apikey_set_text(&row, "org_id", actor.org_id);
		apikey_set_text(&row, "user_id", actor.user_id);
	}
	PG_RETURN_DATUM(apikey_row_datum(&row));
}
