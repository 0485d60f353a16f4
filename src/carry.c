/*
 * carry.c
 *		Doing what foreign keys would do, where they do not act.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "utils/rel.h"

#include "apikeys.h"
#include "tables.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(apikey_carry_along);

static void
carry_org_along(TriggerData *trigger)
{
	bool		members = !apikey_is_subscribed(TABLE_MEMBER);
	bool		legacy = !apikey_is_subscribed(TABLE_LEGACY);
	Datum		args[2] = {
		apikey_get(trigger, trigger->tg_trigtuple, Anum_org_org_id)
	};

	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		if (members)
			apikey_run(STATEMENT_DELETE_MEMBERS_OF, args, NULL);
		if (legacy)
			apikey_run(STATEMENT_DELETE_LEGACY, args, NULL);
	}
	else if (apikey_changes(trigger, Anum_org_org_id))
	{
		args[1] = apikey_get(trigger, trigger->tg_newtuple, Anum_org_org_id);
		if (members)
			apikey_run(STATEMENT_MOVE_MEMBERS, args, NULL);
		if (legacy)
			apikey_run(STATEMENT_MOVE_LEGACY, args, NULL);
	}
}

static void
carry_member_along(TriggerData *trigger)
{
	HeapTuple	new = trigger->tg_newtuple;
	Datum		args[4] = {
		apikey_get(trigger, trigger->tg_trigtuple, Anum_member_org_id),
		apikey_get(trigger, trigger->tg_trigtuple, Anum_member_user_id)
	};

	if (apikey_is_subscribed(TABLE_KEY))
		return;
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		apikey_run(STATEMENT_DELETE_KEYS_OF, args, NULL);
	else if (apikey_changes(trigger, Anum_member_org_id) ||
			 apikey_changes(trigger, Anum_member_user_id))
	{
		args[2] = apikey_get(trigger, new, Anum_member_org_id);
		args[3] = apikey_get(trigger, new, Anum_member_user_id);
		apikey_run(STATEMENT_MOVE_KEYS, args, NULL);
	}
}

/*
 * apikey_carry_along(): AFTER UPDATE OR DELETE, under
 * session_replication_role = replica only
 *
 * Foreign keys do not act there; no key may outlive its owner all the same.
 * Where a subscription brings what they did at the publisher, that is left to
 * it: it may be ahead, with keys of a member who was added again.
 */
Datum
apikey_carry_along(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = apikey_trigger_data(fcinfo, false,
											   TABLE_ORG, TABLE_MEMBER);

	if (RelationGetRelid(trigger->tg_relation) ==
		apikey_catalog()->tables[TABLE_ORG])
		carry_org_along(trigger);
	else
		carry_member_along(trigger);
	PG_RETURN_POINTER(NULL);
}
