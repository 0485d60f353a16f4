/*
 * worker.c
 *		What background workers of ours have in common.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apikeys.h"
#include "worker.h"

/*
 * A database may be dropped, or closed, between the launcher's look at it and
 * the worker's connecting to it: nothing that anybody need read of.
 */
static void
hush_lost_database(ErrorData *edata)
{
	if (edata->sqlerrcode == ERRCODE_UNDEFINED_DATABASE ||
		edata->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		edata->output_to_server = false;
}

/* Connect to a database, as the bootstrap superuser. */
void
apikey_worker_connect(Oid database)
{
	emit_log_hook_type log_hook = emit_log_hook;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	emit_log_hook = hush_lost_database;
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	emit_log_hook = log_hook;
}

/*
 * Lock a table of ours, as who writes to it does; NULL if the database has no
 * extension, which may be being dropped.
 */
static Relation
open_table(const char *name)
{
	Relation	rel = NULL;

	while (rel == NULL && OidIsValid(get_extension_oid("apikeys", true)))
	{
		Oid			schema = get_namespace_oid(APIKEYS_PRIVATE, true);
		Oid			relid = get_relname_relid(name, schema);

		if (!OidIsValid(relid))
			apikey_not_as_installed("table", name);
		rel = try_table_open(relid, RowExclusiveLock);
	}
	return rel;
}

/*
 * Become the owner of a table, until the transaction has ended; false if there
 * is none.  It stays locked, so that it cannot get another owner meanwhile, nor
 * the extension be dropped.  The extension itself is not locked: anybody can
 * keep it so for as long as a transaction lasts (ALTER FUNCTION ... DEPENDS ON
 * EXTENSION).
 */
bool
apikey_worker_become_owner(const char *table)
{
	Relation	rel = open_table(table);

	if (rel == NULL)
		return false;
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	table_close(rel, NoLock);
	return true;
}

/*
 * What somebody has set must not matter: an administrator for the database or
 * for everybody, or code of the owner's in the transaction before.
 */
void
apikey_worker_settle_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"transaction_timeout", "0"},
		/* a standby that is away must not hold counts back */
		{"synchronous_commit", "local"},
		/* compiling would take longer than the statement */
		{"jit", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		/* not every version has all of them */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_SESSION);
}
