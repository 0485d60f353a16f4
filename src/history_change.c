/*
 * history_change.c
 *		Telling what has happened to a row, by whatever way it was made to.
 *
 * The triggers are AFTER ROW, so that what another trigger has turned into
 * nothing is not told, and not ENABLE ALWAYS, so that neither replicas nor
 * subscriptions tell what the origin has told.  What is told of a row is listed
 * in tables.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apikeys.h"
#include "history.h"
#include "tables.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(apikey_record_change);

/* What the function that makes the change has to say of it. */
static const ApikeyNote *current_note = NULL;

/* Run a statement, of whose changes something is known. */
uint64
apikey_run_noted(ApikeyStatement which, Datum *args, const ApikeyNote *note)
{
	const ApikeyNote *outer = current_note;
	volatile uint64 count = 0;

	current_note = note;
	PG_TRY();
	{
		count = apikey_run(which, args, NULL);
	}
	PG_FINALLY();
	{
		current_note = outer;
	}
	PG_END_TRY();
	return count;
}

/* A row before or after the change: NULL if there is none. */
static Datum
value_of(const TriggerData *trigger, HeapTuple row, AttrNumber attnum,
		 bool *isnull)
{
	*isnull = true;
	if (row == NULL)
		return (Datum) 0;
	return heap_getattr(row, attnum, RelationGetDescr(trigger->tg_relation),
						isnull);
}

