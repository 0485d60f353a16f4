/*
 * apikeys.c
 *		Loading the module, and its settings.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "apikeys.h"
#include "history.h"
#include "usage.h"

APIKEY_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(apikey_library_version);

bool		apikey_history = true;
char	   *apikey_prefix = NULL;
bool		apikey_revoke_remote_apply = true;
bool		apikey_seal_principal = true;
bool		apikey_session_principal = false;

static bool
check_prefix(char **newval, void **extra pg_attribute_unused(),
			 GucSource source pg_attribute_unused())
{
	if (apikey_prefix_is_valid(*newval))
		return true;
	GUC_check_errdetail("A prefix has 1 to %d characters of a-z and 0-9, the first of them a letter.",
						APIKEY_PREFIX_MAX);
	return false;
}

void
_PG_init(void)
{
	DefineCustomBoolVariable("apikeys.history",
							 "Records what happens to keys, members and organizations.",
							 "In apikey_event, in the transaction of the change.",
							 &apikey_history, true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("apikeys.prefix",
							   "Prefix of the values of new keys.",
							   "It names the deployment or region. Values with other prefixes keep working.",
							   &apikey_prefix, "ak",
							   PGC_SUSET, 0,
							   check_prefix, NULL, NULL);
	DefineCustomBoolVariable("apikeys.revoke_remote_apply",
							 "Makes transactions that delete, lower or expire a key wait for synchronous standbys to apply them.",
							 "It raises synchronous_commit to remote_apply, unless that is off or local.",
							 &apikey_revoke_remote_apply, true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("apikeys.seal_principal",
							 "Forbids a second principal in a transaction.",
							 "Superusers may always set another.",
							 &apikey_seal_principal, true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("apikeys.session_principal",
							 "Allows a principal that lasts for the session.",
							 "Without it only superusers may pass session => true. Behind a connection pooler such a principal is that of the next client too.",
							 &apikey_session_principal, false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("apikeys.seal_interval",
							"Time between two seals of history.",
							"Only if the library is preloaded.",
							&history_seal_interval, 60, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("apikeys.expiry_warning",
							"How long before a key expires history tells so.",
							"Only if the library is preloaded; 0 never.",
							&history_expiry_warning, 7 * SECS_PER_DAY,
							0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	/* what takes a restart can be defined while the server starts only */
	DefineCustomIntVariable("apikeys.usage_max_keys",
							"Keys whose usage can be counted between two flushes.",
							"Only if the library is preloaded; 0 counts nothing.",
							&usage_max_keys, 65536, 0, 16 * 1024 * 1024,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("apikeys.usage_flush_interval",
							"Time between two flushes of usage to apikey_usage.",
							NULL,
							&usage_flush_interval, 10, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	apikey_redact_init();
	apikey_principal_init();
	MarkGUCPrefixReserved("apikeys");
	apikey_catalog_init();
	apikey_change_init();
	apikey_lookup_init();
	/* while pg_upgrade is at it, nobody shall write */
	if (process_shared_preload_libraries_in_progress && usage_max_keys > 0 &&
		!IsBinaryUpgrade)
	{
		usage_shmem_init();
		usage_register_launcher();
	}
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
		history_register_launcher();
}

/*
 * apikey_library_version() returns text
 */
Datum
apikey_library_version(APIKEY_NO_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(APIKEYS_VERSION));
}
