/*
 * history_verify.c
 *		Are the events that were sealed as they were?
 *
 * Seals and events are read side by side with one snapshot, so that what is
 * sealed or pruned meanwhile does not matter.  It works on standbys.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"
#include "history_seal.h"

PG_FUNCTION_INFO_V1(apikey_verify_history);

/* Of what is amiss, so much is told. */
#define MAX_FINDINGS 5

typedef struct Verification
{
	EventScan	events;
	bool		more;			/* is there an event that was not looked at? */
	const bytea *wanted;		/* a seal that was kept, or NULL */
	bool		found;
	uint8		before[APIKEY_DIGEST_LEN];	/* the seal before */
	int64		last_id;
	int64		checked;
	int64		pruned;
	bool		kept_any;		/* is an event before this seal left? */
	int			findings;
	StringInfoData detail;
} Verification;

static void
add_finding(Verification *v, const ApikeySeal *seal, const char *what)
{
	if (v->findings++ < MAX_FINDINGS)
		appendStringInfo(&v->detail,
						 "%sseal " INT64_FORMAT " of %s, up to event " INT64_FORMAT ": %s",
						 v->findings > 1 ? "; " : "",
						 seal->id, timestamptz_to_str(seal->sealed_at),
						 seal->place.event_id, what);
}

/* The events under a seal: as many as it says, and as they were. */
static void
verify_events(Verification *v, const ApikeySeal *seal)
{
	uint8		hash[APIKEY_DIGEST_LEN];
	int64		expected = seal->events - seal->pruned;
	int64		count = 0;

	memcpy(hash, seal->pruned_hash, APIKEY_DIGEST_LEN);
	while (v->more && apikey_compare_places(v->events.place, seal->place) <= 0)
	{
		apikey_hash_event(&v->events, hash);
		count++;
		v->more = apikey_next_event(&v->events);
	}
	if (count > expected)
		add_finding(v, seal, psprintf("events added: %lld",
									  (long long) (count - expected)));
	else if (count < expected)
		add_finding(v, seal, psprintf("events missing: %lld",
									  (long long) (expected - count)));
	else if (count > 0 &&
			 memcmp(hash, seal->events_hash, APIKEY_DIGEST_LEN) != 0)
		add_finding(v, seal, "events were changed");
	v->checked += count;
	v->pruned += seal->pruned;
	/* what is pruned is a beginning */
	if (seal->pruned > 0 && v->kept_any)
		add_finding(v, seal, "events are missing that were not pruned");
	v->kept_any |= seal->pruned < seal->events;
}

static void
verify_seal(Verification *v, const ApikeySeal *seal)
{
	uint8		result[APIKEY_DIGEST_LEN];

	if (seal->id != v->last_id + 1)
		add_finding(v, seal, "seals before it are missing");
	v->last_id = seal->id;
	apikey_hash_seal(seal, v->before, result);
	if (!seal->is_whole || seal->pruned < 0 || seal->pruned > seal->events ||
		memcmp(result, seal->seal, APIKEY_DIGEST_LEN) != 0)
		add_finding(v, seal, "the seal was changed, or the one before it");
	memcpy(v->before, seal->seal, APIKEY_DIGEST_LEN);
	if (v->wanted != NULL &&
		VARSIZE_ANY_EXHDR(v->wanted) == APIKEY_DIGEST_LEN &&
		memcmp(VARDATA_ANY(v->wanted), seal->seal, APIKEY_DIGEST_LEN) == 0)
		v->found = true;
	verify_events(v, seal);
}

/* What is there beside findings. */
static void
sum_up(Verification *v)
{
	int64		unsealed = 0;

	for (; v->more; v->more = apikey_next_event(&v->events))
		unsealed++;
	if (v->findings > MAX_FINDINGS)
		appendStringInfo(&v->detail, "; and %d more",
						 v->findings - MAX_FINDINGS);
	if (v->wanted != NULL && !v->found)
	{
		appendStringInfo(&v->detail, "%sthe given seal is not in the chain",
						 v->findings > 0 ? "; " : "");
		v->findings++;
	}
	appendStringInfo(&v->detail,
					 "%s" INT64_FORMAT " events under " INT64_FORMAT " seals were verified",
					 v->findings > 0 ? "; " : "", v->checked, v->last_id);
	if (v->pruned > 0)
		appendStringInfo(&v->detail, ", " INT64_FORMAT " had been pruned",
						 v->pruned);
	if (unsealed > 0)
		appendStringInfo(&v->detail, ", " INT64_FORMAT " are not sealed",
						 unsealed);
}

/*
 * apikey_verify_history(seal bytea, OUT ok boolean, OUT detail text)
 */
Datum
apikey_verify_history(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = apikey_result_desc(fcinfo);
	EventPlace	beginning = APIKEY_BEGINNING;
	Verification v = {.wanted = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0)};
	SealScan	seals;
	ApikeySeal	seal;
	Datum		values[2];
	bool		nulls[2] = {false};

	initStringInfo(&v.detail);
	apikey_begin_seals(&seals, GetActiveSnapshot());
	apikey_begin_events(&v.events, GetActiveSnapshot(), beginning);
	v.events.below = PG_INT64_MAX;
	v.more = apikey_next_event(&v.events);
	while (apikey_next_seal(&seals, ForwardScanDirection, &seal))
		verify_seal(&v, &seal);
	sum_up(&v);
	apikey_end_events(&v.events);
	apikey_end_seals(&seals);
	values[0] = BoolGetDatum(v.findings == 0);
	values[1] = CStringGetTextDatum(v.detail.data);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