static const text *
text_of(const TriggerData *trigger, HeapTuple row, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = value_of(trigger, row, attnum, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

/* A value in JSON; times are in UTC, whatever the session's zone. */
static void
append_value(StringInfo json, Oid type, Datum value, bool isnull)
{
	char		buffer[MAXDATELEN + 1];
	int			utc = 0;
	Oid			output;
	bool		is_varlena;

	if (isnull)
		appendStringInfoString(json, "null");
	else if (type == TIMESTAMPTZOID)
		escape_json(json, JsonEncodeDateTime(buffer, value, type, &utc));
	else
	{
		getTypeOutputInfo(type, &output, &is_varlena);
		escape_json(json, OidOutputFunctionCall(output, value));
	}
}

/*
 * Add a column to what has changed; returns whether it has.
 */
static bool
append_change(StringInfo json, const TriggerData *trigger, HeapTuple old,
			  HeapTuple new, AttrNumber attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attr = TupleDescAttr(desc, attnum - 1);
	bool		was_null;
	bool		is_null;
	Datum		was = value_of(trigger, old, attnum, &was_null);
	Datum		is = value_of(trigger, new, attnum, &is_null);

	if (was_null && is_null)
		return false;
	if (!was_null && !is_null &&
		datumIsEqual(was, is, attr->attbyval, attr->attlen))
		return false;
	appendStringInfo(json, "%s\"%s\": {\"old\": ", json->len > 1 ? ", " : "",
					 NameStr(attr->attname));
	append_value(json, attr->atttypid, was, was_null);
	appendStringInfoString(json, ", \"new\": ");
	append_value(json, attr->atttypid, is, is_null);
	appendStringInfoChar(json, '}');
	return true;
}

/* The key that takes this one's place has another suffix. */
static void
append_new_suffix(StringInfo json, const TriggerData *trigger, HeapTuple old)
{
	appendStringInfo(json, "%s\"suffix\": {\"old\": ",
					 json->len > 1 ? ", " : "");
	append_value(json, TEXTOID,
				 PointerGetDatum(text_of(trigger, old, Anum_key_suffix)),
				 false);
	appendStringInfoString(json, ", \"new\": ");
	append_value(json, TEXTOID, PointerGetDatum(current_note->new_suffix),
				 false);
	appendStringInfoChar(json, '}');
}

/*
 * All that history tells of a change, as JSON; NULL if that is nothing.  The
 * columns that have changed are told by their bits, the first by the lowest.
 */
static char *
changes_of(const TriggerData *trigger, ApikeyTable which, HeapTuple old,
		   HeapTuple new, uint64 *changed)
{
	const TableSpec *table = &apikey_tables[which];
	int			when = old == NULL ? TOLD_AT_INSERT :
	new == NULL ? TOLD_AT_DELETE : TOLD_AT_UPDATE;
	StringInfoData json;

	*changed = 0;
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < table->natts; i++)
		if ((table->columns[i].flags & when) &&
			append_change(&json, trigger, old, new, i + 1))
			*changed |= UINT64CONST(1) << i;
	if (current_note != NULL && current_note->new_suffix != NULL)
		append_new_suffix(&json, trigger, old);
	appendStringInfoChar(&json, '}');
	return json.len > 2 ? json.data : NULL;
}

/*
 * A row that says it was created before this transaction is one that a restore
 * brings back, unless it is a function of ours that brings it.
 */
static bool
is_restored(const TriggerData *trigger, AttrNumber created_at)
{
	bool		isnull;
	Datum		value = value_of(trigger, trigger->tg_trigtuple, created_at,
								 &isnull);

	return current_note == NULL && !isnull &&
		DatumGetTimestampTz(value) != GetCurrentTransactionStartTimestamp();
}

#define IS_CHANGED(changed, attnum) \
	(((changed) & (UINT64CONST(1) << ((attnum) - 1))) != 0)

static void
record_org(TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	HeapTuple	row = new != NULL ? new : old;
	uint64		changed;
	ApikeyEvent event = {
		.org_id = text_of(trigger, row, Anum_org_org_id),
		.old_org_id = text_of(trigger, old, Anum_org_org_id),
		.changes = changes_of(trigger, TABLE_ORG, old, new, &changed)
	};

	event.kind = new == NULL ? EVENT_ORG_REMOVE :
		old != NULL && IS_CHANGED(changed, Anum_org_org_id) ?
		EVENT_ORG_UPDATE : EVENT_ORG_PLAN;
	if (new == NULL || changed != 0)
		apikey_record(&event);
}

static void
record_member(TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	HeapTuple	row = new != NULL ? new : old;
	uint64		changed;
	ApikeyEvent event = {
		.org_id = text_of(trigger, row, Anum_member_org_id),
		.old_org_id = text_of(trigger, old, Anum_member_org_id),
		.owner_id = text_of(trigger, row, Anum_member_user_id),
		.changes = changes_of(trigger, TABLE_MEMBER, old, new, &changed)
	};

	event.kind = new == NULL ? EVENT_MEMBER_REMOVE :
		IS_CHANGED(changed, Anum_member_role) ?
		EVENT_MEMBER_ROLE : EVENT_MEMBER_UPDATE;
	if (new == NULL || changed != 0)
		apikey_record(&event);
}

static void
record_key(TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	HeapTuple	row = new != NULL ? new : old;
	bool		isnull;
	uint64		changed;
	ApikeyEvent event = {
		.org_id = text_of(trigger, row, Anum_key_org_id),
		.old_org_id = text_of(trigger, old, Anum_key_org_id),
		.suffix = text_of(trigger, row, Anum_key_suffix),
		.owner_id = text_of(trigger, row, Anum_key_owner_id),
		.name = text_of(trigger, row, Anum_key_name),
		.level = DatumGetObjectId(value_of(trigger, row, Anum_key_level,
										   &isnull)),
		.changes = changes_of(trigger, TABLE_KEY, old, new, &changed)
	};

	if (current_note != NULL)
		event.kind = current_note->kind;
	else
		event.kind = new == NULL ? EVENT_KEY_DELETE :
			old == NULL ? EVENT_KEY_CREATE : EVENT_KEY_UPDATE;
	if (new == NULL || old == NULL || changed != 0 || current_note != NULL)
		apikey_record(&event);
}

/* A legacy key as it was or is. */
static void
record_legacy_key(const TriggerData *trigger, HeapTuple row,
				  ApikeyEventKind kind, const char *changes)
{
	char		suffix[APIKEY_SUFFIX_LEN];
	bool		isnull;
	bytea	   *digest = DatumGetByteaPP(value_of(trigger, row,
												  Anum_legacy_digest,
												  &isnull));
	ApikeyEvent event = {
		.kind = current_note != NULL ? current_note->kind : kind,
		.org_id = text_of(trigger, row, Anum_legacy_org_id),
		.level = apikey_catalog()->levels[LEVEL_ADMIN],
		.changes = changes
	};

	apikey_suffix_of((const uint8 *) VARDATA_ANY(digest), suffix);
	event.suffix = cstring_to_text_with_len(suffix, APIKEY_SUFFIX_LEN);
	apikey_record(&event);
}

/* Another organization or digest is another key. */
static void
record_legacy(TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	uint64		changed;
	char	   *changes = changes_of(trigger, TABLE_LEGACY, old, new, &changed);

	if (old != NULL && new != NULL && changed == 0 &&
		!apikey_changes(trigger, Anum_legacy_digest))
		return;
	if (old != NULL)
		record_legacy_key(trigger, old, EVENT_LEGACY_DELETE, changes);
	if (new != NULL)
		record_legacy_key(trigger, new, EVENT_LEGACY_IMPORT,
						  old == NULL ? changes : NULL);
}

/* The tables that history tells of. */
typedef struct Recorder
{
	ApikeyTable table;
	AttrNumber	created_at;
	ApikeyEventKind truncation;
	void		(*record) (TriggerData *trigger, HeapTuple old, HeapTuple new);
} Recorder;

static const Recorder recorders[] = {
	{TABLE_KEY, Anum_key_created_at, EVENT_KEY_DELETE, record_key},
	{TABLE_LEGACY, Anum_legacy_created_at, EVENT_LEGACY_DELETE, record_legacy},
	{TABLE_MEMBER, Anum_member_created_at, EVENT_MEMBER_REMOVE, record_member},
	{TABLE_ORG, Anum_org_created_at, EVENT_ORG_REMOVE, record_org},
};

static const Recorder *
recorder_of(FunctionCallInfo fcinfo)
{
	const TriggerData *trigger = (TriggerData *) fcinfo->context;
	const ApikeyCatalog *catalog = apikey_catalog();

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger")));
	for (int i = 0; i < (int) lengthof(recorders); i++)
		if (RelationGetRelid(trigger->tg_relation) ==
			catalog->tables[recorders[i].table] &&
			TRIGGER_FIRED_AFTER(trigger->tg_event) &&
			(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
			 TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event)))
			return &recorders[i];
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("this function serves only the triggers of extension \"apikeys\"")));
}

/*
 * apikey_record_change(): AFTER INSERT OR UPDATE OR DELETE, for each row, and
 * AFTER TRUNCATE, which is told as one event of nobody's
 */
Datum
apikey_record_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const Recorder *recorder = recorder_of(fcinfo);
	TriggerEvent event = trigger->tg_event;

	if (!apikey_history)
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
	{
		ApikeyEvent truncation = {.kind = recorder->truncation};

		apikey_record(&truncation);
	}
	else if (TRIGGER_FIRED_BY_UPDATE(event))
		recorder->record(trigger, trigger->tg_trigtuple, trigger->tg_newtuple);
	else if (TRIGGER_FIRED_BY_DELETE(event))
		recorder->record(trigger, trigger->tg_trigtuple, NULL);
	else if (!is_restored(trigger, recorder->created_at))
		recorder->record(trigger, NULL, trigger->tg_trigtuple);
	PG_RETURN_POINTER(NULL);
}
