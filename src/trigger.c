/*
 * trigger.c
 *		Reading what a trigger of ours is fired for, and how.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/catcache.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "apikeys.h"
#include "trigger.h"

/*
 * The trigger's data, for a function that is for one or two of our tables.
 *
 * Whoever was granted too much may call it from a trigger of another table,
 * or for another event, where the columns and rows it reads are not there.
 */
TriggerData *
apikey_trigger_data(FunctionCallInfo fcinfo, bool before,
					ApikeyTable table, ApikeyTable or_table)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const ApikeyCatalog *catalog = apikey_catalog();
	TriggerEvent event;
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger")));
	event = trigger->tg_event;
	relid = RelationGetRelid(trigger->tg_relation);
	if ((relid != catalog->tables[table] &&
		 relid != catalog->tables[or_table]) ||
		(before ?
		 !TRIGGER_FIRED_BEFORE(event) || TRIGGER_FIRED_BY_DELETE(event) :
		 !TRIGGER_FIRED_AFTER(event) || TRIGGER_FIRED_BY_INSERT(event)) ||
		!(TRIGGER_FIRED_FOR_ROW(event) ||
		  (!before && table == TABLE_KEY && TRIGGER_FIRED_BY_TRUNCATE(event))))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function serves only the triggers of extension \"apikeys\"")));
	return trigger;
}

/* The row as it will be. */
HeapTuple
apikey_new_row(TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
}

Datum
apikey_get(TriggerData *trigger, HeapTuple row, AttrNumber attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;
	Datum		value = heap_getattr(row, attnum, desc, &isnull);

	/* Constraints refuse it too, but not before this trigger has run. */
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("column \"%s\" of table \"%s\" must not be null",
						NameStr(TupleDescAttr(desc, attnum - 1)->attname),
						RelationGetRelationName(trigger->tg_relation))));
	return value;
}

/* Does the update change this column? */
bool
apikey_changes(TriggerData *trigger, AttrNumber attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attr = TupleDescAttr(desc, attnum - 1);
	bool		was_null;
	bool		is_null;
	Datum		old;
	Datum		new;

	old = heap_getattr(trigger->tg_trigtuple, attnum, desc, &was_null);
	new = heap_getattr(trigger->tg_newtuple, attnum, desc, &is_null);
	if (was_null || is_null)
		return was_null != is_null;
	return !datum_image_eq(old, new, attr->attbyval, attr->attlen);
}

/* Is whoever runs the statement subject to row-level security? */
bool
apikey_is_subject_to_rls(TriggerData *trigger)
{
	return check_enable_rls(RelationGetRelid(trigger->tg_relation), InvalidOid,
							true) == RLS_ENABLED;
}

/*
 * Under session_replication_role = replica rows may come in any order, so what
 * is not there cannot be judged; elsewhere foreign keys see to it.
 */
bool
apikey_is_replica(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * What a subscription brings was judged at the publisher, when it was made
 * there.  Here the tables may be at different points of its history, so that
 * the rules cannot be asked again: a refusal would be repeated for ever.
 */
bool
apikey_is_subscription(void)
{
	return IsLogicalWorker();
}

/* Will the changes that foreign keys make in a table arrive by themselves? */
bool
apikey_is_subscribed(ApikeyTable table)
{
	CatCList   *subscriptions;
	bool		found;

	if (!apikey_is_subscription())
		return false;
	subscriptions =
		SearchSysCacheList1(SUBSCRIPTIONRELMAP,
							ObjectIdGetDatum(apikey_catalog()->tables[table]));
	found = subscriptions->n_members > 0;
	ReleaseCatCacheList(subscriptions);
	return found;
}
