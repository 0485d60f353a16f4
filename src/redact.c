/*
 * redact.c
 *		Keeping values out of the server's log, and out of what other sessions
 *		see of a statement: pg_stat_activity and pg_stat_statements.
 *
 * Where a text holds what looks like a native value, its secret is replaced.
 * The prefix and the suffix stay, so that the key can be found and deleted.
 * Only a preloaded library does this, in hooks; a text that holds none is read
 * once for a statement and left alone.
 *
 * In the log and in pg_stat_activity an ellipsis stands for the secret.  A text
 * in which others look for the places of constants, as pg_stat_statements does,
 * keeps its length: there the ellipsis is a long one.
 *
 * The source text of a statement is never changed, only replaced by a copy in
 * what is handed on: it may be parsed again.  Messages are changed in place, so
 * that nothing can fail while they are logged.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "apikeys.h"

static bool redact = true;

static emit_log_hook_type prev_emit_log = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;
static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static planner_hook_type prev_planner = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* ----- Texts ----- */

static bool
holds_value(const char *text)
{
	ApikeyMatch match;
	size_t		from = 0;

	return apikey_find_match(text, strlen(text), &from, &match);
}

/* Three bytes: an ellipsis, or what stands for it in other encodings. */
static const char *
ellipsis(void)
{
	return GetDatabaseEncoding() == PG_UTF8 ? "\xE2\x80\xA6" : "...";
}

/* Replace each secret in place: the text gets shorter. */
static void
shorten(char *text)
{
	size_t		len = strlen(text);
	size_t		from = 0;
	size_t		kept = 0;		/* bytes of the result */
	size_t		done = 0;		/* bytes of the text that went into it */
	ApikeyMatch match;

	while (apikey_find_match(text, len, &from, &match))
	{
		memmove(text + kept, text + done, match.secret - done);
		kept += match.secret - done;
		memcpy(text + kept, ellipsis(), 3);
		kept += 3;
		done = match.secret + APIKEY_SECRET_LEN;
	}
	if (done > 0)
		memmove(text + kept, text + done, len - done + 1);
}

/* A copy of the same length without secrets; the text itself if it has none. */
static const char *
masked(const char *text)
{
	char	   *copy;
	size_t		len;
	size_t		from = 0;
	ApikeyMatch match;

	if (text == NULL || !redact || !holds_value(text))
		return text;
	copy = pstrdup(text);
	len = strlen(copy);
	while (apikey_find_match(copy, len, &from, &match))
	{
		memset(copy + match.secret, '.', APIKEY_SECRET_LEN);
		memcpy(copy + match.secret, ellipsis(), 3);
	}
	return copy;
}

/*
 * What the session shows of the client's statement, if that holds a value: if
 * so, true.  It must not fail: an error may be on its way into the log.
 */
static bool
redact_session(void)
{
	char	   *copy;

	if (!redact || debug_query_string == NULL ||
		!holds_value(debug_query_string))
		return false;
	copy = MemoryContextAllocExtended(MessageContext != NULL ?
									  MessageContext : TopMemoryContext,
									  strlen(debug_query_string) + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (copy != NULL)
	{
		strcpy(copy, debug_query_string);
		shorten(copy);
	}
	debug_query_string = copy != NULL ? copy : "";
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	return true;
}

/* The source text of a statement as it is handed on; mostly the client's. */
static const char *
redacted(const char *text)
{
	bool		is_shown = text == debug_query_string;

	return redact_session() || !is_shown ? masked(text) : text;
}

/* ----- Hooks ----- */

static void
redact_part(char *text)
{
	if (text != NULL)
		shorten(text);
}

static void
redact_message(ErrorData *edata)
{
	if (redact)
	{
		(void) redact_session();
		redact_part(edata->message);
		redact_part(edata->detail);
		redact_part(edata->detail_log);
		redact_part(edata->hint);
		redact_part(edata->context);
		redact_part(edata->internalquery);
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

/*
 * What failed was not logged, perhaps, and then nobody has looked at it.  The
 * statement is gone by now, so what is shown of it is changed itself: of a
 * value that did not fit in there, a part can stay.
 */
static void
redact_failed(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_ABORT || !redact || MyBEEntry == NULL ||
		!holds_value(MyBEEntry->st_activity_raw))
		return;
	PGSTAT_BEGIN_WRITE_ACTIVITY(MyBEEntry);
	shorten(MyBEEntry->st_activity_raw);
	PGSTAT_END_WRITE_ACTIVITY(MyBEEntry);
}

static void
redact_parsed(ParseState *pstate, Query *query, JumbleState *jstate)
{
	pstate->p_sourcetext = redacted(pstate->p_sourcetext);
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
}

static PlannedStmt *
redact_planned(APIKEY_PLANNER_PARAMS)
{
	text = redacted(text);
	return prev_planner ? prev_planner(APIKEY_PLANNER_ARGS) :
		standard_planner(APIKEY_PLANNER_ARGS);
}

static void
redact_started(QueryDesc *query, int flags)
{
	query->sourceText = redacted(query->sourceText);
	if (prev_executor_start)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
redact_utility(PlannedStmt *statement, const char *text, bool is_read_only,
			   ProcessUtilityContext context, ParamListInfo params,
			   QueryEnvironment *env, DestReceiver *dest,
			   QueryCompletion *completion)
{
	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, redacted(text), is_read_only, context, params, env, dest,
		 completion);
}

/*
 * When all libraries have been loaded, so that our hooks come before theirs.
 * It is called again after a crash.
 */
static void
install_hooks(void)
{
	if (prev_shmem_startup)
		prev_shmem_startup();
	if (emit_log_hook == redact_message)
		return;
	prev_emit_log = emit_log_hook;
	emit_log_hook = redact_message;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = redact_parsed;
	prev_planner = planner_hook;
	planner_hook = redact_planned;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = redact_started;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = redact_utility;
	RegisterXactCallback(redact_failed, NULL);
}

void
apikey_redact_init(void)
{
	DefineCustomBoolVariable("apikeys.redact",
							 "Replaces the secret of values in the log, in pg_stat_activity and in pg_stat_statements.",
							 "Only if the library is preloaded.",
							 &redact, true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = install_hooks;
}
